"""What a run leaves in the database, on every supported driver."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal
from typing import Any

import anyio
import inngest
import pytest

from inngest_plugins.ai import AIPlugin, Price, usage
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import Run
from inngest_plugins.mirror import SQLAlchemyStore, log
from inngest_plugins.mirror.store.tables import logs, runs, tags

from .conftest import App, attempt_rows, rows_of, run_row, step_rows

pytestmark = pytest.mark.anyio


def add_order(app: App, *, is_async: bool) -> None:
    """A function with a retried step, a parallel group, a sleep and a step that fails."""
    tries: list[int] = []

    def charge() -> dict[str, int]:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the provider is busy")
        return {"amount": 12}

    def fail() -> None:
        raise LookupError("no stock")

    if is_async:

        @app.function(retries=1)
        async def order(ctx: inngest.Context) -> dict[str, int]:
            async def charge_async() -> dict[str, int]:
                return charge()

            async def fail_async() -> None:
                fail()

            charged = await ctx.step.run("charge", charge_async)
            await ctx.group.parallel(
                tuple(lambda n=n: ctx.step.run(f"parcel {n}", number, n) for n in range(2))  # type: ignore[misc]
            )
            await ctx.step.sleep("pause", dt.timedelta(milliseconds=1))
            with contextlib.suppress(inngest.StepError):
                await ctx.step.run("stock", fail_async)
            return {"total": charged["amount"]}

        return

    @app.function(retries=1)
    def order_sync(ctx: inngest.ContextSync) -> dict[str, int]:
        charged = ctx.step.run("charge", charge)
        for n in range(2):
            ctx.step.run(f"parcel {n}", lambda n=n: n)  # type: ignore[misc]
        ctx.step.sleep("pause", dt.timedelta(milliseconds=1))
        with contextlib.suppress(inngest.StepError):
            ctx.step.run("stock", fail)
        return {"total": charged["amount"]}


async def number(n: int) -> int:
    return n


async def check_against(store: SQLAlchemyStore, run: Run) -> None:
    """Compare the mirror with the engine's own record of a run."""
    row = await run_row(store, run.id)
    assert row["status"] == run.status
    found = await step_rows(store, run.id)
    assert {each: found[each]["status"] for each in found} == {
        each: "Failed" if step.status == "Failed" else "Completed"
        for each, step in run.steps.items()
    }
    attempts = await attempt_rows(store, run.id)
    for each, step in run.steps.items():
        made = [a for a in attempts if a["hashed_id"] == found[each]["hashed_id"]]
        if found[each]["op"] == "StepRun":
            assert len(made) == step.attempts == found[each]["attempts"], each
            assert [a["attempt"] for a in made] == list(range(len(made)))
            assert made[-1]["status"] == found[each]["status"]


@pytest.mark.parametrize("plugins", [(), (CheckpointPlugin(),)], ids=["plain", "checkpoint"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_the_rows_are_what_the_engine_knows(
    store: SQLAlchemyStore, make_app: type[App], is_async: bool, plugins: tuple[Any, ...]
) -> None:
    """Runs, steps and attempts, with retries, parallel groups, sleeps and failures."""
    app = make_app(store, *plugins)
    add_order(app, is_async=is_async)
    run = await app.run(order="A-1")
    assert run.status == "Completed", run.reason
    await check_against(store, run)
    row = await run_row(store, run.id)
    assert (row["app_id"], row["function_id"], row["event_name"]) == ("app", "fn", "fn")
    assert row["queued_at"] <= row["started_at"] <= row["ended_at"] <= row["seen_at"]
    assert (row["error_class"], row["fields"], row["tenant"]) == (None, None, None)
    found = await step_rows(store, run.id)
    assert found["charge"]["error_class"] is None
    assert found["charge"]["output_bytes"] >= len('{"amount":12}')
    assert found["charge"]["duration_ms"] >= 0
    assert found["stock"]["error_class"] == "LookupError"
    assert found["stock"]["error_message"] == "no stock"
    order = sorted(found, key=lambda each: found[each]["position"])
    assert order == ["charge", "parcel 0", "parcel 1", "pause", "stock"]
    first = (await attempt_rows(store, run.id))[0]
    assert {a["error_message"] for a in await attempt_rows(store, run.id)} == {
        None,
        "the provider is busy",
        "no stock",
    }
    assert first["started_at"] <= first["ended_at"]


async def test_a_function_that_fails(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Each attempt of the function has a row; the run has the error of the last."""
    app = make_app(store)

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    run = await app.run()
    row = await run_row(store, run.id)
    assert (row["status"], row["error_class"], row["attempt"]) == ("Failed", "ValueError", 1)
    assert row["error_message"] == "attempt 1"
    made = await attempt_rows(store, run.id)
    assert [(a["hashed_id"], a["attempt"], a["status"]) for a in made] == [
        ("", 0, "Failed"),
        ("", 1, "Failed"),
    ]


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (inngest.NonRetriableError("no"), 1),
        (inngest.RetryAfterError("later", dt.timedelta(seconds=1)), 2),
    ],
)
async def test_a_step_whose_error_ends_the_function(
    sqlite_store: SQLAlchemyStore,
    make_app: type[App],
    error: Exception,
    attempts: int,
    checkpoints: bool,
) -> None:
    """It has failed with it, and runs no more: the engine is told of the function alone."""
    app = make_app(sqlite_store, *([CheckpointPlugin()] if checkpoints else []))

    async def bad() -> None:
        raise error

    async def good() -> int:
        return 1

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("good", good)
        await ctx.step.run("bad", bad)

    run = await app.run()
    name = type(error).__name__
    row = await run_row(sqlite_store, run.id)
    assert (row["status"], row["error_class"]) == ("Failed", name)
    found = await step_rows(sqlite_store, run.id)
    assert found["good"]["status"] == "Completed"
    step = found["bad"]
    assert (step["status"], step["error_class"], step["attempts"]) == ("Failed", name, attempts)
    assert step["ended_at"] >= step["started_at"]


async def test_a_step_that_is_tried_again_after_its_time(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """It has completed, without the error of the attempt that asked for another."""
    app = make_app(sqlite_store)
    tries: list[int] = []

    async def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise inngest.RetryAfterError("later", dt.timedelta(seconds=1))
        return 1

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> int:
        return await ctx.step.run("flaky", flaky)

    run = await app.run()
    step = (await step_rows(sqlite_store, run.id))["flaky"]
    assert (step["status"], step["error_class"], step["attempts"]) == ("Completed", None, 2)


async def test_a_failure_handler_is_a_function_of_its_own(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """As it is for the engine."""
    app = make_app(sqlite_store)

    async def on_failure(ctx: inngest.Context) -> None:
        return None

    @app.function(retries=0, on_failure=on_failure)
    async def fn(ctx: inngest.Context) -> None:
        raise ValueError("no")

    await app.run()
    found = {row["function_id"]: row["status"] for row in await rows_of(sqlite_store, runs)}
    assert found == {"fn": "Failed", "fn-failure": "Completed"}


async def test_tenant_and_tags(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Callables tell them; one that raises, or gives what is none, leaves the run without."""

    def tenant(call: Any) -> Any:
        return call.event.data["tenant"]

    app = make_app(store, tenant=tenant, tags=lambda call: call.event.data.get("tags"))

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        return None

    good = await app.run(tenant="acme", tags={"plan": "pro", "seats": 3})
    raising = await app.run()
    wrong = await app.run(tenant=7, tags=[1])
    by_run = {row["run_id"]: row["tenant"] for row in await rows_of(store, runs)}
    assert by_run == {good.id: "acme", raising.id: None, wrong.id: None}
    assert {(t["run_id"], t["name"], t["value"]) for t in await rows_of(store, tags)} == {
        (good.id, "plan", "pro"),
        (good.id, "seats", "3"),
    }
    assert {run.status for run in (good, raising, wrong)} == {"Completed"}


async def test_log_lines(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """A line of the body is there once, one of a step once for each attempt."""
    app = make_app(store)
    tries: list[int] = []

    async def work() -> None:
        log("working", level="DEBUG")
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        log("begun")
        await ctx.step.run("work", work)
        log("done \x00 \ud800")

    log("outside of a run")
    run = await app.run()
    assert run.status == "Completed"
    found = await rows_of(store, logs)
    assert sorted((row["attempt"], row["level"], row["message"]) for row in found) == [
        (0, "DEBUG", "working"),
        (0, "INFO", "begun"),
        (0, "INFO", "done \ufffd \ufffd"),
        (1, "DEBUG", "working"),
    ]


@pytest.mark.parametrize("plugins", [(), (CheckpointPlugin(),)], ids=["plain", "checkpoint"])
async def test_tokens_and_cost_of_model_calls(
    store: SQLAlchemyStore, make_app: type[App], plugins: tuple[Any, ...]
) -> None:
    """Each attempt has what a plugin that counts model calls told of it; unknown is not zero."""
    prices = {"known": Price(input=Decimal(10), output=Decimal(20))}
    app = make_app(store, AIPlugin(prices=prices), *plugins)
    tries: list[int] = []

    async def call(model: str) -> None:
        usage.record(model=model, input_tokens=100, output_tokens=10)
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the answer was broken off")

    @app.function(retries=1)
    async def ask(ctx: inngest.Context) -> None:
        await ctx.step.run("priced", call, "known")
        await ctx.step.run("unpriced", call, "a model of our own")
        await ctx.step.run("none", anyio.sleep, 0)

    run = await app.run()
    assert run.status == "Completed", run.reason
    names = {row["hashed_id"]: row["step_id"] for row in (await step_rows(store, run.id)).values()}
    found = [
        (names[row["hashed_id"]], row["attempt"], row["tokens"], row["cost"])
        for row in await attempt_rows(store, run.id)
    ]
    cost = pytest.approx((100 * 10 + 10 * 20) / 1_000_000)
    assert sorted(found, key=lambda each: each[:2]) == [
        ("none", 0, None, None),
        ("priced", 0, 110, cost),
        ("priced", 1, 110, cost),
        ("unpriced", 0, 110, None),
    ]
