"""`USAGE_RECORDER`: model calls that other plugins and libraries make."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import inngest
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.ai.ai_rig import App, run_values

from inngest_plugins.ai import AIPlugin, ModelCall, usage
from inngest_plugins.ai.calls import metrics
from inngest_plugins.ai.spans import UsageSpanProcessor
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import USAGE_RECORDER, Call, UsageRecorder

pytestmark = pytest.mark.anyio

CALL = ModelCall(model="gpt-5", provider="openai", input_tokens=100, output_tokens=10)
OTHER: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}
SAME: dict[str, Any] = {**OTHER, "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10}


def recorder() -> UsageRecorder:
    call = Call.current()
    assert call is not None
    return call[USAGE_RECORDER]


async def record() -> int:
    recorder().record(CALL)
    return 1


async def test_other_reports_in_the_step_count_nothing() -> None:
    """By equal counts, each source once: a second call of the same counts is a call."""
    app = App()

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> list[int]:
        async def step() -> None:
            recorder().record(CALL)
            usage.record(model="openai/gpt-5", input_tokens=100, output_tokens=10)
            recorder().record(CALL)
            usage.record(model="gpt-5", input_tokens=7, output_tokens=1)

        await ctx.step.run("s", step)
        return [usage.run_total().calls, usage.run_total().input_tokens]

    assert (await app.run()).output == [3, 207]


@pytest.mark.parametrize("checkpoints", [True, False])
async def test_what_the_body_reports_of_a_step_s_call_counts_nothing(checkpoints: bool) -> None:
    """Spans around the step, with figures and cut off without them, and what is recorded by hand.

    What the body reports of another model counts, also with the same figures.
    """
    provider = TracerProvider()
    provider.add_span_processor(UsageSpanProcessor())
    tracer = provider.get_tracer("x")
    app = App(*[CheckpointPlugin()] * checkpoints)

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> list[Any]:
        for number in range(2):
            with (
                tracer.start_as_current_span("agent"),
                tracer.start_as_current_span("chat", attributes=OTHER) as span,
            ):
                await ctx.step.run(f"s{number}", record)
                recorder().recorded(CALL)
                span.set_attributes(SAME)
            usage.record(model="gpt-5", input_tokens=100, output_tokens=10)
        usage.record(model="o4-mini", input_tokens=100, output_tokens=10)
        total = usage.run_total()
        return [total.calls, total.uncounted_calls, list(total.models)]

    run = await app.run()
    assert run.output == [3, 0, ["gpt-5", "o4-mini"]]
    assert run_values(run)["calls"] == 3


async def test_a_price_that_cannot_be_told_fails_no_step(caplog: pytest.LogCaptureFixture) -> None:
    """Telemetry of others never raises; the tokens count, at a cost that is unknown."""

    def price(call: ModelCall) -> Decimal | None:
        raise RuntimeError("no list of prices")

    app = App(plugin=AIPlugin(prices=price))

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> list[int]:
        await ctx.step.run("s", record)
        total = usage.run_total()
        return [total.calls, total.tokens, total.unpriced_calls]

    assert (await app.run()).output == [1, 110, 1]
    assert "no list of prices" in caplog.text


async def test_without_opentelemetry_s_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts; there is no metric and no span to ask."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    metrics._histogram.cache_clear()
    app = App()

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> int:
        await ctx.step.run("s", record)
        recorder().recorded(CALL)
        usage.record(model="gpt-5", input_tokens=100, output_tokens=10)
        return usage.run_total().calls

    try:
        assert (await app.run()).output == 1
    finally:
        metrics._histogram.cache_clear()


async def test_an_impossible_figure_has_no_price() -> None:
    """A provider's figures are taken as they are; the table of prices refuses these."""
    app = App()
    odd = ModelCall(
        model="gpt-5", provider="openai", input_tokens=1, output_tokens=1, cache_read_tokens=9
    )

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> list[int]:
        async def step() -> None:
            recorder().record(odd)

        await ctx.step.run("s", step)
        return [usage.run_total().calls, usage.run_total().unpriced_calls]

    assert (await app.run()).output == [1, 1]
