"""The journal: where the engine keeps the state that must not be lost.

The engine writes small documents, each under a kind and a key, and commits them together after
every transition of a run. What one commit holds happened entirely or not at all, so a process
that is killed at any moment finds the last complete transition when it starts again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import typing
from collections.abc import Iterator
from pathlib import Path

from inngest_plugins.local._errors import JournalError

from .formats import upgrade_from_1, write
from .records import Json

_APPLICATION_ID = 0x696E6770  # "ingp"
_VERSION = 2

JOURNAL_FAILURES = (sqlite3.Error, OSError)
"""What a file that cannot be written raises. The engine stops then: nothing else would be kept."""


class Journal(typing.Protocol):
    """The interface of a journal."""

    @property
    def is_durable(self) -> bool:
        """Whether documents are worth encoding at all."""
        ...

    def put(self, kind: str, key: str, document: Json) -> None:
        """Write a document in the current transaction, over an older one."""
        ...

    def delete(self, kind: str, key: str) -> None:
        """Remove a document in the current transaction."""
        ...

    def commit(self) -> None:
        """Make everything since the last commit permanent, together."""
        ...

    def load(self, kind: str) -> Iterator[tuple[str, Json]]:
        """Every document of a kind with its key, oldest first."""
        ...

    def close(self) -> None:
        """Give the file back. What was not committed is gone."""
        ...


class MemoryJournal:
    """No journal: runs live as long as the engine."""

    is_durable = False

    def put(self, kind: str, key: str, document: Json) -> None:
        """Forget it."""

    def delete(self, kind: str, key: str) -> None:
        """Nothing to remove."""

    def commit(self) -> None:
        """Nothing to commit."""

    def load(self, kind: str) -> Iterator[tuple[str, Json]]:
        """Nothing was kept."""
        return iter(())

    def close(self) -> None:
        """Nothing to close."""


class SqliteJournal:
    """One SQLite file in WAL mode.

    ``synchronous=NORMAL``: a killed process loses nothing that was committed; a power cut can lose
    the last commits, never the file's integrity. It holds payloads, so a new file can be read and
    written by its owner only, and so can the ones that SQLite keeps next to it (``-wal``). The file
    is locked for as long as it is open: two
    engines on one journal would run every step twice.

    Args:
        path: The file; it is created when missing, its folder is not.

    Raises:
        JournalError: Another engine has it open, or it is not a journal of this engine.
    """

    is_durable = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            _create_private(self._path)
            self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        except JOURNAL_FAILURES as error:
            raise JournalError(f"journal {self._path}: cannot be opened: {error}") from error
        try:
            self._open()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._explain(error) from error
        except JournalError:
            self._connection.close()
            raise
        self._in_transaction = False

    def _open(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")
        execute("BEGIN EXCLUSIVE")
        (application_id,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application_id != _APPLICATION_ID:
            raise JournalError(f"journal {self._path}: is a database of another program")
        if tables and version == 1:
            upgrade_from_1(self._connection)
            execute(f"PRAGMA user_version={_VERSION}")
        elif tables and version != _VERSION:
            raise JournalError(
                f"journal {self._path}: has format {version}, this release reads {_VERSION}"
            )
        if not tables:
            execute(f"PRAGMA application_id={_APPLICATION_ID}")
            execute(f"PRAGMA user_version={_VERSION}")
            execute(
                "CREATE TABLE documents (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,"
                " PRIMARY KEY (kind, key))"
            )
        execute("COMMIT")
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        # Taking the lock once in WAL mode keeps it until the connection closes.
        execute("BEGIN IMMEDIATE")
        execute("COMMIT")

    def _explain(self, error: sqlite3.Error) -> JournalError:
        if "locked" in str(error):
            return JournalError(
                f"journal {self._path}: another engine has it open; stop that one first, or use "
                "another file"
            )
        return JournalError(f"journal {self._path}: {error}")

    def put(self, kind: str, key: str, document: Json) -> None:
        """Write a document in the current transaction, over an older one."""
        self._begin()
        write(self._connection, kind, key, document)

    def delete(self, kind: str, key: str) -> None:
        """Remove a document in the current transaction."""
        self._begin()
        self._connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))

    def _begin(self) -> None:
        if not self._in_transaction:
            self._connection.execute("BEGIN")
            self._in_transaction = True

    def commit(self) -> None:
        """Make everything since the last commit permanent, together."""
        if self._in_transaction:
            self._connection.execute("COMMIT")
            self._in_transaction = False

    def load(self, kind: str) -> Iterator[tuple[str, Json]]:
        """Every document of a kind with its key, oldest first."""
        rows = self._connection.execute(
            "SELECT key, body FROM documents WHERE kind = ? ORDER BY rowid", (kind,)
        )
        for key, body in rows.fetchall():
            yield key, json.loads(body)

    def close(self) -> None:
        """Give the file back. What was not committed is gone."""
        if self._in_transaction:
            self._connection.execute("ROLLBACK")
            self._in_transaction = False
        self._connection.close()


def _create_private(path: Path) -> None:
    """Create a file that only its owner can read; leave one that is there as it is.

    SQLite gives the files next to it the same permissions.
    """
    if str(path) == ":memory:":
        return
    # Not opened when it is there: closing it again would drop the lock of an engine in this
    # process (POSIX locks belong to the process).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def open_journal(journal: str | os.PathLike[str] | None) -> Journal:
    """The journal for `LocalEngine`'s argument: a path, or None for memory only."""
    return MemoryJournal() if journal is None else SqliteJournal(journal)
