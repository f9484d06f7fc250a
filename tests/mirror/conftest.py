"""Apps with a mirror on the embedded engine, on SQLite and on a PostgreSQL server of their own."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
import tests.app

from inngest_plugins.core import StackEntry
from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore
from inngest_plugins.mirror.store.tables import attempts, runs, steps

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Server:
    """A PostgreSQL server that the tests started."""

    port: int
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def new_database(self) -> str:
        """Make an empty database; returns its URL, without a driver."""
        name = f"mirror_{os.getpid()}_{next(self.numbers)}"
        engine = sa.create_engine(
            f"postgresql+psycopg://mirror@127.0.0.1:{self.port}/postgres",
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return f"postgresql://mirror@127.0.0.1:{self.port}/{name}"


def _binaries() -> pathlib.Path | None:
    found = shutil.which("initdb")
    folders = [pathlib.Path(found).parent] if found else []
    folders += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of the session's own, with nothing of it on the disk afterwards."""
    binaries = _binaries()
    if binaries is None:
        reason = "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # pytest's own folder is closed to other users, with each session anew.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mirror-postgres-"))
    options: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL}
    if os.getuid() == 0:
        # The server refuses to run as root.
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "mirror",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ],
        check=True,
        **options,
    )
    settings = (
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=50"
    )
    control = [str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", settings, "start"], check=True, **options)
    try:
        yield Server(port)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **options)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg"])
def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[SQLAlchemyStore]:
    """A store with tables, once for each driver."""
    if request.param == "sqlite":
        made = SQLAlchemyStore(f"sqlite:///{tmp_path / 'mirror.db'}")
    else:
        server: Server = request.getfixturevalue("postgres")
        made = SQLAlchemyStore(server.new_database().replace("postgresql", request.param))
    made.upgrade_sync()
    yield made
    made.close_sync()


@pytest.fixture
def sqlite_store(tmp_path: pathlib.Path) -> Iterator[SQLAlchemyStore]:
    """A store in a file, whose tables are made with the first use."""
    made = SQLAlchemyStore(f"sqlite:///{tmp_path / 'mirror.db'}")
    yield made
    made.close_sync()


async def rows_of(store: SQLAlchemyStore, table: sa.Table) -> list[Row]:
    """All rows of a table."""

    async def read() -> list[Row]:
        async with store.begin(writes=False) as connection:
            found = await connection.execute(sa.select(table))
            return [dict(row) for row in found.mappings()]

    return await store.ask(read)


async def run_row(store: SQLAlchemyStore, run_id: str) -> Row:
    """The row of a run."""
    (row,) = [row for row in await rows_of(store, runs) if row["run_id"] == run_id]
    return row


async def step_rows(store: SQLAlchemyStore, run_id: str) -> dict[str, Row]:
    """The rows of a run's steps, by the ids that the user gave."""
    found = [row for row in await rows_of(store, steps) if row["run_id"] == run_id]
    return {row["step_id"]: row for row in found}


async def attempt_rows(store: SQLAlchemyStore, run_id: str) -> list[Row]:
    """The rows of a run's attempts, in order."""
    found = [row for row in await rows_of(store, attempts) if row["run_id"] == run_id]
    return sorted(found, key=lambda row: (row["hashed_id"], row["attempt"]))


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until something is so, as far as a laden machine needs."""
    deadline = time.monotonic() + 200
    while not await condition():
        assert time.monotonic() < deadline, f"never: {what}"
        await anyio.sleep(0.02)


class App(tests.app.App):
    """An app with a mirror."""

    def __init__(self, store: SQLAlchemyStore, *plugins: StackEntry, **options: Any) -> None:
        # A laden machine may need longer than the default for a write: no test is about that.
        options.setdefault("timeout", 30.0)
        self.store = store
        self.plugin = MirrorPlugin(store, **options)
        super().__init__(self.plugin, *plugins)


@pytest.fixture
def make_app() -> type[App]:
    """Apps with other stores and options."""
    return App
