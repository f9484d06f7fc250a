"""The README's examples, run; and the plugin beside encryption."""

from __future__ import annotations

import json
import types
from typing import Any

import inngest
import pytest
from tests.ai.ai_rig import App, run_values
from tests.readme import modules_of

from inngest_plugins.ai import BudgetStore, usage
from inngest_plugins.ai.spans import UsageSpanProcessor
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Each Python block of the README, executed as a module of its own."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    return modules_of("ai", monkeypatch)


async def test_the_readme_s_examples_work(modules: list[dict[str, Any]]) -> None:
    """The first example runs and tells; the others make what they say."""
    first, client, spans, prices, budgets, mending = modules

    async def call_model(question: str) -> Any:
        return types.SimpleNamespace(input_tokens=11, output_tokens=7, text=question.upper())

    first["call_model"] = call_model
    async with LocalEngine(first["client"], [first["support"]]) as engine:
        event = inngest.Event(name="support/asked", data={"question": "why"})
        run = await engine.run(event)
    assert run.output == "WHY", run.reason
    assert run_values(run)["input_tokens"] == 11
    assert run_values(run)["cost_usd"] > 0
    assert type(client["make_client"]()).__name__ == "AsyncOpenAI"
    processors = spans["provider"]._active_span_processor._span_processors
    assert [type(one) for one in processors] == [UsageSpanProcessor]
    assert prices["plugin"]._prices._own["house-model"].output == "1.60"
    assert isinstance(budgets["store"], BudgetStore)
    assert mending["store"].balance(mending["account"]).spent == -500


async def test_beside_encryption_totals_are_right_and_travel_sealed() -> None:
    """What travels with a result is sealed with it; what is for the dashboard is not."""
    app = App(EncryptionPlugin(KeyRing.generate()))

    @app.function(retries=2)
    async def fn(ctx: inngest.Context) -> int:
        async def step(tokens: int) -> str:
            usage.record(model="gpt-5", input_tokens=tokens, output_tokens=0)
            return "answer"

        await ctx.step.run("a", step, 31337)
        await ctx.step.run("b", step, 1)
        return usage.run_total().input_tokens

    run = await app.run()
    assert run.result == 31338, run.reason
    assert run_values(run)["input_tokens"] == 31338
    assert "31337" not in json.dumps({name: step.value for name, step in run.steps.items()})
