"""`publish=`: what an agent says reaches subscribers as it arrives, once, and harms no run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent, AgentStreamEvent, RunContext
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.agents.agents_app import App, completed, failure

from inngest_plugins.agents import AgentConfigError, InngestDurability
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import RealtimeConnection, RealtimeTopic
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.realtime import Channel, Topic, subscribe

pytestmark = pytest.mark.anyio


class SupportChannel(Channel, name="support:{user}"):
    """Where the agent of a user speaks."""

    events = Topic(list[AgentStreamEvent])
    clear = Topic(list[AgentStreamEvent], plaintext=True)


async def speak(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Call a tool twice, then say something word by word."""
    if not any(isinstance(part, ToolReturnPart) for m in messages for part in m.parts):
        for n in range(2):
            yield {n: DeltaToolCall(name="clock", json_args="{}", tool_call_id=f"call-{n}")}
        return
    for word in ("It ", "is ", "12."):
        yield word
        await asyncio.sleep(0)


def speaking(app: App, publish: Any, **options: Any) -> Agent[Any, str]:
    """An agent that publishes, and a function that runs it."""
    durability: InngestDurability[Any] = InngestDurability(publish=publish, **options)
    model = FunctionModel(stream_function=speak)
    agent = Agent(model, name="support", deps_type=int, capabilities=[durability])

    @agent.tool_plain
    async def clock() -> int:
        app.count["clock"] += 1
        if app.count["clock"] == 1:
            raise OSError("line noise")
        return 12

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi", deps=7)).output

    app.function(body)
    return agent


def said(events: list[Any]) -> str:
    """The words among the events."""
    words = [
        event.part.content
        if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart)
        else event.delta.content_delta
        if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta)
        else ""
        for event in events
    ]
    return "".join(words)


@pytest.mark.parametrize("plugins", [(), (CheckpointPlugin(),)], ids=["", "checkpoints"])
async def test_a_subscriber_hears_the_agent(plugins: Any) -> None:
    """Typed, in order, each event once however often the run is replayed; with no step for it."""
    app = App(*plugins)
    speaking(app, lambda ctx: SupportChannel(user=ctx.deps).events)
    events: list[Any] = []
    async with app.engine() as engine:
        messages = subscribe(SupportChannel(user=7).events, client=app.client)

        async def listen() -> None:
            async for message in messages:
                events.extend(message.data)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        run = await engine.run(inngest.Event(name="go"))
        await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert completed(run) == "It is 12."
    assert said(events) == "It is 12."
    asked = [e.part.tool_call_id for e in events if isinstance(e, FunctionToolCallEvent)]
    told = [e.part.content for e in events if isinstance(e, FunctionToolResultEvent)]
    assert sorted(asked) == ["call-0", "call-1"]
    assert told == [12, 12]
    assert not any("event" in name for name in run.steps)


async def test_the_channel_of_the_run() -> None:
    """A name is a topic there; the author's own handler hears the same, in steps."""
    app = App()
    own: list[Any] = []

    async def handle(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            own.append(event)
            if isinstance(event, PartDeltaEvent):
                return  # the rest is published all the same

    agent = speaking(app, "agent", event_stream_handler=handle)
    heard: dict[str, Any] = {}

    async def listens(ctx: inngest.Context) -> Any:
        if not heard:
            heard["messages"] = engine.subscribe(ctx.run_id, ["agent"])
        return (await agent.run("hi", deps=7)).output

    app.function(listens, event="listen")
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="listen"))
    published = [event async for message in heard["messages"] for event in message.data]
    assert completed(run) == "It is 12."
    kinds = [event["event_kind"] for event in published]
    assert kinds.count("function_tool_call") == kinds.count("function_tool_result") == 2
    words = [e["delta"]["content_delta"] for e in published if e["event_kind"] == "part_delta"]
    assert "".join(map(str, words)).endswith("is 12.")
    assert any(isinstance(event, FunctionToolResultEvent) for event in own)
    assert "support__event" in run.steps


async def test_what_comes_meanwhile_goes_with_the_next_message() -> None:
    """The model's answer is not waited with; no message grows beyond what the engine takes."""
    app = App()
    length = 100_000

    async def many(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for n in range(12):
            yield str(n % 10) * length

    durability: InngestDurability[object] = InngestDurability(publish=RealtimeTopic("a", "b"))
    agent = Agent(FunctionModel(stream_function=many), name="support", capabilities=[durability])

    async def body(ctx: inngest.Context) -> Any:
        return len((await agent.run("hi")).output)

    app.function(body)
    async with app.engine() as engine:
        with engine.subscribe("a", ["b"]) as messages:
            run = await engine.run(inngest.Event(name="go"))
        published = [message.data async for message in messages]
    assert completed(run) == 12 * length
    assert 1 < len(published) < 12
    deltas = [e["delta"] for events in published for e in events if e["event_kind"] == "part_delta"]
    assert [delta["content_delta"][0] for delta in deltas] == list("12345678901")


async def test_a_message_that_cannot_be_published_harms_no_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged once for a stream, without a word of what was said; the others arrive."""
    app = App()

    async def long(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for text in ("short", "l0ng" * 150_000, "l0ng" * 150_000, "end"):
            yield text
            await asyncio.sleep(0.05)

    durability: InngestDurability[object] = InngestDurability(publish=RealtimeTopic("a", "b"))
    agent = Agent(FunctionModel(stream_function=long), name="support", capabilities=[durability])

    async def body(ctx: inngest.Context) -> Any:
        return len((await agent.run("hi")).output)

    app.function(body)
    with caplog.at_level(logging.WARNING, "inngest_plugins.agents"):
        async with app.engine() as engine:
            with engine.subscribe("a", ["b"]) as messages:
                run = await engine.run(inngest.Event(name="go"))
            published = [str(message.data) async for message in messages]
    assert completed(run) == 1_200_008
    assert "short" in published[0]
    assert any("'end'" in message for message in published)
    assert caplog.text.count("subscribers missed events of an agent") == 1
    assert "l0ng" not in caplog.text


async def test_secret_payloads_are_published_where_that_is_allowed() -> None:
    """Otherwise the run fails before the model is asked."""
    for topic, output in (("events", None), ("clear", "It is 12.")):
        app = App(EncryptionPlugin(KeyRing.generate()))
        speaking(app, lambda ctx, topic=topic: getattr(SupportChannel(user=1), topic))
        async with app.engine() as engine:
            run = await engine.run(inngest.Event(name="go"))
        if output is None:
            assert run.status == "Failed"
            assert "AgentConfigError" in str(run.error)
            assert len(run.requests) == 1
        else:
            assert run.result == output


@pytest.mark.parametrize("publish", [7, lambda ctx: None, lambda ctx: "name"])
async def test_what_is_no_topic_is_refused(publish: Any) -> None:
    """The error says what one looks like."""
    app = App()
    speaking(app, publish)
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert "takes a topic of a channel" in failure(run)
    assert len(run.requests) == 1
    assert issubclass(AgentConfigError, Exception)


async def test_outside_of_a_function_nothing_is_published() -> None:
    """The agent runs as always, and its author's handler hears it."""
    app = App()
    own: list[Any] = []

    async def handle(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        own.extend([event async for event in events])

    app.count["clock"] = 1
    agent = speaking(app, "agent", event_stream_handler=handle)
    assert (await agent.run("hi", deps=7)).output == "It is 12."
    assert said(own) == "It is 12."
    agent = speaking(app, "agent")
    assert (await agent.run("hi", deps=7)).output == "It is 12."


async def test_a_run_that_is_cancelled_waits_for_no_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is on its way is given up with it."""
    app = App()
    agent = speaking(app, "agent")
    given_up: list[str] = []
    on_its_way = asyncio.Event()

    async def hang(*where: Any, **options: Any) -> None:
        on_its_way.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            given_up.append(options["run_id"])
            raise

    monkeypatch.setattr(RealtimeConnection, "publish", hang)

    async def whole() -> str:
        running = asyncio.ensure_future(agent.run("hi", deps=7))
        await on_its_way.wait()
        running.cancel()
        await asyncio.wait([running])
        return "too late" if running.cancelled() else running.result().output

    async def body(ctx: inngest.Context) -> Any:
        return await ctx.step.run("whole", whole)

    app.function(body, fn_id="late", event="late")
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="late"))
    assert completed(run) == "too late"
    assert given_up == [run.id]
