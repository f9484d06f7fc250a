"""A database that is down, slow or late never harms a run, and payloads stay where they are."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import logging
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import inngest
import pytest
import sqlalchemy as sa

from inngest_plugins.core import Call
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import Run
from inngest_plugins.mirror import MirrorError, MirrorPlugin, Scope, SQLAlchemyStore
from inngest_plugins.mirror.store.rows import Report, RunFacts
from inngest_plugins.mirror.store.tables import metadata, runs, steps
from inngest_plugins.mirror.store.thread import LoopThread

from .conftest import App, Server, attempt_rows, rows_of, run_row, step_rows, until

pytestmark = pytest.mark.anyio
SECRET = "4111-1111-1111-1111"


class Odd(BaseException):
    """What a callback raises that is no `Exception`."""


def add_functions(app: App) -> None:
    """An async and a sync function that do the same."""

    def charge() -> dict[str, Any]:
        return {"amount": 12, "card": SECRET}

    async def charge_async() -> dict[str, Any]:
        return charge()

    @app.function("async")
    async def run_async(ctx: inngest.Context) -> dict[str, Any]:
        charged = await ctx.step.run("charge", charge_async)
        return {"total": charged["amount"], "card": SECRET}

    @app.function("sync")
    def run_sync(ctx: inngest.ContextSync) -> dict[str, Any]:
        charged = ctx.step.run("charge", charge)
        return {"total": charged["amount"], "card": SECRET}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the mirror logged as a warning."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "inngest_plugins.mirror" and record.levelno >= logging.WARNING
    ]


def check_unharmed(run: Run) -> None:
    """The run is as without a mirror."""
    assert (run.status, run.result) == ("Completed", {"total": 12, "card": SECRET})
    assert run.steps["charge"].attempts == 1


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken, and nobody answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("name", ["async", "sync"])
async def test_a_database_that_is_down(
    make_app: type[App], caplog: pytest.LogCaptureFixture, name: str, driver: str
) -> None:
    """Logged once, however many requests there are, without password and payload."""
    store = SQLAlchemyStore(f"postgresql+{driver}://mirror:hidden@127.0.0.1:1/none")
    app = make_app(store)
    add_functions(app)
    for _ in range(3):
        check_unharmed(await app.run(name))
    (warning,) = warnings_in(caplog)
    assert "runs are not mirrored until the database" in warning
    assert "hidden" not in caplog.text
    assert SECRET not in caplog.text
    await store.close()


@pytest.mark.parametrize("name", ["async", "sync"])
async def test_a_database_that_does_not_answer(
    make_app: type[App], caplog: pytest.LogCaptureFixture, silent_port: int, name: str
) -> None:
    """A write is given up after `timeout`."""
    store = SQLAlchemyStore(f"postgresql+asyncpg://mirror@127.0.0.1:{silent_port}/none")
    app = make_app(store, timeout=0.05)
    add_functions(app)
    check_unharmed(await app.run(name))
    (warning,) = warnings_in(caplog)
    assert "did not answer in time" in warning
    await store.close()


async def test_a_database_without_tables(
    make_app: type[App], postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says which command makes them."""
    store = SQLAlchemyStore(postgres.new_database())
    app = make_app(store)
    add_functions(app)
    check_unharmed(await app.run("async"))
    (warning,) = warnings_in(caplog)
    assert "inngest-plugins mirror upgrade --url" in warning
    await store.close()


@pytest.mark.parametrize("keep", [1000, 1])
async def test_a_database_that_comes_back(
    store: SQLAlchemyStore, make_app: type[App], caplog: pytest.LogCaptureFixture, keep: int
) -> None:
    """What was not written is kept, and written when the database works again."""
    app = make_app(store, keep=keep)
    caplog.set_level(logging.INFO, logger="inngest_plugins.mirror")
    names: list[str] = []

    async def rename(table: str, to: str) -> None:
        async def change() -> None:
            async with store.begin() as connection:
                await connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {to}"))

        await store.ask(change)

    async def note(name: str) -> str:
        names.append(name)
        return name

    async def go_away() -> None:
        await rename("inngest_runs", "away")

    async def come_back() -> None:
        await rename("away", "inngest_runs")

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("first", note, "first")
        await ctx.step.run("away", go_away)
        await ctx.step.run("second", note, "second")
        await ctx.step.run("back", come_back)
        await ctx.step.run("third", note, "third")

    run = await app.run()
    assert run.status == "Completed"
    assert names == ["first", "second", "third"]

    async def is_complete() -> bool:
        return str((await run_row(store, run.id))["status"]) == "Completed"

    await until(is_complete, "the reports that were kept are written")
    found = await step_rows(store, run.id)
    assert {each: row["status"] for each, row in found.items()} == dict.fromkeys(
        ("first", "away", "second", "back", "third"), "Completed"
    )
    # Later requests say what became of a step whose report was dropped, but not how often it ran.
    known = {1} if keep > 1 else {1, None}
    assert {row["attempts"] for row in found.values()} <= known
    assert len(await attempt_rows(store, run.id)) in ([5] if keep > 1 else range(1, 5))
    assert len(warnings_in(caplog)) == 1
    assert caplog.messages[-1].startswith("runs are mirrored again")


async def everything(store: SQLAlchemyStore) -> str:
    """All that is in the database, as text."""
    found = [row for table in metadata.tables.values() for row in await rows_of(store, table)]
    return "\n".join(str(row) for row in found)


@pytest.mark.parametrize(
    "plugins", [(), (EncryptionPlugin(KeyRing.generate()),)], ids=["", "sealed"]
)
@pytest.mark.parametrize("name", ["async", "sync"])
async def test_no_payload_is_stored(
    sqlite_store: SQLAlchemyStore, make_app: type[App], name: str, plugins: tuple[Any, ...]
) -> None:
    """Neither of the event, nor of steps, nor of the output."""
    app = make_app(sqlite_store, *plugins)
    add_functions(app)
    await app.run(name, card=SECRET)
    stored = await everything(sqlite_store)
    assert "charge" in stored
    assert SECRET not in stored
    assert {row["fields"] for row in await rows_of(sqlite_store, runs)} == {None}


async def test_errors_are_stored_sealed(sqlite_store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Where a plugin seals errors, their class is shown and their text is not."""
    app = make_app(sqlite_store, EncryptionPlugin(KeyRing.generate()))

    async def decline() -> None:
        raise LookupError(f"declined: {SECRET}")

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("charge", decline)

    assert (await app.run()).status == "Failed"
    assert SECRET not in await everything(sqlite_store)
    assert (await rows_of(sqlite_store, steps))[0]["status"] == "Failed"


@pytest.mark.parametrize(
    "plugins", [(), (EncryptionPlugin(KeyRing.generate()),)], ids=["", "sealed"]
)
@pytest.mark.parametrize("name", ["async", "sync"])
async def test_fields_that_are_named(
    store: SQLAlchemyStore,
    make_app: type[App],
    caplog: pytest.LogCaptureFixture,
    name: str,
    plugins: tuple[Any, ...],
) -> None:
    """They are stored, in the clear where payloads are sealed, as `redact` leaves them."""

    def redact(path: str, value: Any) -> Any:
        if path == "event.broken":
            raise Odd(SECRET)
        return value[-4:] if path.endswith("card") else value

    app = make_app(
        store,
        *plugins,
        store_fields=["event.order", "event.broken", "output.card", "step.amount", "step.none"],
        redact=redact,
    )
    add_functions(app)
    run = await app.run(name, order="A-1", broken=1, card=SECRET)
    stored = (await run_row(store, run.id))["fields"]
    assert stored == '{"event.order": "A-1", "output.card": "1111"}'
    assert (await step_rows(store, run.id))["charge"]["fields"] == '{"step.amount": 12}'
    assert SECRET not in await everything(store)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("tenant", ["t" * 256, "acme\x00", "\ud800"])
async def test_a_tenant_that_would_be_cut_is_none(
    sqlite_store: SQLAlchemyStore,
    make_app: type[App],
    caplog: pytest.LogCaptureFixture,
    tenant: str,
) -> None:
    """What the column holds of it could be another tenant's name."""
    app = make_app(sqlite_store, tenant=lambda call: tenant)
    add_functions(app)
    run = await app.run("sync")
    assert (await run_row(sqlite_store, run.id))["tenant"] is None
    (warning,) = warnings_in(caplog)
    assert "tenant raised ValueError" in warning
    with pytest.raises(MirrorError, match="runs have no such tenant"):
        Scope(tenant)
    Scope("t" * 255)


async def test_the_tenant_is_asked_in_the_clear(
    sqlite_store: SQLAlchemyStore, make_app: type[App], caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the event is sealed; what raises is logged once, without the error's text."""

    def tenant(call: Call) -> str:
        if "tenant" not in call.event.data:
            raise Odd(SECRET)
        return str(call.event.data["tenant"])

    app = make_app(sqlite_store, EncryptionPlugin(KeyRing.generate()), tenant=tenant)
    add_functions(app)
    run = await app.run("async", tenant="acme")
    assert (await run_row(sqlite_store, run.id))["tenant"] == "acme"
    for _ in range(2):
        check_unharmed(await app.run("sync"))
    (warning,) = warnings_in(caplog)
    assert "tenant raised Odd" in warning
    assert SECRET not in caplog.text


async def _asynchronous(*given: Any) -> None:
    """What nobody would await."""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"store_fields": "event"}, TypeError),
        ({"store_fields": None}, TypeError),
        ({"store_fields": 5}, TypeError),
        ({"store_fields": ["card"]}, MirrorError),
        ({"store_fields": ["event..card"]}, MirrorError),
        ({"redact": 1}, TypeError),
        ({"tenant": "acme"}, TypeError),
        ({"tenant": _asynchronous}, TypeError),
        ({"tags": _asynchronous}, TypeError),
        ({"redact": _asynchronous}, TypeError),
        ({"tags": {}}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": True}, TypeError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"keep": 0}, ValueError),
        ({"keep": True}, TypeError),
        ({"keep": 1.5}, TypeError),
    ],
)
def test_wrong_options(
    sqlite_store: SQLAlchemyStore, options: dict[str, Any], error: type[Exception]
) -> None:
    """They are refused where they are given."""
    with pytest.raises(error, match="MirrorPlugin"):
        MirrorPlugin(sqlite_store, **options)


@pytest.mark.parametrize("url", ["no url", "mysql://a@b/c", "postgresql+pg8000://a@b/c"])
def test_wrong_urls(url: str) -> None:
    """They are refused before anything connects."""
    with pytest.raises(MirrorError, match="SQLAlchemyStore"):
        SQLAlchemyStore(url)


async def test_health(sqlite_store: SQLAlchemyStore, tmp_path: pathlib.Path) -> None:
    """`doctor --health` asks the database."""
    (check,) = MirrorPlugin(sqlite_store).health_checks()
    await check.check()
    gone = SQLAlchemyStore(f"sqlite:///{tmp_path / 'none' / 'mirror.db'}")
    (check,) = MirrorPlugin(gone).health_checks()
    with pytest.raises(MirrorError):
        await check.check()
    await gone.close()


async def test_a_write_that_is_given_up_while_it_connects_says_nothing(
    postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Asyncpg leaves an error that nobody awaits; asyncio would log it, and Sentry report it."""
    now = dt.datetime.now(dt.timezone.utc)
    report = Report(RunFacts("1", "app", "fn", None, "Running", 0, seen_at=now))
    url = postgres.new_database().replace("postgresql", "postgresql+asyncpg", 1)
    store = SQLAlchemyStore(url, engine_options={"poolclass": sa.NullPool})
    await store.upgrade()
    with caplog.at_level("DEBUG"):
        for number in range(120):
            with contextlib.suppress(TimeoutError):
                await store.write(report, timeout=number % 40 * 0.0005)
        await store.close()
        gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def test_a_driver_s_thread_may_outlive_the_loop() -> None:
    """Aiosqlite's does, after a connect that failed; what it says then is for nobody."""
    thread = LoopThread("outlived")
    said: list[str] = []

    async def last() -> None:
        loops.append(asyncio.get_running_loop())

    loops: list[asyncio.AbstractEventLoop] = []
    thread.run(last)
    thread.stop(last)
    while not loops[0].is_closed():
        time.sleep(0.001)
    loops[0].call_soon_threadsafe(said.append, "late")
    thread.run(last)
    thread.stop(last)
    assert said == []
    assert len(set(map(id, loops))) == 2


def test_the_stores_thread_still_tells_of_other_errors(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody awaited is logged, unless it is a connection's."""
    thread = LoopThread("told")

    async def leave(error: Exception) -> None:
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()

    async def last() -> None:
        """Nothing is left to do."""

    thread.run(lambda: leave(ConnectionError("quiet")))
    thread.run(lambda: leave(ValueError("told")))
    thread.stop(last)
    (record,) = [each for each in caplog.records if each.name == "asyncio"]
    assert "told" in record.getMessage()
