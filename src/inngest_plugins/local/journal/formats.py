"""Documents in the file of a journal, and the migration of files of an older format."""

from __future__ import annotations

import json
import sqlite3

from .records import Json

_MOVED = ("stack", "events_sent", "sent_at", "metadata", "metadata_bytes")


def upgrade_from_1(connection: sqlite3.Connection) -> None:
    """Take what grows with a run out of its own document, which format 1 had it in.

    Events need nothing: format 1 noted the sender of each, too.

    Args:
        connection: Of the journal, in a transaction.
    """
    steps = _documents(connection, "step")
    for run_id, run in _documents(connection, "run").items():
        stack, _, _, metadata, metadata_bytes = (run.pop(name) for name in _MOVED)
        write(connection, "run", run_id, run)
        for position, hashed_id in enumerate(stack):
            key = f"{run_id}/{hashed_id}"
            write(connection, "step", key, {**steps[key], "position": position})
        for target, kinds in metadata.items():
            document = {"kinds": kinds, "bytes": metadata_bytes}
            write(connection, "metadata", f"{run_id}/{target}", document)


def write(connection: sqlite3.Connection, kind: str, key: str, document: Json) -> None:
    """Write a document over an older one."""
    connection.execute(
        "INSERT INTO documents VALUES (?, ?, ?)"
        " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
        (kind, key, json.dumps(document, separators=(",", ":"))),
    )


def _documents(connection: sqlite3.Connection, kind: str) -> dict[str, dict[str, Json]]:
    rows = connection.execute("SELECT key, body FROM documents WHERE kind = ?", (kind,))
    return {key: json.loads(body) for key, body in rows}
