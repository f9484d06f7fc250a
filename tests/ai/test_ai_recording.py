"""`usage.record`: in steps and in the body, under retries, replays and in parallel."""

from __future__ import annotations

import functools
import logging
from decimal import Decimal
from typing import Any

import inngest
import pytest
from tests.ai.ai_rig import App, attempt_values, run_values

from inngest_plugins.ai import (
    AIPlugin,
    ModelCall,
    ModelUsage,
    Price,
    UsageContextError,
    UsageValueError,
    usage,
)
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import USAGE, Call, Layer, Outcome, Plugin

pytestmark = pytest.mark.anyio


def spend(tokens: int, model: str = "gpt-5") -> int:
    usage.record(model=model, provider="openai", input_tokens=tokens, output_tokens=1)
    return tokens


async def aspend(tokens: int) -> int:
    return spend(tokens)


async def test_a_run_s_total_counts_every_step_once() -> None:
    """Three steps are replayed several times; each is in the total once, and in the dashboard."""
    app = App()
    totals: list[ModelUsage] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> int:
        for number in range(3):
            await ctx.step.run(f"s{number}", aspend, 100 + number)
        totals.append(usage.run_total())
        return usage.run_total().input_tokens

    run = await app.run()
    assert run.output == 303, run.reason
    assert totals[-1].calls == 3
    assert totals[-1].output_tokens == 3
    assert run_values(run)["input_tokens"] == 303
    assert run_values(run)["cost_usd"] == pytest.approx(float(totals[-1].cost_usd))
    assert totals[-1].cost_usd > 0
    values = attempt_values(run)
    assert {target: value["input_tokens"] for target, value in values.items()} == {
        "s0@0": 100,
        "s1@0": 101,
        "s2@0": 102,
    }
    assert values["s0@0"] == {
        "input_tokens": 100,
        "output_tokens": 1,
        "request_model": "gpt-5",
        "provider": "openai",
        "operation_name": "chat",
    }


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_failed_attempts_are_spent_and_say_so(checkpoint: bool) -> None:
    """What an attempt spent before it failed counts, at the attempt and in the run's total."""
    app = App(*([CheckpointPlugin()] if checkpoint else []))
    attempts: list[int] = []
    seen: list[ModelUsage] = []

    @app.function(retries=3)
    async def fn(ctx: inngest.Context) -> None:
        async def flaky() -> None:
            attempts.append(len(attempts))
            spend(1000 + len(attempts))
            if len(attempts) < 3:
                raise ValueError("no")

        await ctx.step.run("first", aspend, 1)
        await ctx.step.run("flaky", flaky)
        await ctx.step.run("last", aspend, 2)
        seen.append(usage.run_total())

    run = await app.run()
    assert run.status == "Completed", run.reason
    total = seen[-1]
    assert total.input_tokens == 1 + 1001 + 1002 + 1003 + 2
    assert (total.calls, total.failed_calls) == (5, 2)
    assert total.failed_tokens == 1001 + 1002 + 2
    assert 0 < total.failed_cost_usd < total.cost_usd
    assert run_values(run)["input_tokens"] == total.input_tokens
    assert run_values(run)["failed_calls"] == 2
    assert attempt_values(run)["flaky@0"]["input_tokens"] == 1001
    assert attempt_values(run)["flaky@1"]["input_tokens"] == 1002


async def test_another_worker_knows_failed_attempts_from_the_memos() -> None:
    """A step's result names the attempts that had failed: no process has to remember them."""
    app = App(plugin=(plugin := AIPlugin()))
    attempts: list[int] = []
    seen: list[ModelUsage] = []

    class Worker(Plugin):
        """Each request after the flaky step is on a worker that has seen nothing."""

        layer = Layer.OBSERVE

        def transform_input(self, call: Call) -> None:
            if len(attempts) == 2:
                plugin._unreported.forget(call.run_id)

    app = App(Worker(), plugin=plugin)

    @app.function(retries=3)
    async def fn(ctx: inngest.Context) -> None:
        async def flaky() -> None:
            attempts.append(0)
            spend(10)
            if len(attempts) < 2:
                raise ValueError("no")

        await ctx.step.run("flaky", flaky)
        await ctx.step.run("last", aspend, 1)
        seen.append(usage.run_total())

    await app.run()
    assert (seen[-1].input_tokens, seen[-1].failed_calls) == (21, 1)


async def test_a_step_that_fails_for_good_is_in_the_total() -> None:
    """The function catches the step's error and goes on; its attempts were paid for."""
    app = App()
    seen: list[ModelUsage] = []

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> None:
        async def broken() -> None:
            spend(10)
            raise ValueError("no")

        try:
            await ctx.step.run("broken", broken)
        except inngest.StepError:
            await ctx.step.run("other", aspend, 1)
        seen.append(usage.run_total())

    run = await app.run()
    assert (seen[-1].input_tokens, seen[-1].failed_calls) == (21, 2)
    assert run_values(run)["input_tokens"] == 21


async def test_parallel_steps_and_branches_of_the_body() -> None:
    """Steps of a group count once each, and so does what each branch's body reports."""
    app = App()
    seen: list[ModelUsage] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def branch(number: int) -> None:
            async def power() -> int:
                return int(10**number)

            tokens = await ctx.step.run(f"a{number}", power)
            spend(tokens)
            await ctx.step.run(f"b{number}", aspend, 7)

        await ctx.group.parallel(tuple(functools.partial(branch, n) for n in range(4)))
        seen.append(usage.run_total())

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert seen[-1].input_tokens == 1111 + 28
    assert run_values(run)["input_tokens"] == 1111 + 28


def test_a_sync_function() -> None:
    """Steps and body of a sync function."""
    import anyio

    app = App()

    @app.function()
    def fn(ctx: inngest.ContextSync) -> int:
        tokens = ctx.step.run("a", lambda: spend(5))
        spend(tokens * 10)
        ctx.step.run("b", lambda: spend(7))
        return usage.run_total().input_tokens

    run = anyio.run(app.run)
    assert run.output == 62, run.reason
    assert run_values(run)["input_tokens"] == 62


async def test_the_same_call_reported_twice_counts_once() -> None:
    """A response id names the call; what only one report knows is kept."""
    app = App()
    seen: list[ModelUsage] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            for _ in range(2):
                usage.record(model="m", input_tokens=5, output_tokens=5, response_id="r1")
            usage.record(model="m", input_tokens=5, output_tokens=5, response_id="r2")
            usage.record(model="m", input_tokens=5, output_tokens=5)
            usage.record(model="m", input_tokens=5, output_tokens=5)
            seen.append(usage.step_total())

        await ctx.step.run("s", step)

    await app.run()
    assert seen[-1].calls == 4


async def test_an_unknown_price_is_unknown_and_not_zero(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, with what to do; the team's own price mends it."""
    prices = {"house": Price(input=1, output="2.5", cache_read=0.1)}
    app = App(plugin=AIPlugin(prices=prices))
    seen: list[ModelUsage] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            for _ in range(3):
                usage.record(model="no-such-model", input_tokens=1, output_tokens=1)
            call = usage.record(
                model="house",
                input_tokens=1_000_000,
                cache_read_tokens=500_000,
                output_tokens=1_000_000,
            )
            assert call.cost_usd == Decimal("0.5") + Decimal("0.05") + Decimal("2.5")
            usage.record(model="x", input_tokens=None, output_tokens=None, cost_usd="0.25")
            seen.append(usage.step_total())

        await ctx.step.run("s", step)

    with caplog.at_level(logging.WARNING, "inngest_plugins.ai"):
        run = await app.run()
    assert seen[-1].unpriced_calls == 3
    assert seen[-1].uncounted_calls == 1
    assert seen[-1].cost_usd == Decimal("3.30")
    assert run_values(run)["unpriced_calls"] == 3
    said = [record.getMessage() for record in caplog.records if "no price" in record.getMessage()]
    assert len(said) == 1
    assert "no-such-model" in said[0]
    assert "prices=" in said[0]


def test_a_cache_beside_the_input_costs_no_less_than_nothing() -> None:
    """As some APIs report it: more tokens from the cache than there are in the input."""
    call = ModelCall(model="m", input_tokens=1, output_tokens=0, cache_read_tokens=1_000_000)
    assert Price(input=10, output=1, cache_read=2).cost(call) == Decimal(2)


async def test_cached_tokens_are_priced_as_cached() -> None:
    """The table's price of a cache read is lower than that of fresh input."""
    app = App()
    costs: list[Decimal | None] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async def step() -> None:
            for cached in (0, 900):
                call = usage.record(
                    model="gpt-5",
                    provider="openai",
                    input_tokens=1000,
                    cache_read_tokens=cached,
                    output_tokens=0,
                )
                costs.append(call.cost_usd)

        await ctx.step.run("s", step)

    await app.run()
    fresh, cached = costs
    assert fresh is not None
    assert cached is not None
    assert 0 < cached < fresh / 2


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"model": "m", "input_tokens": -1, "output_tokens": 1}, "input_tokens"),
        ({"model": "m", "input_tokens": True, "output_tokens": 1}, "not bool"),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1.5}, "not float"),
        ({"model": "", "input_tokens": 1, "output_tokens": 1}, "model"),
        (
            {"model": "m", "input_tokens": 1, "output_tokens": 1, "cache_read_tokens": 5},
            "Anthropic",
        ),
        (
            {"model": "m", "input_tokens": 1, "output_tokens": 1, "reasoning_tokens": 5},
            "reasoning",
        ),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1, "cost_usd": -1}, "US dollars"),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1, "cost_usd": "nan"}, "US dollars"),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1, "cost_usd": "1 USD"}, "US dollars"),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1, "cost_usd": "1e999"}, "US dollars"),
        ({"model": "m", "input_tokens": 10**30, "output_tokens": 1}, "input_tokens"),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1, "operation": None}, "operation"),
        ({"model": "m", "input_tokens": 1, "output_tokens": 1, "provider": 5}, "provider"),
        (
            {"model": "m", "input_tokens": 1, "output_tokens": 1, "response_id": ["r"]},
            "response_id",
        ),
    ],
)
async def test_figures_that_cannot_be_right_are_refused(figures: Any, told: str) -> None:
    """The error names the figure; nothing is counted."""
    app = App()
    problems: list[str] = []

    @app.function()
    async def fn(ctx: inngest.Context) -> int:
        try:
            usage.record(**figures)
        except UsageValueError as err:
            problems.append(str(err))
        return usage.run_total().calls

    run = await app.run()
    assert run.output == 0, run.reason
    assert told in problems[0]


def test_outside_of_a_run_it_says_what_to_do() -> None:
    """`usage` needs a run."""
    with pytest.raises(UsageContextError, match="outside of a run"):
        spend(1)


async def test_without_the_plugin_it_says_what_to_do() -> None:
    """`usage` needs the plugin."""
    client = inngest.Inngest(app_id="bare", is_production=False, middleware=[CheckpointPlugin()])
    app = App()
    app.client = client
    problems: list[str] = []

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        try:
            usage.run_total()
        except UsageContextError as err:
            problems.append(str(err))

    await app.run()
    assert "AIPlugin()" in problems[0]


async def test_other_plugins_read_the_figures_from_the_core() -> None:
    """A plugin further out finds the step's and the run's usage under the core's key."""
    found: list[tuple[int, int]] = []

    class Reader(Plugin):
        layer = Layer.OBSERVE

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None:
                found.append((outcome.step[USAGE].input_tokens, call[USAGE].input_tokens))

    app = App(Reader())

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("a", aspend, 5)
        await ctx.step.run("b", aspend, 7)

    await app.run()
    assert found == [(5, 5), (7, 12)]


async def test_wrong_prices_are_refused() -> None:
    """At construction, naming the model."""
    with pytest.raises(TypeError, match="'m'"):
        AIPlugin(prices={"m": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="Price"):
        AIPlugin(prices=3)  # type: ignore[arg-type]
    with pytest.raises(UsageValueError, match="output"):
        Price(input=1, output=-1)


@pytest.mark.parametrize("stored", [{"k": {"calls": "x"}}, {"k": 3}, {"k": {"cost_usd": "x"}}, [1]])
async def test_what_is_malformed_beside_a_result_fails_no_run(stored: Any) -> None:
    """Telemetry of another version, or of something else under the same name."""

    class Other(Plugin):
        layer = Layer.CONTRACT

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None and outcome.step.id == "a":
                outcome.attach("ai", stored)

    app = App(Other())

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> int:
        await ctx.step.run("a", aspend, 5)
        await ctx.step.run("b", aspend, 7)
        return usage.run_total().input_tokens

    run = await app.run()
    assert run.output == 7, run.reason
