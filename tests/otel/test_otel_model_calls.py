"""Beside a plugin that counts model calls, a step's span says what its calls used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import inngest
import pytest

from inngest_plugins.ai import AIPlugin, usage
from inngest_plugins.ai.spans import UsageSpanProcessor

if TYPE_CHECKING:
    from tests.otel.conftest import Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")


async def test_a_step_s_span_has_the_figures_and_counts_nothing_twice(
    telemetry: Telemetry,
) -> None:
    """Spans of calls and calls without one: each is in the step's figures, and once in the sum."""
    telemetry.provider.add_span_processor(UsageSpanProcessor())
    client = telemetry.client(AIPlugin())

    @client.create_function(fn_id="fn", trigger=ORDER, retries=0)
    async def fn(ctx: inngest.Context) -> int:
        async def answer() -> None:
            with telemetry.tracer.start_as_current_span("chat gpt-5") as span:
                span.set_attributes(
                    {
                        "gen_ai.operation.name": "chat",
                        "gen_ai.request.model": "gpt-5",
                        "gen_ai.usage.input_tokens": 1000,
                        "gen_ai.usage.output_tokens": 50,
                    }
                )
            usage.record(model="no-such-model", input_tokens=3, output_tokens=4)

        async def fine() -> None:
            return None

        await ctx.step.run("answer", answer)
        await ctx.step.run("fine", fine)
        return usage.run_total().tokens

    run = await telemetry.run(client, fn)
    assert run.output == 1057, run.reason
    attributes = telemetry.one("step answer").attributes
    assert attributes["inngest.step.models"] == ("gpt-5", "no-such-model")
    assert attributes["inngest.step.model_calls"] == 2
    assert attributes["inngest.step.input_tokens"] == 1003
    assert attributes["inngest.step.output_tokens"] == 54
    assert attributes["inngest.step.cost_usd"] > 0
    assert attributes["inngest.step.unpriced_calls"] == 1
    assert "inngest.step.model_calls" not in telemetry.one("step fine").attributes
    with_tokens = [one for one in telemetry.spans if "gen_ai.usage.input_tokens" in one.attributes]
    assert [one.name for one in with_tokens] == ["chat gpt-5"]
