"""Budgets: the next call is stopped, and only that."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import inngest
import pytest
from tests.ai.ai_rig import App, run_values

from inngest_plugins.ai import (
    AIPlugin,
    Balance,
    Budget,
    BudgetDeferredError,
    BudgetExceededError,
    BudgetStore,
    MemoryBudgetStore,
    Price,
    usage,
)
from inngest_plugins.core import PluginsError

pytestmark = pytest.mark.anyio

PRICES = {"m": Price(input=1_000_000, output=0)}
"""A dollar a token."""


def app_with(*budgets: Budget) -> App:
    return App(plugin=AIPlugin(budgets=budgets, prices=PRICES))


async def spend(tokens: int) -> None:
    usage.record(model="m", input_tokens=tokens, output_tokens=0)


@pytest.mark.parametrize("budget", [Budget(usd="2.5"), Budget(tokens=3)])
async def test_a_run_that_spends_too_much_fails_at_the_next_step(budget: Budget) -> None:
    """It is not tried again, and the error says which budget, how much, and whose prices."""
    app = app_with(budget)
    ran: list[str] = []

    @app.function(retries=3)
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            ran.append("")
            await spend(1)

        for number in range(10):
            await ctx.step.run(f"s{number}", step)

    run = await app.run()
    assert run.status == "Failed"
    assert len(ran) == 3
    assert run_values(run)["input_tokens"] == 3
    assert run.error is not None
    message = str(run.error)
    assert budget.name in message
    assert "3 of" in message
    assert issubclass(BudgetExceededError, PluginsError)
    assert issubclass(BudgetExceededError, inngest.NonRetriableError)


async def test_a_function_may_catch_it_and_tell_somebody() -> None:
    """It is raised where the step was called, once in a request."""
    app = app_with(Budget(tokens=1))
    figures: list[tuple[Any, Any]] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> str:
        await ctx.step.run("a", spend, 5)
        try:
            await ctx.step.run("b", spend, 5)
        except BudgetExceededError as err:
            figures.append((err.spent, err.limit))

            async def tell() -> str:
                return "told"

            return await ctx.step.run("tell", tell)
        return "no"

    run = await app.run()
    assert run.output == "told", run.reason
    assert set(figures) == {(5, 1)}


async def test_failed_attempts_use_the_budget_up() -> None:
    """A step that fails and spends is stopped before its retries have spent everything."""
    app = app_with(Budget(tokens=25))
    ran: list[str] = []

    @app.function(retries=10)
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            ran.append("")
            await spend(10)
            raise ValueError("no")

        await ctx.step.run("s", step)

    run = await app.run()
    assert run.status == "Failed"
    assert len(ran) == 3


async def test_within_budget_stops_the_next_call_of_a_step() -> None:
    """Inside of a step too, and the error leaves the step as what it is."""
    app = app_with(Budget(tokens=25))
    called: list[str] = []

    @app.function(retries=5)
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            for _ in range(10):
                try:
                    async with usage.within_budget():
                        called.append("")
                        await spend(10)
                except BudgetExceededError as err:
                    # What clients of models do.
                    raise ConnectionError("connection failed") from err

        await ctx.step.run("s", step)

    run = await app.run()
    assert run.status == "Failed"
    assert len(called) == 3
    assert "is exceeded" in str(run.error)


def test_calls_at_the_same_time_in_a_sync_step() -> None:
    """With an estimate, calls of one step cannot exceed the budget together."""
    app = app_with(Budget(tokens=50, reserve=10))
    granted: list[int] = []

    @app.function(retries=0)
    def fn(ctx: inngest.ContextSync) -> None:
        def step() -> None:
            import contextvars

            start = threading.Barrier(20)

            def call() -> None:
                start.wait()
                try:
                    with usage.within_budget_sync():
                        granted.append(1)
                        usage.record(model="m", input_tokens=10, output_tokens=0)
                except BudgetExceededError:
                    pass

            with ThreadPoolExecutor(20) as pool:
                for _ in range(20):
                    pool.submit(contextvars.copy_context().run, call)

        ctx.step.run("s", step)

    anyio.run(app.run)
    assert len(granted) == 5


async def test_a_tenant_s_day(store: BudgetStore) -> None:
    """Runs of one tenant share its budget; another tenant's is untouched; retries count."""
    budget = Budget(tokens=20, per="day", key="event.data.tenant", store=store)
    app = app_with(budget)
    fails: list[str] = []

    @app.function(retries=3)
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            await spend(8)
            if not fails:
                fails.append("")
                raise ValueError("no")

        await ctx.step.run("s", step)

    first = await app.run(tenant="a")
    second = await app.run(tenant="a")
    third = await app.run(tenant="a")
    other = await app.run(tenant="b")
    assert [run.status for run in (first, second, third, other)] == [
        "Completed",
        "Completed",
        "Failed",
        "Completed",
    ]
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    assert store.balance(budget.account_of("a", now)) == Balance(24, 0)
    assert store.balance(budget.account_of("b", now)) == Balance(8, 0)
    assert "event.data.tenant" in str(third.error)


async def test_what_the_body_reports_is_settled_once() -> None:
    """However often it is replayed."""
    store = MemoryBudgetStore()
    budget = Budget(tokens=1000, per="month", store=store)
    app = app_with(budget)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        await spend(3)
        await ctx.step.run("a", spend, 10)
        await spend(4)
        await ctx.step.sleep("s", datetime.timedelta(milliseconds=1))
        await ctx.step.run("b", spend, 100)

    run = await app.run()
    assert run_values(run)["input_tokens"] == 117
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    assert store.balance(budget.account_of(None, now)).spent == 117


async def test_fifty_workers_never_exceed_a_budget_by_more_than_a_call_each(
    store: BudgetStore,
) -> None:
    """Fifty runs at once: with an estimate not at all, without at most one call each."""
    for reserve in (10, 0):
        budget = Budget(
            tokens=100, per="day", key="event.data.tenant", store=store, reserve=reserve
        )
        app = app_with(budget)

        @app.function(retries=0, fn_id="fn")
        async def fn(ctx: inngest.Context) -> None:
            async def step() -> None:
                for _ in range(5):
                    async with usage.within_budget():
                        await anyio.lowlevel.checkpoint()
                        await spend(10)

            await ctx.step.run("s", step)

        from inngest_plugins.local import LocalEngine

        async with LocalEngine(app.client, app.functions) as engine:
            data = {"tenant": f"t{reserve}"}
            await engine.send([inngest.Event(name="fn", data=data) for _ in range(50)])
            await engine.settle()
        now = datetime.datetime.now(datetime.timezone.utc).timestamp()
        spent = store.balance(budget.account_of(f"t{reserve}", now))
        assert spent.reserved == 0
        if reserve:
            assert spent.spent == 100
        else:
            assert 100 <= spent.spent <= 100 + 50 * 10


async def test_on_exceeded_defer_waits_for_the_period() -> None:
    """The engine is asked to try again when the period is over; then there is room."""
    store = MemoryBudgetStore()
    budget = Budget(tokens=1, per="day", store=store, on_exceeded="defer")
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    store.settle(budget.account_of(None, now), spent=1, reservations=(), seconds=1)
    app = app_with(budget)
    raised: list[BudgetDeferredError] = []

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> str:
        try:
            await ctx.step.run("s", spend, 1)
        except BudgetDeferredError as err:
            raised.append(err)
            return "deferred"
        return "done"

    run = await app.run()
    assert run.output == "deferred", run.reason
    at = raised[0].retry_after
    assert (at.hour, at.minute) == (0, 0)
    assert 0 < at.timestamp() - now <= 86_400
    assert not isinstance(raised[0], inngest.NonRetriableError)


async def test_on_exceeded_a_function_decides() -> None:
    """It may let the call be."""
    told: list[BudgetExceededError] = []
    app = app_with(Budget(tokens=1, on_exceeded=told.append))

    @app.function()
    async def fn(ctx: inngest.Context) -> str:
        await ctx.step.run("a", spend, 5)
        await ctx.step.run("b", spend, 5)
        return "done"

    run = await app.run()
    assert run.output == "done"
    assert told
    assert told[0].budget == "1 tokens per run"


async def test_a_missing_key_and_a_store_that_is_down() -> None:
    """The one is for good, the other is tried again; neither names a value."""

    class Down(MemoryBudgetStore):
        def reserve(self, *args: Any, **options: Any) -> Balance:
            raise ConnectionError("secret-password")

    for budget, told, attempts in (
        (Budget(tokens=1, per="day", key="event.data.tenant", store=MemoryBudgetStore()), "key", 1),
        (Budget(tokens=1, per="day", store=Down()), "could not be reached", 3),
    ):
        app = app_with(budget)
        seen: list[str] = []

        @app.function(retries=2)
        async def fn(ctx: inngest.Context, seen: list[str] = seen) -> None:
            seen.append("")
            await ctx.step.run("a", spend, 5)

        run = await app.run()
        assert run.status == "Failed"
        assert told in str(run.error)
        assert "secret" not in str(run.error)
        assert len(seen) == attempts


@pytest.mark.parametrize(
    ("key", "name", "attempts"),
    [
        (lambda call: call.event.data["tenant"], "BudgetKeyError", 1),
        (lambda call: call.event.data.get("tenant").upper(), "BudgetKeyError", 1),
        (lambda call: call.event.data["items"] + "", "BudgetKeyError", 1),
        (lambda call: str(1 // len(call.event.data["items"])), "ZeroDivisionError", 3),
    ],
)
async def test_a_key_function_that_raises(key: Any, name: str, attempts: int) -> None:
    """One that finds no value says of which budget; what else it raises is tried again."""
    store = MemoryBudgetStore()
    app = app_with(Budget(tokens=1, per="day", key=key, store=store, name="tenants"))
    seen: list[str] = []

    @app.function(retries=2)
    async def fn(ctx: inngest.Context) -> None:
        seen.append("")
        await ctx.step.run("a", spend, 5)

    run = await app.run(items=[])
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == name
    assert ("budget 'tenants' of function 'fn': its key function" in run.error["message"]) is (
        attempts == 1
    )
    assert len(seen) == attempts


@pytest.mark.parametrize("given", [None, 5, (0, 0, True)])
async def test_a_store_that_gives_no_balance_is_named(given: Any) -> None:
    """No call is made, and the error says what the store should give."""

    class Wrong(MemoryBudgetStore):
        def reserve(self, *args: Any, **options: Any) -> Balance:
            balance: Balance = given
            return balance

    app = app_with(Budget(tokens=100, per="day", store=Wrong(), name="tenants"))
    made: list[str] = []

    async def call_model() -> None:
        made.append("")

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("a", call_model)

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "BudgetStoreError"
    told = rf"budget 'tenants' \(Wrong\) gives no Balance .* but {type(given).__name__}$"
    assert re.search(told, run.error["message"])
    assert made == []


class AsyncStore(MemoryBudgetStore):
    """As a user might write one, for an async driver."""

    async def reserve(self, *args: Any, **options: Any) -> Balance:  # type: ignore[override]
        return Balance(0, 0)


async def _asynchronous(*given: Any) -> str:
    return ""


async def test_a_store_that_is_down_at_the_end_loses_no_answer() -> None:
    """The call was paid for: the step's result stays."""

    class Down(MemoryBudgetStore):
        def settle(
            self, account: str, *, spent: int, reservations: Sequence[str], seconds: float
        ) -> None:
            raise ConnectionError("no")

    app = app_with(Budget(tokens=100, per="day", store=Down()))

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> str:
        await ctx.step.run("a", spend, 5)
        return "done"

    assert (await app.run()).output == "done"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "either"),
        ({"usd": 1, "tokens": 1}, "either"),
        ({"tokens": 1.5}, "count"),
        ({"usd": -1}, "US dollars"),
        ({"tokens": 1, "reserve": -1}, "reserve"),
        ({"tokens": 1, "per": "week"}, "per="),
        ({"tokens": 1, "key": "event.data.x"}, "no key"),
        ({"tokens": 1, "per": "day"}, "store="),
        ({"tokens": 1, "per": "day", "store": 3}, "BudgetStore"),
        ({"tokens": 1, "per": ["day"]}, "per="),
        ({"tokens": 1, "store": MemoryBudgetStore}, "BudgetStore"),
        ({"tokens": 1, "per": "day", "store": MemoryBudgetStore(), "key": 5}, "key="),
        ({"tokens": 1, "per": "day", "store": MemoryBudgetStore(), "key": "tenant"}, "event.data"),
        ({"usd": "1e999999999"}, "US dollars"),
        ({"tokens": 1, "on_exceeded": "shout"}, "on_exceeded"),
        ({"tokens": 1, "on_exceeded": "defer"}, "later period"),
        ({"tokens": 1, "on_exceeded": _asynchronous}, r"on_exceeded=\.\.\.\) .*is async"),
        ({"tokens": 1, "per": "day", "store": AsyncStore()}, r"its reserve\(\) .*is async"),
        (
            {"tokens": 1, "per": "day", "store": MemoryBudgetStore(), "key": _asynchronous},
            r"key=\.\.\.\) .*is async",
        ),
    ],
)
def test_budgets_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    """At construction, naming the field."""
    with pytest.raises((TypeError, ValueError), match=told):
        Budget(**options)


def test_the_plugin_takes_budgets_only() -> None:
    """Something else in the list is named."""
    with pytest.raises(TypeError, match="int"):
        AIPlugin(budgets=[3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"AIPlugin\(prices=...\) .*this one is async"):
        AIPlugin(prices=_asynchronous)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"AIPlugin\(budgets=...\) is a list of Budgets"):
        AIPlugin(budgets=Budget(tokens=1))  # type: ignore[arg-type]


def test_periods_end_where_the_calendar_says() -> None:
    """Hours, days and months in UTC."""
    at = datetime.datetime(2026, 12, 31, 23, 59, tzinfo=datetime.timezone.utc).timestamp()
    store = MemoryBudgetStore()
    ends = [
        Budget(tokens=1, per=per, store=store).period_end(at).isoformat()
        for per in ("hour", "day", "month")
    ]
    assert ends == ["2027-01-01T00:00:00+00:00"] * 3
    accounts = [
        Budget(tokens=1, per=per, store=store, name="b").account_of("x", at)
        for per in ("hour", "day", "month")
    ]
    assert accounts == ["b/2026-12-31T23/key=x", "b/2026-12-31/key=x", "b/2026-12/key=x"]
