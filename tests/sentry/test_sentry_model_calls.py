"""Beside a plugin that counts model calls, a step's span says what its calls used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk

from inngest_plugins.ai import AIPlugin, usage
from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Sentry

pytestmark = pytest.mark.anyio


def spans_of_steps(sentry: Sentry) -> dict[str, list[dict[str, Any]]]:
    """The data of each attempt's span, by step; only what is of model calls."""
    found: dict[str, list[dict[str, Any]]] = {}
    for transaction in sentry.transactions:
        for span in transaction["spans"]:
            if span["op"] == "inngest.step":
                data = {name: value for name, value in span["data"].items() if "gen_ai" in name}
                found.setdefault(span["description"], []).append(data)
    return found


async def test_a_step_s_span_has_model_tokens_and_cost(sentry: Sentry, shop: MakeShop) -> None:
    """Each attempt its own, failed ones too; a step without calls has nothing of it."""
    attempts: list[int] = []

    async def answer() -> str:
        attempts.append(len(attempts))
        usage.record(
            model="gpt-5",
            provider="openai",
            input_tokens=1000,
            cache_read_tokens=300,
            output_tokens=50,
            reasoning_tokens=20,
        )
        if len(attempts) == 1:
            raise ValueError("after it has spent")
        usage.record(model="no-such-model", input_tokens=1, output_tokens=1)
        return "secret"

    async def fine() -> str:
        return "fine"

    async def unpriced() -> None:
        usage.record(model="no-such-model", input_tokens=1, output_tokens=1)

    async def body(ctx: Any, step: Any) -> None:
        await step.run("answer", answer)
        await step.run("fine", fine)
        await step.run("unpriced", unpriced)

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin(), AIPlugin())
    app.function(body, retries=1)
    run = await app.run()
    assert run.status == "Completed", run.reason
    spans = spans_of_steps(sentry)
    first, second = spans["answer"]
    cost = first.pop("gen_ai.cost.total_tokens")
    assert cost > 0
    assert first == {
        "gen_ai.request.model": "gpt-5",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.input_tokens.cached": 300,
        "gen_ai.usage.input_tokens.cache_write": 0,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.output_tokens.reasoning": 20,
        "gen_ai.usage.total_tokens": 1050,
    }
    assert second["gen_ai.request.model"] == "gpt-5, no-such-model"
    assert second["gen_ai.usage.total_tokens"] == 1052
    assert second["gen_ai.cost.total_tokens"] == pytest.approx(cost)
    assert spans["fine"] == [{}]
    (only,) = spans["unpriced"]
    assert only["gen_ai.usage.total_tokens"] == 2
    assert "gen_ai.cost.total_tokens" not in only
    assert "secret" not in sentry.text


async def test_what_sentry_adds_up_has_each_call_once(sentry: Sentry, shop: MakeShop) -> None:
    """Sentry adds up spans whose operation begins with `gen_ai.`, and a step's does not."""

    async def answer() -> None:
        with sentry_sdk.start_span(op="gen_ai.chat", name="chat gpt-5") as span:
            span.set_data("gen_ai.usage.total_tokens", 1050)
            usage.record(model="gpt-5", input_tokens=1000, output_tokens=50)

    async def body(ctx: Any, step: Any) -> None:
        await step.run("answer", answer)

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin(), AIPlugin())
    app.function(body)
    await app.run()
    assert sentry.text.count('"gen_ai.usage.total_tokens"') == 2
    (own,) = spans_of_steps(sentry)["answer"]
    assert own["gen_ai.usage.total_tokens"] == 1050
    assert "gen_ai.operation.name" not in own
