"""What a durable agent uses reaches `AIPlugin` by itself, and each model call counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import inngest
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent, AgentStreamEvent, RunContext
from pydantic_ai.capabilities import AbstractCapability, Instrumentation
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.usage import RequestUsage, RunUsage
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import InngestDurability
from inngest_plugins.ai import AIPlugin, Budget, Price, usage
from inngest_plugins.ai.spans import UsageSpanProcessor
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import StackEntry
from inngest_plugins.local import Run
from inngest_plugins.otel import OpenTelemetryPlugin, make_replay_safe

pytestmark = pytest.mark.anyio

PRICES = {"scripted": Price(input="1", output="2")}


class CountUsage(AbstractCapability[object]):
    """What users write who count by hand."""

    async def after_model_request(
        self, ctx: Any, *, request_context: Any, response: ModelResponse
    ) -> ModelResponse:
        usage.record(
            model=response.model_name or "",
            response_id=response.provider_response_id,
            input_tokens=response.usage.input_tokens,
            output_tokens=response.usage.output_tokens,
        )
        return response


def instrumented(provider: TracerProvider) -> Instrumentation:
    """Pydantic AI's own spans, counted by the AI plugin's span processor."""
    provider.add_span_processor(UsageSpanProcessor())
    settings = InstrumentationSettings(tracer_provider=provider, meter_provider=NoOpMeterProvider())
    return Instrumentation(settings)


def seen_by(reporters: str) -> tuple[list[StackEntry], list[AbstractCapability[object]]]:
    """The plugins and capabilities by which a call is reported a second and a third time."""
    plugins: list[StackEntry] = []
    capabilities: list[AbstractCapability[object]] = []
    if "by hand" in reporters:
        capabilities.append(CountUsage())
    if "spans" in reporters:
        provider = TracerProvider()
        if "replay-safe" in reporters:
            make_replay_safe(provider)
            plugins.append(
                OpenTelemetryPlugin(tracer_provider=provider, meter_provider=NoOpMeterProvider())
            )
        capabilities.append(instrumented(provider))
    return plugins, capabilities


def told(run: Run) -> list[int]:
    """What the engine was told of the run: calls, input and output tokens."""
    values: dict[str, Any] = run.metadata.get("run", {}).get("userland.ai", {})
    names = ("calls", "input_tokens", "output_tokens")
    return [values.get(name, 0) for name in names]


def figures(used: RunUsage) -> list[int]:
    """The same of Pydantic AI's own books."""
    return [used.requests, used.input_tokens, used.output_tokens]


def totals() -> list[int]:
    """The same as the function sees it."""
    total = usage.run_total()
    return [total.calls, total.input_tokens, total.output_tokens]


REPORTERS = ["nobody else", "spans", "by hand and spans"]


@pytest.mark.parametrize(
    ("reporters", "checkpoints", "ids"),
    [
        ("nobody else", True, True),
        ("nobody else", False, False),
        ("spans", True, False),
        ("spans", False, False),
        ("spans", False, True),
        ("replay-safe spans", False, False),
        ("replay-safe spans", True, True),
        ("by hand", True, True),
        ("by hand", False, False),
        ("by hand and spans", True, True),
        ("by hand and spans", False, False),
    ],
)
async def test_each_call_counts_once(reporters: str, checkpoints: bool, ids: bool) -> None:
    """With parallel tools, a tool that fails, replays, and whoever reports the calls, too."""

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        made = returned(messages)
        made.provider_response_id = f"answer-{len(messages)}" if ids else None
        return made

    def ask(messages: list[ModelMessage]) -> ModelResponse:
        parts = calls("clock", "shaky", "clock")
        made = f"answer-{len(messages)}" if ids else None
        return ModelResponse(parts=parts, provider_response_id=made)

    plugins, capabilities = seen_by(reporters)
    if checkpoints:
        plugins.append(CheckpointPlugin())
    app = App(AIPlugin(prices=PRICES), *plugins)
    script = Script(ask, ask, answer)
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[*capabilities, InngestDurability()]
    )

    @agent.tool_plain
    async def clock() -> int:
        return 12

    @agent.tool_plain
    async def shaky() -> str:
        app.count["shaky"] += 1
        if app.count["shaky"] % 2:
            raise OSError("line noise")
        return "fine"

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        return [totals(), figures(result.usage), usage.run_total().unpriced_calls]

    run = await app.run(body)
    counted, used, unpriced = completed(run)
    assert counted == used
    assert told(run) == used
    assert script.asked == used[0] == 3
    assert unpriced == 0


async def test_without_the_ai_plugin_nothing_changes() -> None:
    """Nobody counts, and nobody is asked to."""
    agent: Agent[object, str] = Agent(
        TestModel(custom_output_text="hello"), name="support", capabilities=[InngestDurability()]
    )

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body)
    assert completed(run) == "hello"
    assert told(run) == [0, 0, 0]


@pytest.mark.parametrize("reporters", REPORTERS)
async def test_an_agent_inside_of_a_step(reporters: str) -> None:
    """It runs as always, and its calls are the step's."""
    plugins, capabilities = seen_by(reporters)
    app = App(AIPlugin(prices=PRICES), *plugins)
    agent: Agent[object, str] = Agent(
        Script(calls("clock"), returned).model,
        name="support",
        capabilities=[*capabilities, InngestDurability()],
    )

    @agent.tool_plain
    async def clock() -> int:
        return 12

    async def ask() -> list[int]:
        return figures((await agent.run("hi")).usage)

    async def body(ctx: inngest.Context) -> Any:
        used = await ctx.step.run("ask", ask)
        return [totals(), used]

    counted, used = completed(await app.run(body))
    assert counted == used


def test_an_agent_inside_of_a_step_of_a_sync_function() -> None:
    """`run_sync`, on a loop of its own."""
    app = App(AIPlugin(prices=PRICES))
    agent: Agent[object, str] = Agent(
        Script("hello").model, name="support", capabilities=[InngestDurability()]
    )

    def ask() -> list[int]:
        return figures(agent.run_sync("hi").usage)

    def body(ctx: inngest.ContextSync) -> Any:
        used = ctx.step.run("ask", ask)
        return [totals(), used]

    sync_body: Any = body
    counted, used = completed(asyncio.run(app.run(sync_body)))
    assert counted == used


@pytest.mark.parametrize("reporters", REPORTERS)
async def test_agents_at_the_same_time_and_inside_of_tools(reporters: str) -> None:
    """Two runs of one agent in parallel, whose tool runs another one."""
    plugins, capabilities = seen_by(reporters)
    app = App(AIPlugin(prices=PRICES), *plugins)
    inner = Script("found")
    helper: Agent[object, str] = Agent(
        inner.model, name="helper", capabilities=[*capabilities, InngestDurability()]
    )
    outer = Script(calls("research", "research"), returned)
    agent: Agent[object, str] = Agent(
        outer.model, name="support", capabilities=[*capabilities, InngestDurability()]
    )

    @agent.tool
    async def research(ctx: RunContext[object]) -> str:
        return (await helper.run("find", usage=ctx.usage)).output

    async def body(ctx: inngest.Context) -> Any:
        left, right = await asyncio.gather(agent.run("hi"), agent.run("hi"))
        used = [a + b for a, b in zip(figures(left.usage), figures(right.usage), strict=True)]
        return [totals(), used]

    run = await app.run(body)
    counted, used = completed(run)
    assert counted == used == told(run)
    assert used[0] == outer.asked + inner.asked == 8


async def test_a_budget_stops_the_agent_at_its_next_step() -> None:
    """The model is not asked again."""
    app = App(AIPlugin(prices=PRICES, budgets=[Budget(tokens=51, per="run")]))
    script = Script(calls("clock"), returned)
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[InngestDurability()]
    )

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    assert "budget" in failure(await app.run(body))
    assert (script.asked, app.count["clock"]) == (1, 0)


async def test_attempts_that_fail_after_the_answer_count() -> None:
    """The answer was paid for: a retry of the step asks again, and both count."""
    app = App(AIPlugin(prices=PRICES))

    async def handle(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for _ in events:
            pass
        app.count["handled"] += 1
        if app.count["handled"] == 1:
            raise OSError("nobody listens")

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "hello"

    agent: Agent[object, str] = Agent(
        FunctionModel(stream_function=stream, model_name="scripted"),
        name="support",
        capabilities=[InngestDurability(event_stream_handler=handle)],
    )

    async def body(ctx: inngest.Context) -> Any:
        await agent.run("hi")
        total = usage.run_total()
        return [total.calls, total.failed_calls, total.failed_tokens * 2 == total.tokens]

    assert completed(await app.run(body)) == [2, 1, True]


async def test_a_stream_that_breaks_off_counts_with_what_is_known() -> None:
    """What came until then; an attempt whose request fails has nothing to count."""
    app = App(AIPlugin(prices=PRICES))

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        app.count["asked"] += 1
        if app.count["asked"] == 1:
            raise OSError("no line")
        yield "one two "
        if app.count["asked"] == 2:
            raise OSError("cut off")
        yield "three"

    async def handle(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for _ in events:
            pass

    agent: Agent[object, str] = Agent(
        FunctionModel(stream_function=stream, model_name="scripted"),
        name="support",
        capabilities=[InngestDurability(event_stream_handler=handle)],
    )

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        total = usage.run_total()
        whole = result.usage
        return [total.calls, total.failed_calls, total.output_tokens - whole.output_tokens]

    assert completed(await app.run(body)) == [2, 1, 2]


async def test_what_answers_in_the_model_s_place_counts() -> None:
    """Such as a capability that asks by a batch: the model inside of it is not asked."""

    class Elsewhere(WrapperModel):
        async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
            return ModelResponse(
                parts=[TextPart("yes")],
                usage=RequestUsage(input_tokens=70, output_tokens=3),
                model_name="batched",
            )

    class AskElsewhere(AbstractCapability[object]):
        def get_wrapper_model(self, model: Model) -> Model:
            return Elsewhere(model)

    app = App(AIPlugin(prices=PRICES))
    agent: Agent[object, str] = Agent(
        Script("no").model, name="support", capabilities=[AskElsewhere(), InngestDurability()]
    )

    async def body(ctx: inngest.Context) -> Any:
        output = (await agent.run("hi")).output
        return [output, *totals()]

    assert completed(await app.run(body)) == ["yes", 1, 70, 3]


async def test_answers_that_a_fallback_refused_count() -> None:
    """They were paid for; a model that raised told nothing."""
    app = App(AIPlugin(prices=PRICES))

    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise OSError("down")

    def weak(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(
            parts=[TextPart("no")], usage=RequestUsage(input_tokens=70, output_tokens=3)
        )

    def refused(response: ModelResponse) -> bool:
        return response.model_name == "weak"

    model = FallbackModel(
        FunctionModel(fail, model_name="down"),
        FunctionModel(weak, model_name="weak"),
        Script("yes").model,
        fallback_on=[OSError, refused],
    )
    agent: Agent[object, str] = Agent(model, name="support", capabilities=[InngestDurability()])

    async def body(ctx: inngest.Context) -> Any:
        await agent.run("hi")
        total = usage.run_total()
        return [total.calls, total.input_tokens > 70, list(total.models)]

    assert completed(await app.run(body)) == [2, True, ["weak", "scripted"]]


async def test_answers_without_figures_are_unknown() -> None:
    """And not zero; each once, whoever reports it."""
    plugins, capabilities = seen_by("spans")
    app = App(AIPlugin(prices=PRICES), *plugins)

    def silent(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("yes")])

    class Silent(FunctionModel):
        """FunctionModel estimates figures; this one is a provider that tells none."""

        async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
            response = await super().request(*args, **kwargs)
            response.usage = RequestUsage(unmeasured_requests=1)
            return response

    agent: Agent[object, str] = Agent(
        Silent(silent, model_name="scripted"),
        name="support",
        capabilities=[*capabilities, InngestDurability()],
    )

    async def ask() -> str:
        return (await agent.run("hi")).output

    async def body(ctx: inngest.Context) -> Any:
        await agent.run("hi")
        await ctx.step.run("ask", ask)
        total = usage.run_total()
        return [total.calls, total.uncounted_calls, total.tokens]

    assert completed(await app.run(body)) == [2, 2, 0]
