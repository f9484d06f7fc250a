"""A subscriber gets typed messages, once, from whatever connection, until the run has ended."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import inngest
import pytest
from anyio.from_thread import BlockingPortal
from tests.core.core_realtime_server import FAST, Server, serving, until
from tests.realtime.realtime_rig import EVENT, ORDER, App, OrderChannel, Progress

from inngest_plugins.core import RealtimeTopic
from inngest_plugins.local import LocalEngine, RealClock
from inngest_plugins.realtime import (
    Channel,
    ChannelParameterError,
    Message,
    MessageTypeError,
    MissedMessages,
    PublishContextError,
    RealtimeError,
    Topic,
    publish,
    publish_sync,
    subscribe,
    subscribe_sync,
    subscription_token,
    subscription_token_sync,
)

pytestmark = pytest.mark.anyio

RUN = "01J00000000000000000000000"
PROGRESS = RealtimeTopic(ORDER.name, "progress")
LOG = RealtimeTopic(ORDER.name, "log")
SECRET = "s3cr3t"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port of loopback."""
    async with serving() as served:
        yield served


def client_of(server: Server) -> inngest.Inngest:
    return inngest.Inngest(app_id="app", is_production=False, api_base_url=server.url)


class Following:
    """A subscription that is read in the background."""

    def __init__(self, messages: Any) -> None:
        self.messages: list[Message[Any]] = []
        self.task = asyncio.create_task(self._read(messages))

    async def _read(self, messages: Any) -> None:
        async with aclosing(messages):
            async for message in messages:
                self.messages.append(message)

    @property
    def data(self) -> list[Any]:
        return [message.data for message in self.messages]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_messages_are_of_the_topics_type(server: Server) -> None:
    """One channel or several, one connection; each message knows its topic."""
    other = OrderChannel(order_id="o2")
    messages = subscribe(ORDER.progress, other.log, client=client_of(server), timing=FAST)
    following = Following(messages)
    await until(lambda: server.open)
    server.broadcast(PROGRESS, {"done": 1})
    server.broadcast(RealtimeTopic(other.name, "log"), "hello")
    server.broadcast(LOG, "not asked for")
    await until(lambda: len(following.messages) == 2)
    assert following.data == [Progress(done=1), "hello"]
    assert [message.topic for message in following.messages] == [ORDER.progress, other.log]
    assert following.messages[0].published_at is not None
    assert len(server.connections) == 1
    await following.stop()
    await until(lambda: not server.open)


@pytest.mark.parametrize("data", [{"done": -1, "note": SECRET}, SECRET, None, [SECRET]])
async def test_a_message_that_does_not_fit(
    server: Server, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that names topic and place and not the value; or left out, with a log line."""
    following = Following(subscribe(ORDER.progress, client=client_of(server), timing=FAST))
    skipping = Following(
        subscribe(ORDER.progress, client=client_of(server), timing=FAST, on_invalid="skip")
    )
    await until(lambda: len(server.open) == 2)
    with caplog.at_level(logging.WARNING, "inngest_plugins.realtime"):
        server.broadcast(PROGRESS, data)
        server.broadcast(PROGRESS, {"done": 2})
        await until(lambda: following.task.done() and skipping.messages)
    error = following.task.exception()
    assert isinstance(error, MessageTypeError)
    assert "'progress' of channel 'order:o1'" in str(error)
    assert "$" in str(error)
    assert skipping.data == [Progress(done=2)]
    assert "left out" in caplog.text
    assert SECRET not in str(error) + caplog.text
    await skipping.stop()


async def test_a_break_is_told_once_for_all_channels(server: Server) -> None:
    """A fresh token for the new connection, and nothing comes twice.

    aws-devtools-labs/aws-blocks 497, ably/ably-dotnet 67, kuzzleio/sdk-javascript 437.
    """
    told: list[MissedMessages] = []
    other = OrderChannel(order_id="o2")
    messages = subscribe(
        ORDER.log, other.log, client=client_of(server), timing=FAST, on_missed=told.append
    )
    following = Following(messages)
    await until(lambda: server.open)
    server.broadcast(LOG, "before")
    await until(lambda: following.messages)
    server.connections[0].close()
    await until(lambda: len(server.connections) == 2 and server.open and told)
    server.broadcast(LOG, "after")
    server.broadcast(LOG, "later")
    await until(lambda: len(following.messages) == 3)
    assert following.data == ["before", "after", "later"]
    assert [message.missed for message in following.messages] == [None, told[0], None]
    assert len(told) == 1
    assert len(told[0].topics) == 2
    assert [connection.token for connection in server.connections] == [1, 2]
    await following.stop()


async def test_a_token_is_renewed_while_connected(server: Server) -> None:
    """The subscription outlives its token, with one that is new each time.

    HolmesGPT/holmesgpt 2383, supabase/realtime-js 126.
    """
    server.lifetime = 0.3
    following = Following(subscribe(ORDER.log, client=client_of(server), timing=FAST))
    await until(lambda: server.open)
    sent = 0
    while len(server.connections) < 3:
        server.broadcast(LOG, str(sent))
        sent += 1
        await asyncio.sleep(0.01)
    server.lifetime = 60.0
    await until(lambda: len(following.messages) == sent)
    assert following.data == [str(number) for number in range(sent)]
    assert all(message.missed is None for message in following.messages)
    await following.stop()


@pytest.mark.parametrize("status", ["Completed", "Failed", "Cancelled"])
async def test_a_run_that_has_ended_ends_it_at_once(server: Server, status: str) -> None:
    """No message and no error: there is nothing to come."""
    server.run_status = status
    messages = subscribe(ORDER.log, client=client_of(server), run_id=RUN, timing=FAST)
    assert [message async for message in messages] == []


async def test_it_ends_with_the_run(server: Server) -> None:
    """What is on its way still comes."""
    following = Following(subscribe(ORDER.log, client=client_of(server), run_id=RUN, timing=FAST))
    await until(lambda: server.open)
    server.broadcast(LOG, "last")
    server.run_status = "Cancelled"
    await until(lambda: following.task.done())
    assert following.data == ["last"]


async def test_an_engine_that_stays_away() -> None:
    """The error says so; it does not wait for ever."""
    client = inngest.Inngest(app_id="x", is_production=False, api_base_url="http://127.0.0.1:1")
    with pytest.raises(RealtimeError):
        async for _ in subscribe(ORDER.log, client=client, timing=FAST):
            pass


async def test_the_embedded_engine_is_found(kind: str) -> None:
    """A `LocalEngine` that drives the client needs no `source`; the run's end is the end."""
    app = App(kind)

    async def body(ctx: inngest.Context) -> None:
        for number in range(3):
            await publish(ORDER.progress, Progress(done=number), durable=True)

    def body_sync(ctx: inngest.ContextSync) -> None:
        for number in range(3):
            publish_sync(ORDER.progress, Progress(done=number), durable=True)

    function = app.make(body, body_sync)
    async with LocalEngine(app.client, [function], clock=RealClock()) as engine:
        messages = subscribe(ORDER.progress, client=app.client)
        following = Following(messages)
        run = await engine.run(inngest.Event(name=EVENT))
        await until(lambda: len(following.messages) == 3)
        assert following.data == [Progress(done=number) for number in range(3)]
        await following.stop()
        ended = subscribe(ORDER.progress, client=app.client, run_id=run.id)
        assert [message async for message in ended] == []


async def test_from_sync_code() -> None:
    """In a thread of its own, also beside an engine that lives on this thread's loop."""
    app = App("async")

    async def body(ctx: inngest.Context) -> None:
        for number in range(3):
            await publish(ORDER.progress, Progress(done=number))

    function = app.make(body, lambda ctx: None)
    received: list[Any] = []
    begun = threading.Event()

    def follow() -> None:
        messages = subscribe_sync(ORDER.progress, client=app.client)
        begun.set()
        for message in messages:
            received.append(message.data)
            if len(received) == 3:
                break
        messages.close()

    async with LocalEngine(app.client, [function]) as engine:
        thread = asyncio.create_task(asyncio.to_thread(follow))
        await asyncio.to_thread(begun.wait, 10)
        await engine.run(inngest.Event(name=EVENT))
        await asyncio.wait_for(thread, 100)
    assert received == [Progress(done=number) for number in range(3)]


def test_sync_code_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a worker waits for a message ends the subscription, and stays Ctrl-C."""
    waits, ended = threading.Event(), threading.Event()

    class Quiet:
        async def subscribe(self, channel: str, topics: object) -> AsyncIterator[Any]:
            try:
                waits.set()
                await asyncio.Event().wait()
                yield None
            finally:
                ended.set()

    call = BlockingPortal.call

    def interrupted(portal: BlockingPortal, function: Any, *args: Any) -> Any:
        if function is not anext:
            return call(portal, function, *args)
        portal.start_task_soon(function, *args)
        assert waits.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(BlockingPortal, "call", interrupted)
    source: Any = Quiet()
    with pytest.raises(KeyboardInterrupt):
        next(subscribe_sync(ORDER.log, client=App("sync").client, source=source))
    assert ended.is_set()


async def test_what_is_used_wrongly(server: Server) -> None:
    """Messages say what to write instead."""
    wrong: Any = OrderChannel.log
    wrongs: list[Any] = [(), (wrong,), ("log",)]
    for topics in wrongs:
        with pytest.raises(PublishContextError, match="takes topics of channels"):
            subscribe(*topics, client=client_of(server))
    with pytest.raises(PublishContextError, match="on_invalid"):
        subscribe(ORDER.log, client=client_of(server), on_invalid="ignore")  # type: ignore[call-overload]
    nothing: Any = "shop"
    given: Any
    for given in (nothing, subscription_token):
        with pytest.raises(PublishContextError, match="on_missed"):
            subscribe(ORDER.log, client=client_of(server), on_missed=given)
    with pytest.raises(RealtimeError, match=r"inngest\.Inngest client, not str"):
        subscribe(ORDER.log, client=nothing)
    with pytest.raises(RealtimeError, match="source is a LocalEngine, not str"):
        subscribe(ORDER.log, client=client_of(server), source=nothing)


async def test_tokens(server: Server) -> None:
    """For topics of one channel, as JSON that the packages of npm take."""
    client = client_of(server)
    token = await subscription_token(client, ORDER, topics=["progress", ORDER.log, "progress"])
    assert token == {
        "channel": "order:o1",
        "topics": ["progress", "log"],
        "key": token["key"],
        "expires_in": 60.0,
    }
    every = await asyncio.to_thread(subscription_token_sync, client, ORDER)
    assert every["topics"] == ["progress", "log", "clear"]
    assert server.tokens[0] == [
        {"kind": "run", "channel": "order:o1", "name": "progress"},
        {"kind": "run", "channel": "order:o1", "name": "log"},
    ]
    topics: Any
    for topics in (["other"], [], "progress", ORDER.log, [OrderChannel(order_id="o2").log, "x"]):
        with pytest.raises(ChannelParameterError):
            await subscription_token(client, ORDER, topics=topics)
    wrong: Any = "order:o1"
    with pytest.raises(ChannelParameterError, match=r"takes a channel, .* not str"):
        await subscription_token(client, wrong)
    with pytest.raises(RealtimeError, match=r"inngest\.Inngest client, not str"):
        await subscription_token(wrong, ORDER)
    server.token_status = 401
    with pytest.raises(RealtimeError, match="401"):
        await subscription_token(client, ORDER)


class Base(Channel):
    """Topics that several channels have."""

    log = Topic(str)


class News(Base, name="news"):
    extra = Topic(int, name="extra topic")


async def test_inherited_topics(server: Server) -> None:
    """A base without a name gives its topics to the channels made of it."""
    assert News().topics() == ["log", "extra topic"]
    following = Following(subscribe(News().extra, client=client_of(server), timing=FAST))
    await until(lambda: server.open)
    server.broadcast(RealtimeTopic("news", "extra topic"), 3)
    await until(lambda: following.messages)
    assert following.data == [3]
    await following.stop()
