"""What is written beside the answers: while a request runs, and after the database was away."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Sequence
from typing import Any

import inngest
import pytest
import sqlalchemy as sa

from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore, log
from inngest_plugins.mirror._writer import ReportWriter
from inngest_plugins.mirror.store.rows import Report, RunFacts
from inngest_plugins.mirror.store.tables import logs, runs

from .conftest import App, Server, attempt_rows, rows_of, step_rows, until

pytestmark = pytest.mark.anyio


class CountingStore(SQLAlchemyStore):
    """A store that counts what is written to it."""

    writes = 0

    async def write_all(self, reports: Sequence[Report], *, timeout: float | None = None) -> None:
        self.writes += 1
        await super().write_all(reports, timeout=timeout)


class SlowStore(CountingStore):
    """A store whose next writes take too long."""

    slow = 0

    async def write_all(self, reports: Sequence[Report], *, timeout: float | None = None) -> None:
        if self.slow:
            self.slow -= 1
            raise TimeoutError
        await super().write_all(reports, timeout=timeout)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_long_step_is_there_while_it_runs(
    store: SQLAlchemyStore, make_app: type[App], is_async: bool
) -> None:
    """The run and the step are "Running" before anything was answered, with the log so far."""
    app = make_app(store, tenant=lambda call: call.event.data["tenant"])
    may_end = threading.Event()
    seen: list[Any] = []

    def work() -> int:
        log("begun")
        assert may_end.wait(200)
        return 7

    async def work_async() -> int:
        log("begun")
        await until(lambda: is_shown(), "the step is shown")
        return 7

    async def is_shown() -> bool:
        found = [row for row in await rows_of(store, runs) if row["tenant"] == "acme"]
        if not found:
            return False
        step = (await step_rows(store, found[0]["run_id"]))["work"]
        seen.append((found[0]["status"], step["status"], step["attempts"], step["started_at"]))
        return len(await rows_of(store, logs)) == 1

    if is_async:

        @app.function()
        async def fn(ctx: inngest.Context) -> int:
            return await ctx.step.run("work", work_async)

        run = await app.run(tenant="acme")
    else:

        @app.function()
        def fn_sync(ctx: inngest.ContextSync) -> int:
            return ctx.step.run("work", work)

        async with app.engine() as engine:
            await engine.send(inngest.Event(name="fn", data={"tenant": "acme"}))
            await until(is_shown, "the step is shown")
            may_end.set()
            await engine.settle()
            (run,) = engine.runs
    assert run.status == "Completed"
    status, step_status, attempts, started_at = seen[-1]
    assert (status, step_status, attempts) == ("Running", "Running", 1)
    row = (await step_rows(store, run.id))["work"]
    assert (row["status"], row["attempts"], row["started_at"]) == ("Completed", 1, started_at)
    assert len(await attempt_rows(store, run.id)) == 1


async def test_a_short_request_is_written_once(tmp_path: Any, make_app: type[App]) -> None:
    """What takes no longer than half a second costs no second write."""
    store = CountingStore(f"sqlite:///{tmp_path / 'mirror.db'}")
    app = make_app(store)

    async def seven() -> int:
        return 7

    @app.function()
    async def fn(ctx: inngest.Context) -> int:
        return await ctx.step.run("seven", seven)

    run = await app.run()
    assert store.writes == len(run.requests) == 2
    await store.close()


def report_of(number: int) -> Report:
    """A report of a run of its own."""
    now = dt.datetime.now(dt.timezone.utc)
    return Report(RunFacts(f"run-{number}", "app", "fn", None, "Completed", 0, seen_at=now))


async def test_the_oldest_report_goes_when_too_many_are_kept(postgres: Server) -> None:
    """What is kept is bounded, and written when the database has its tables."""
    store = SQLAlchemyStore(postgres.new_database())
    writer = ReportWriter(store, 30.0, limit=3)
    await writer.write(report_of(0))
    for number in range(1, 6):
        writer.write_sync(report_of(number))
    await store.upgrade()

    async def are_written() -> bool:
        return len(await rows_of(store, runs)) == 3

    await until(are_written, "the reports that were kept are written")
    kept = {row["run_id"] for row in await rows_of(store, runs)}
    assert kept == {"run-3", "run-4", "run-5"}
    await store.close()


async def test_what_was_kept_is_written_in_few_transactions(postgres: Server) -> None:
    """A database that is slow, and not away, catches up with more than it could take one by one."""
    store = CountingStore(postgres.new_database())
    writer = ReportWriter(store, 30.0, limit=1000)
    for number in range(100):
        await writer.write(report_of(number))
    await store.upgrade()
    store.writes = 0

    async def are_written() -> bool:
        return len(await rows_of(store, runs)) == 100

    await until(are_written, "the reports that were kept are written")
    # The first may still have met a database without tables.
    assert store.writes <= 6
    await store.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_database_that_was_slow_for_a_moment(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The report is written at once, and not later, or never: the process may be killed."""
    monkeypatch.setattr("inngest_plugins.mirror._writer._AGAIN_SECONDS", 1000)
    store = SlowStore(f"sqlite:///{tmp_path / 'mirror.db'}")
    await store.upgrade()
    store.slow = times
    writer = ReportWriter(store, 30.0, limit=1000)
    await writer.write(report_of(0))

    async def is_written() -> bool:
        return len(await rows_of(store, runs)) == 1

    await until(is_written, "the report that was kept is written")
    await store.close()


async def test_a_database_that_is_slow_now_and_then_is_logged_once(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And not for each report that took too long, under a load that lasts."""
    store = SlowStore(f"sqlite:///{tmp_path / 'mirror.db'}")
    await store.upgrade()
    writer = ReportWriter(store, 30.0, limit=1000)
    for number in range(3):
        store.slow = 1
        await writer.write(report_of(number))

        async def is_written(number: int = number) -> bool:
            return len(await rows_of(store, runs)) == number + 1

        await until(is_written, "the report that was kept is written")
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    await store.close()


async def test_a_report_that_the_database_refuses_holds_up_nothing(postgres: Server) -> None:
    """It is given up; those behind it are written."""
    store = SQLAlchemyStore(postgres.new_database())
    writer = ReportWriter(store, 30.0, limit=1000)
    broken = report_of(1)
    await writer.write(
        dataclasses.replace(broken, run=dataclasses.replace(broken.run, attempt=2**40))
    )
    await writer.write(report_of(2))
    await store.upgrade()

    async def is_written() -> bool:
        return [row["run_id"] for row in await rows_of(store, runs)] == ["run-2"]

    await until(is_written, "the second report is written")
    await writer.write(report_of(3))
    assert len(await rows_of(store, runs)) == 2
    await store.close()


async def test_a_report_that_was_kept_is_older_than_the_row(store: SQLAlchemyStore) -> None:
    """It takes nothing back of what a later request wrote."""
    now = dt.datetime.now(dt.timezone.utc)
    late = RunFacts("1", "app", "fn", None, "Running", attempt=2, seen_at=now, tenant="acme")
    early = dataclasses.replace(
        late, attempt=1, seen_at=now - dt.timedelta(minutes=1), event_name="go"
    )
    for facts in (late, early):
        await store.write(Report(facts))
    (row,) = await rows_of(store, runs)
    assert (row["attempt"], row["seen_at"], row["event_name"]) == (2, now, "go")


async def test_two_mirrors_in_a_stack(
    sqlite_store: SQLAlchemyStore, tmp_path: Any, make_app: type[App]
) -> None:
    """Each writes to its own database, and asks its own callables; a log line goes to both."""
    other = SQLAlchemyStore(f"sqlite:///{tmp_path / 'other.db'}")
    second = MirrorPlugin(other, tenant=lambda call: "second", timeout=30)
    app = make_app(sqlite_store, second, tenant=lambda call: "first")
    tries: list[int] = []

    async def work() -> None:
        log("working")
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("work", work)

    run = await app.run()
    for store, tenant in ((sqlite_store, "first"), (other, "second")):
        (row,) = await rows_of(store, runs)
        assert (row["tenant"], row["status"]) == (tenant, "Completed")
        assert [a["status"] for a in await attempt_rows(store, run.id)] == ["Failed", "Completed"]
        assert len(await rows_of(store, logs)) == 2
    await other.close()


async def test_a_plugin_of_the_users_own(sqlite_store: SQLAlchemyStore) -> None:
    """A subclass adds hooks of its own, and mirrors as before."""
    seen: list[str] = []

    class Noting(MirrorPlugin):
        def step_reached(self, call: Any, step: Any) -> None:
            seen.append(step.id)
            super().step_reached(call, step)

    app = App(sqlite_store)
    app.client = inngest.Inngest(
        app_id="app", is_production=False, middleware=[Noting(sqlite_store, timeout=30)]
    )

    async def seven() -> int:
        return 7

    @app.function()
    async def fn(ctx: inngest.Context) -> int:
        return await ctx.step.run("seven", seven)

    run = await app.run()
    assert seen == ["seven", "seven"]
    assert (await step_rows(sqlite_store, run.id))["seven"]["status"] == "Completed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE inngest_steps DROP COLUMN output_bytes", "a column is missing: run `inngest"),
        ("DROP TABLE inngest_attempts", "it has no tables: run `inngest"),
    ],
)
async def test_tables_of_an_older_release(
    postgres: Server,
    make_app: type[App],
    caplog: pytest.LogCaptureFixture,
    change: str,
    said: str,
) -> None:
    """The warning says which command brings them up to date; the run is as ever."""
    store = SQLAlchemyStore(postgres.new_database())
    await store.upgrade()
    await execute(store, change)
    app = make_app(store)

    async def seven() -> int:
        return 7

    @app.function()
    async def fn(ctx: inngest.Context) -> int:
        return await ctx.step.run("seven", seven)

    assert (await app.run()).status == "Completed"
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert said in warning
    await store.close()


async def execute(store: SQLAlchemyStore, statement: str) -> None:
    """Execute a statement of SQL."""

    async def change() -> None:
        async with store.begin() as connection:
            await connection.execute(sa.text(statement))

    await store.ask(change)
