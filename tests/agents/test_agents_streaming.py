"""Streams: their events are handled in the step that asks the model, once."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent, AgentStreamEvent, RunContext
from pydantic_ai.capabilities import ProcessEventStream
from pydantic_ai.messages import (
    ModelMessage,
    PartDeltaEvent,
    TextPartDelta,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import InngestDurability
from inngest_plugins.core import Call

pytestmark = pytest.mark.anyio

Deltas = AsyncIterator[str | dict[int, DeltaToolCall]]


class Streamed:
    """A model that streams a tool call, then words."""

    def __init__(self) -> None:
        self.asked = 0
        self.model = FunctionModel(stream_function=self._stream, model_name="streamed")

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> Deltas:
        self.asked += 1
        parts = [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]
        if not parts:
            yield {0: DeltaToolCall(name="clock", json_args="{}", tool_call_id="call-0")}
            return
        for word in ("It ", "is ", f"{parts[-1].content}."):
            yield word


async def test_events_are_handled_once_each() -> None:
    """Those of the model in its step, as they come; each other one in a step of its own."""
    streamed, app = Streamed(), App()
    words: list[str] = []
    others: list[str] = []
    steps: set[str] = set()

    async def handle(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            call = Call.current()
            assert call is not None
            assert call.step is not None
            steps.add(call.step.id)
            if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                words.append(event.delta.content_delta)
            elif "Function" in type(event).__name__:
                others.append(type(event).__name__)

    agent: Agent[object, str] = Agent(
        streamed.model,
        name="support",
        capabilities=[InngestDurability(event_stream_handler=handle)],
    )

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body)
    assert completed(run) == "It is 12."
    assert "".join(words) in {"It is 12.", "is 12."}
    assert others == ["FunctionToolCallEvent", "FunctionToolResultEvent"]
    assert (streamed.asked, app.count["clock"]) == (2, 1)
    assert {"support__model.request_stream", "support__model.request_stream:1"} <= steps
    assert "support__event" in steps


async def test_run_stream_replays_what_was_streamed() -> None:
    """`run_stream` in a function gives the words of the stored answer."""
    streamed, app = Streamed(), App()
    agent: Agent[object, str] = Agent(
        streamed.model, name="support", capabilities=[InngestDurability()]
    )

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> Any:
        async with agent.run_stream("hi") as result:
            texts = [text async for text in result.stream_text()]
        return [texts[-1], await result.get_output()]

    run = await app.run(body)
    assert completed(run) == ["It is 12.", "It is 12."]
    assert (streamed.asked, app.count["clock"]) == (2, 1)


async def test_a_stream_that_breaks_is_asked_for_again() -> None:
    """By the engine, as a whole."""
    asked: list[int] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> Deltas:
        asked.append(1)
        yield "It "
        if len(asked) < 3:
            raise OSError("cut off")
        yield "is."

    heard: list[str] = []

    async def handle(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            heard.append(type(event).__name__)

    agent: Agent[object, str] = Agent(
        FunctionModel(stream_function=stream),
        name="support",
        capabilities=[InngestDurability(event_stream_handler=handle)],
    )

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body)
    assert completed(run) == "It is."
    assert len(asked) == 3
    assert run.steps["support__model.request_stream"].attempts == 3


async def test_iterating_over_a_run() -> None:
    """`agent.iter` walks through the nodes on each replay and asks nobody twice."""
    script, app = Script(calls("clock", "clock"), returned), App()
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[InngestDurability()]
    )

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> Any:
        nodes: list[str] = []
        async with agent.iter("hi") as agent_run:
            async for node in agent_run:
                nodes.append(type(node).__name__)
        assert agent_run.result is not None
        return [agent_run.result.output, len(nodes)]

    run = await app.run(body)
    output, nodes = completed(run)
    assert output == "clock=12; clock=12"
    assert nodes >= 4
    assert (script.asked, app.count["clock"]) == (2, 2)


def deltas(events: list[AgentStreamEvent]) -> list[str]:
    """The words that were added to others."""
    return [
        event.delta.content_delta
        for event in events
        if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta)
    ]


async def test_other_ways_to_hear_a_stream() -> None:
    """In the body they get the stored answer as a whole, in each request that replays it."""
    app = App()
    heard: list[Any] = []

    async def words(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        app.count["asked"] += 1
        for word in ("one ", "two ", "three"):
            yield word

    async def collect(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        assert _in_body()
        heard.extend([event async for event in events])

    def make(*capabilities: Any) -> Agent[object, str]:
        return Agent(
            FunctionModel(stream_function=words),
            name="support",
            capabilities=[*capabilities, InngestDurability()],
        )

    async def of_the_agent(ctx: inngest.Context) -> Any:
        return (await make(ProcessEventStream(collect)).run("hi")).output

    async def of_the_run(ctx: inngest.Context) -> Any:
        return (await make().run("hi", event_stream_handler=collect)).output

    async def events(ctx: inngest.Context) -> Any:
        async with make().run_stream_events("hi") as stream:
            heard.extend([event async for event in stream])
        return heard[-1].result.output

    for body in (of_the_agent, of_the_run, events):
        heard.clear()
        run = await App().run(body)
        assert completed(run) == "one two three"
        assert list(run.steps) == ["support__model.request_stream"]
        starts = [vars(event.part)["content"] for event in heard if hasattr(event, "part")]
        assert set(starts) == {"one two three"}
    assert app.count["asked"] == 3


def _in_body() -> bool:
    call = Call.current()
    return call is not None and call.step is None


async def test_without_a_handler_nothing_is_streamed() -> None:
    """An agent that nobody listens to asks the model for a whole answer."""
    durability: InngestDurability[object] = InngestDurability()
    assert not durability.has_wrap_run_event_stream
    agent = Agent(Script("hi").model, name="support", capabilities=[durability])

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    assert list((await App().run(body)).steps) == ["support__model.request"]


async def test_a_handler_outside_of_a_function_and_one_that_enqueues() -> None:
    """Outside it hears everything; in a step a message that a replay would lose is refused."""
    streamed, enqueues = Streamed(), False
    heard: list[AgentStreamEvent] = []

    async def handle(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        if enqueues:
            ctx.enqueue("more")
        heard.extend([event async for event in events])

    agent: Agent[object, str] = Agent(
        streamed.model,
        name="support",
        capabilities=[InngestDurability(event_stream_handler=handle)],
    )

    @agent.tool_plain
    async def clock() -> int:
        return 12

    assert (await agent.run("hi")).output == "It is 12."
    assert deltas(heard) == ["is ", "12."]

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    enqueues = True
    run = await App().run(body, retries=3)
    assert "is not supported inside a durable step" in failure(run)
    assert len(run.requests) == 1
