"""What no request can tell is asked of the engine: cancelled, timed out, lost, never written."""

from __future__ import annotations

import datetime as dt
import sys
import types
from typing import Any

import anyio.to_thread
import inngest
import pytest
import sqlalchemy as sa

from inngest_plugins.cli import main
from inngest_plugins.core import EngineApiError, PluginsError
from inngest_plugins.local import LocalEngine
from inngest_plugins.mirror import MirrorError, Scope, SQLAlchemyStore
from inngest_plugins.mirror.store.tables import runs

from .conftest import App, rows_of, run_row, step_rows

pytestmark = pytest.mark.anyio
EVERYTHING = Scope.of_everything()


def add_functions(app: App) -> None:
    """One that ends at once, one that waits for an event, one that fails."""

    async def seven() -> int:
        return 7

    @app.function()
    async def short(ctx: inngest.Context) -> int:
        return await ctx.step.run("seven", seven)

    @app.function("long")
    async def long(ctx: inngest.Context) -> None:
        await ctx.step.run("seven", seven)
        await ctx.step.wait_for_event("answer", event="never", timeout=dt.timedelta(days=30))

    @app.function("bad", retries=0)
    async def bad(ctx: inngest.Context) -> None:
        raise ValueError("no")


async def forget(store: SQLAlchemyStore, run_id: str, **values: Any) -> None:
    """Give a run's row other values, as if writes had been lost."""

    async def change() -> None:
        async with store.begin() as connection:
            await connection.execute(
                sa.update(runs).where(runs.c.run_id == run_id).values(**values)
            )

    await store.ask(change)


async def test_cancelled_runs(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """A cancelled run stays "Running" for its requests; the engine knows better, and it stands."""
    app = make_app(store)
    add_functions(app)
    async with app.engine() as engine:
        await engine.send(inngest.Event(name="long"))
        await engine.idle()
        (run,) = engine.runs
        assert (await run_row(store, run.id))["status"] == "Running"
        assert (await step_rows(store, run.id))["answer"]["status"] == "Waiting"
        await engine.cancel(run)
        found = await store.reconcile(app.client)
        assert (found.compared, found.corrected, found.lost) == (1, 1, 0)
        row = await run_row(store, run.id)
        assert row["status"] == "Cancelled"
        assert row["ended_at"] is not None
        assert row["confirmed_at"] is not None
        again = await store.reconcile(app.client, since=dt.timedelta.max)
        assert (again.compared, again.corrected, again.lost) == (1, 0, 0)


async def test_lost_writes_are_made_good(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Runs of which nothing was written are there afterwards, with their steps."""
    app = make_app(store)
    silent = make_app(SQLAlchemyStore("postgresql+asyncpg://nobody@127.0.0.1:1/none"))
    add_functions(silent)
    async with silent.engine() as engine:
        for name in ("fn", "bad", "long"):
            await engine.send(inngest.Event(name=name))
        await engine.idle()
        assert await rows_of(store, runs) == []
        found = await store.reconcile(silent.client)
        assert (found.compared, found.corrected, found.lost) == (3, 3, 0)
        page = await store.runs(EVERYTHING)
        assert {run.function_id: run.status for run in page.runs} == {
            "fn": "Completed",
            "bad": "Failed",
            "long": "Running",
        }
        for run in engine.runs:
            steps = await step_rows(store, run.id)
            assert set(steps) == set(run.steps)
            ops = {each: row["op"] for each, row in steps.items()}
            assert ops == {each: step.op for each, step in run.steps.items()}
    await silent.store.close()
    await app.store.close()


async def test_runs_that_the_engine_does_not_know_are_lost(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """Lost is a status of its own, no failure; a run that was just seen is given time."""
    app = make_app(sqlite_store)
    add_functions(app)
    async with app.engine() as engine:
        await engine.send(inngest.Event(name="long"))
        await engine.idle()
        run_id = engine.runs[0].id
    # Another engine, that has no memory of it.
    async with app.engine():
        found = await sqlite_store.reconcile(app.client)
        assert found.lost == 0
        found = await sqlite_store.reconcile(app.client, lost_after=dt.timedelta(0))
        assert found.lost == 1
    assert (await run_row(sqlite_store, run_id))["status"] == "Lost"


async def test_an_answer_that_was_lost(sqlite_store: SQLAlchemyStore, make_app: type[App]) -> None:
    """A run written as completed whose answer never reached the engine goes on: that is shown."""
    app = make_app(sqlite_store)
    add_functions(app)
    async with app.engine() as engine:
        await engine.send(inngest.Event(name="long"))
        await engine.idle()
        run_id = engine.runs[0].id
        ended = dt.datetime.now(dt.timezone.utc)
        await forget(sqlite_store, run_id, status="Completed", ended_at=ended)
        await sqlite_store.reconcile(app.client)
        row = await run_row(sqlite_store, run_id)
        assert (row["status"], row["ended_at"]) == ("Running", None)
        # But not when the run ended after the engine had been asked.
        later = ended + dt.timedelta(hours=1)
        await forget(sqlite_store, run_id, status="Completed", ended_at=later, seen_at=later)
        await sqlite_store.reconcile(app.client)
        assert (await run_row(sqlite_store, run_id))["status"] == "Completed"


async def test_old_and_foreign_runs_are_left_alone(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """`since` bounds what is compared, but for runs that are open."""
    app = make_app(sqlite_store)
    add_functions(app)
    async with app.engine() as engine:
        for name in ("fn", "long"):
            await engine.send(inngest.Event(name=name))
        await engine.idle()
        found = await sqlite_store.reconcile(app.client, since=dt.timedelta(days=-1))
        assert found.compared == 1
        open_run = next(run for run in engine.runs if run.function_id == "app-long")
        await forget(sqlite_store, open_run.id, app_id="another")
        found = await sqlite_store.reconcile(app.client, since=dt.timedelta(days=-1))
        assert found.compared == 0


async def test_an_engine_that_is_down_changes_nothing(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """Nothing counts as lost because nobody answered."""
    app = make_app(sqlite_store)
    add_functions(app)
    async with app.engine() as engine:
        await engine.send(inngest.Event(name="long"))
        await engine.idle()
        run_id = engine.runs[0].id
    nowhere = inngest.Inngest(app_id="app", is_production=False, api_base_url="http://127.0.0.1:1")
    with pytest.raises(EngineApiError):
        await sqlite_store.reconcile(nowhere, lost_after=dt.timedelta(0))
    assert (await run_row(sqlite_store, run_id))["status"] == "Running"


async def test_pages_of_the_engines_list(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """More runs than one page of the engine holds."""
    app = make_app(sqlite_store)
    nowhere = SQLAlchemyStore("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    silent = make_app(nowhere, timeout=0.5)

    @silent.function()
    async def fn(ctx: inngest.Context) -> None:
        return None

    async with silent.engine() as engine:
        await engine.send([inngest.Event(name="fn") for _ in range(130)])
        await engine.settle()
        found = await app.store.reconcile(silent.client)
        assert (found.compared, found.corrected) == (130, 130)
    await silent.store.close()
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await sqlite_store.runs(EVERYTHING, after=after, limit=50)
        seen += [run.run_id for run in page.runs]
        after = page.next
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 130
    assert seen == sorted(seen, reverse=True)


async def test_the_commands(
    sqlite_store: SQLAlchemyStore,
    make_app: type[App],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`mirror upgrade` makes the tables twice, `mirror reconcile` finds the app's own store."""
    app = make_app(sqlite_store)
    add_functions(app)
    module = types.ModuleType("mirrored_app")
    vars(module).update(client=app.client, functions=app.functions)
    monkeypatch.setitem(sys.modules, "mirrored_app", module)
    url = sqlite_store.label
    for _ in range(2):
        assert await anyio.to_thread.run_sync(main, ["mirror", "upgrade", "--url", url]) == 0
    async with app.engine() as engine:
        await engine.send(inngest.Event(name="long"))
        await engine.idle()
        await engine.cancel(engine.runs[0])
        arguments = ["mirror", "reconcile", "mirrored_app:client", "--hours", "1e300"]
        assert await anyio.to_thread.run_sync(main, arguments) == 0
    assert "1 compared, 1 corrected, 0 lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upgrade"], "name the database"),
        (["upgrade", "--url", "mysql://a@b/c"], "'mysql' is not supported"),
        (["upgrade", "--url", "sqlite:////no/folder/x.db"], "unable to open database file"),
        (["upgrade", "--url", "postgresql://a:secret@127.0.0.1:1/c"], "a:***@127.0.0.1:1"),
    ],
)
def test_commands_that_cannot_work(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says why, without the password."""
    assert main(["mirror", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "secret" not in told


@pytest.mark.parametrize("tenant", [None, "", 7])
def test_a_scope_of_nobody_is_refused(tenant: Any) -> None:
    """A tenant that could not be told shows nothing, and not everything."""
    with pytest.raises(MirrorError, match="nothing is shown"):
        Scope(tenant)


async def test_what_is_no_scope_shows_nothing(sqlite_store: SQLAlchemyStore) -> None:
    """A forgotten scope is an error."""
    wrong: Any = None
    for asked in (sqlite_store.runs(wrong), sqlite_store.run("1", wrong)):
        with pytest.raises(PluginsError):
            await asked


async def test_filters(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Each filter, and two at once; values of SQL are values."""
    app = make_app(
        store,
        tenant=lambda call: call.event.data.get("tenant"),
        tags=lambda call: call.event.data.get("tags"),
    )
    add_functions(app)
    async with app.engine() as engine:
        assert isinstance(engine, LocalEngine)
        events: list[tuple[str, dict[str, Any]]] = [
            ("fn", {"tenant": "acme", "tags": {"plan": "pro"}}),
            ("fn", {"tenant": "acme", "tags": {"plan": "free"}}),
            ("bad", {"tenant": "x' OR '1'='1", "tags": {"plan": "pro"}}),
        ]
        for name, data in events:
            await engine.send(inngest.Event(name=name, data=data))
        await engine.settle()

    async def count(scope: Scope = EVERYTHING, **filters: Any) -> int:
        return len((await store.runs(scope, **filters)).runs)

    assert await count() == 3
    assert await count(status="Failed") == 1
    assert await count(function_id="fn") == 2
    assert await count(event_name="bad") == 1
    assert await count(tag=("plan", "pro")) == 2
    assert await count(tag=("plan", "pro"), function_id="fn") == 1
    assert await count(tag=("plan' OR 1=1 --", "pro")) == 0
    assert await count(Scope("acme")) == 2
    assert await count(Scope("x' OR '1'='1")) == 1
    assert await count(Scope("other")) == 0
    assert await count(after="0") == 0
    acme = (await store.runs(Scope("acme"))).runs[0]
    assert acme.tags == {"plan": "free"}
    assert await store.run(acme.run_id, Scope("other")) is None
    detail = await store.run(acme.run_id, Scope("acme"))
    assert detail is not None
    assert [(step.step_id, step.status) for step in detail.steps] == [("seven", "Completed")]
    assert [one.status for one in detail.attempts] == ["Completed"]
    assert (detail.tokens, detail.cost) == (None, None)
