"""One store in forked processes and many threads, and databases that are not as they should be."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import pathlib
import subprocess
import sys
import threading
from typing import Any

import inngest
import pytest

from inngest_plugins.cli import main
from inngest_plugins.mirror import MirrorDatabaseError, SQLAlchemyStore, log
from inngest_plugins.mirror.store.rows import Report, RunFacts
from inngest_plugins.mirror.store.tables import logs, runs

from .conftest import App, Server, rows_of, until
from .test_mirror_meanwhile import execute
from .test_mirror_unharmed import warnings_in

WORKLOAD = pathlib.Path(__file__).with_name("fork_workload.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_stores_that_were_made_before_a_fork(postgres: Server, tmp_path: pathlib.Path) -> None:
    """Parent and workers write; nobody uses or closes the connections of another process."""
    urls = [
        f"sqlite:///{tmp_path / 'mirror.db'}",
        postgres.new_database().replace("postgresql", "postgresql+asyncpg"),
        postgres.new_database().replace("postgresql", "postgresql+psycopg"),
    ]
    stores = [SQLAlchemyStore(url) for url in urls]
    for store in stores:
        store.upgrade_sync()
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(WORKLOAD), *urls],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for store in stores:
        found = asyncio.run(rows_of(store, runs))
        assert [row["status"] for row in found] == ["Completed"] * 5
        store.close_sync()


@pytest.mark.anyio
async def test_threads(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Sync functions run in threads of their own, and log from generators and from threads."""
    app = make_app(store)

    def numbers() -> Any:
        for n in range(3):
            log(f"number {n}")
            yield n

    @app.function("sync")
    def fn(ctx: inngest.ContextSync) -> Any:
        return ctx.step.run("sum", lambda: sum(numbers()))

    async def in_a_thread() -> int:
        return await asyncio.to_thread(lambda: sum(numbers()))

    @app.function("async")
    async def fn_async(ctx: inngest.Context) -> int:
        return await ctx.step.run("sum", in_a_thread)

    async with app.engine() as engine:
        names = ["sync", "async"] * 10
        await engine.send([inngest.Event(name=name) for name in names])
        await engine.settle()
        assert {run.output for run in engine.runs} == {3}
    assert [row["status"] for row in await rows_of(store, runs)] == ["Completed"] * 20
    assert len(await rows_of(store, logs)) == 60


def test_writers_in_threads_without_a_loop(sqlite_store: SQLAlchemyStore) -> None:
    """A store belongs to no thread and no loop."""

    def write(number: int) -> None:
        now = dt.datetime.now(dt.timezone.utc)
        facts = RunFacts(f"{number}", "app", "fn", None, "Running", 0, seen_at=now)
        sqlite_store.write_sync(Report(facts), timeout=200)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asyncio.run(rows_of(sqlite_store, runs))) == 8


def test_tables_of_a_later_release(
    sqlite_store: SQLAlchemyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says what to install; nothing is changed."""
    sqlite_store.upgrade_sync()
    asyncio.run(execute(sqlite_store, "UPDATE inngest_mirror_version SET version_num = '9999'"))
    sqlite_store.close_sync()
    with pytest.raises(MirrorDatabaseError, match="are of a later release of inngest-plugins"):
        asyncio.run(sqlite_store.check())
    assert main(["mirror", "upgrade", "--url", sqlite_store.label]) == 2
    assert "pip install --upgrade inngest-plugins" in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_database_that_is_not_there_at_start(
    tmp_path: pathlib.Path, make_app: type[App], caplog: pytest.LogCaptureFixture
) -> None:
    """The app starts and runs; the mirror follows when the database is there."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'later' / 'mirror.db'}")
    app = make_app(store)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        return None

    assert [(await app.run()).status for _ in range(3)] == ["Completed"] * 3
    (tmp_path / "later").mkdir()

    async def are_there() -> bool:
        return len(await rows_of(store, runs)) == 3

    await until(are_there, "the runs are mirrored")
    assert len(warnings_in(caplog)) == 1
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_slow_database(
    sqlite_store: SQLAlchemyStore,
    make_app: type[App],
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
) -> None:
    """A request waits for 250 ms at most, that is logged once, and all is written later."""
    await sqlite_store.upgrade()
    app = make_app(sqlite_store, timeout=0.25)
    may_go, holds = threading.Event(), threading.Event()

    async def hold() -> None:
        async with sqlite_store.begin():
            holds.set()
            while not may_go.is_set():
                await asyncio.sleep(0.01)

    if is_async:

        @app.function()
        async def fn(ctx: inngest.Context) -> None:
            return None
    else:

        @app.function()
        def fn_sync(ctx: inngest.ContextSync) -> None:
            return None

    holding = asyncio.ensure_future(sqlite_store.ask(hold))
    await asyncio.to_thread(holds.wait, 60)
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="fn"))
        await engine.run(inngest.Event(name="fn"))
    may_go.set()
    await holding
    (request,) = run.requests
    assert request.ended_at is not None
    assert request.ended_at - request.started_at >= 0.25

    async def are_there() -> bool:
        return len(await rows_of(sqlite_store, runs)) == 2

    await until(are_there, "the runs are mirrored")
    (warning,) = warnings_in(caplog)
    assert "did not answer in time" in warning
