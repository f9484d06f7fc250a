"""Durable agents beside the other plugins: sealed payloads, one trace a run, checkpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import inngest
import pytest
import svcs
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.usage import RunUsage
from tests.agents.agents_app import App, Script, calls, completed, returned

from inngest_plugins.agents import InngestDurability, StepConfig
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, StackEntry
from inngest_plugins.injection import InjectionPlugin, aget
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

pytestmark = pytest.mark.anyio


class Telemetry:
    """Spans and metrics kept in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = replay_safe_provider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = NoOpMeterProvider()
        self.plugin = OpenTelemetryPlugin(tracer_provider=self.provider, meter_provider=meters)
        self.settings = InstrumentationSettings(
            tracer_provider=self.provider, meter_provider=meters
        )

    @property
    def agents(self) -> list[ReadableSpan]:
        """The spans that Pydantic AI made."""
        return [
            span
            for span in self.exporter.get_finished_spans()
            if span.instrumentation_scope is not None
            and span.instrumentation_scope.name == "pydantic-ai"
        ]


async def test_one_trace_a_run_and_each_agent_span_once() -> None:
    """However often the run is replayed, retried and targeted (pydantic-ai 6919, 6974)."""
    telemetry = Telemetry()
    app = App(telemetry.plugin)
    script = Script(calls("clock", "shaky", "clock"), calls("clock"), returned)
    agent: Agent[object, str] = Agent(
        script.model,
        name="support",
        capabilities=[Instrumentation(telemetry.settings), InngestDurability()],
    )

    @agent.tool_plain
    async def clock() -> int:
        return 12

    @agent.tool_plain
    async def shaky() -> str:
        app.count["shaky"] += 1
        if app.count["shaky"] <= 2:
            raise OSError("line noise")
        return "fine"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "clock=12"
    names = Counter(span.name for span in telemetry.agents)
    assert names == {
        "invoke_agent support": 1,
        "chat scripted": 3,
        "execute_tool clock": 3,
        "execute_tool shaky": 1,
    }
    contexts = [
        span.get_span_context()
        for span in telemetry.exporter.get_finished_spans()
        if span.name != "send go"  # the event that starts the run has its sender's trace
    ]
    assert len({context.trace_id for context in contexts if context is not None}) == 1
    ids = {context.span_id for context in contexts if context is not None}
    (agent_span,) = (span for span in telemetry.agents if span.name == "invoke_agent support")
    for span in telemetry.agents:
        assert span.parent is not None
        assert span.parent.span_id in ids
        assert span.status.status_code.name != "ERROR", span.name
        if span is not agent_span:
            assert agent_span.context is not None
            assert span.parent.span_id == agent_span.context.span_id


async def test_steps_stand_under_the_spans_of_their_tool_calls() -> None:
    """Also those that run in a group: what a tool does is seen under its own call."""
    telemetry = Telemetry()
    app = App(telemetry.plugin)
    agent: Agent[object, str] = Agent(
        Script(calls("left", "right"), returned).model,
        name="support",
        capabilities=[Instrumentation(telemetry.settings), InngestDurability()],
    )
    tracer = telemetry.provider.get_tracer("user")

    @agent.tool_plain
    async def left() -> str:
        with tracer.start_as_current_span("in left"):
            return "l"

    @agent.tool_plain
    async def right() -> str:
        with tracer.start_as_current_span("in right"):
            return "r"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    assert completed(await app.run(body)) == "left=l; right=r"
    spans = {
        span.context.span_id: span
        for span in telemetry.exporter.get_finished_spans()
        if span.context is not None
    }
    for side in ("left", "right"):
        (inner,) = (span for span in spans.values() if span.name == f"in {side}")
        above: list[str] = []
        at: ReadableSpan | None = inner
        while at is not None and at.parent is not None:
            at = spans.get(at.parent.span_id)
            above.append("" if at is None else at.name)
        assert f"execute_tool {side}" in above
        assert f"step support__tool:{side}" in above


async def test_hooks_of_steps_see_the_context_of_the_tool() -> None:
    """`RunContext` in a step is that of its call, not that of the call that led the group."""
    app = App()
    agent: Agent[object, str] = Agent(
        Script(calls("who", "who", "me"), returned).model,
        name="support",
        capabilities=[InngestDurability()],
    )

    @agent.tool
    async def who(ctx: RunContext[object]) -> str:
        return f"{ctx.tool_name} {ctx.tool_call_id}"

    @agent.tool(metadata={"inngest": StepConfig(retries=1)})
    async def me(ctx: RunContext[object]) -> str:
        return f"{ctx.tool_name} {ctx.tool_call_id}"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "who=who call-0; who=who call-1; me=me call-2"


async def test_an_agent_of_twenty_calls_is_one_request_with_checkpoints() -> None:
    """Steps that follow one another need no request of their own; usage counts once."""
    script, app = Script(*[calls("count")] * 10, returned), App(CheckpointPlugin())
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[InngestDurability()]
    )

    @agent.tool
    async def count(ctx: RunContext[object]) -> int:
        app.count["count"] += 1
        ctx.usage.incr(RunUsage(details={"counted": 1}))
        return app.count["count"]

    async def body(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        return [result.output, result.usage.requests, result.usage.details]

    run = await app.run(body)
    assert completed(run) == ["count=10", 11, {"counted": 10}]
    assert len(run.steps) == 21
    assert (script.asked, app.count["count"]) == (11, 10)
    assert len(run.requests) == 1


async def test_checkpoints_change_nothing_of_an_agent_with_parallel_tools() -> None:
    """The same result, calls and spans, in fewer requests."""

    async def outcome(*plugins: StackEntry) -> tuple[Any, ...]:
        telemetry = Telemetry()
        app = App(telemetry.plugin, *plugins)
        script = Script(calls("clock", "shaky"), calls("clock"), calls("shaky", "clock"), returned)
        agent: Agent[object, str] = Agent(
            script.model,
            name="support",
            capabilities=[Instrumentation(telemetry.settings), InngestDurability()],
        )

        agent.tool_plain(app.clock)

        @agent.tool_plain
        async def shaky() -> str:
            app.count["shaky"] += 1
            if app.count["shaky"] % 3:
                raise OSError("line noise")
            return "fine"

        async def body(ctx: inngest.Context) -> Any:
            return (await agent.run("hi")).output

        run = await app.run(body)
        names = Counter(span.name for span in telemetry.agents)
        return completed(run), script.asked, app.count, names, sorted(run.steps)

    assert await outcome() == await outcome(CheckpointPlugin())


async def test_services_of_a_tool_are_opened_in_its_step_and_closed_with_it() -> None:
    """The injection plugin's scopes hold for tools as for any step."""
    open_now: list[str] = []

    class Session:
        """A service."""

    def opened() -> Iterator[Session]:
        call = Call.current()
        assert call is not None
        assert call.step is not None
        app.count["opened"] += 1
        open_now.append(call.step.id)
        yield Session()
        open_now.remove(call.step.id)

    registry = svcs.Registry()
    registry.register_factory(Session, opened)
    app = App(InjectionPlugin(registry))
    script = Script(calls("one", "two"), calls("one"), returned)
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[InngestDurability()]
    )

    @agent.tool_plain
    async def one() -> list[str]:
        await aget(Session)
        return list(open_now)

    @agent.tool_plain
    async def two() -> list[str]:
        await aget(Session)
        return list(open_now)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    assert completed(await app.run(body)) == "one=['support__tool:one:1']"
    assert (app.count["opened"], open_now) == (3, [])
