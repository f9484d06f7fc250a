"""The realtime connection, against a server that speaks the realtime API on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import inngest
import inngest.experimental.realtime
import pytest
from tests.core.core_realtime_server import FAST, Server, serving, until

from inngest_plugins.core import (
    EmbeddedEngineError,
    MissedMessages,
    RealtimeConnection,
    RealtimeError,
    RealtimeEvent,
    RealtimeMessage,
    RealtimeTopic,
    RunEnded,
)
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio

RUN = "01J00000000000000000000000"
A, B = RealtimeTopic("room:1", "a"), RealtimeTopic("room:2", "b")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port of loopback."""
    async with serving() as served:
        yield served


def connection_of(server: Server) -> RealtimeConnection:
    client = inngest.Inngest(app_id="app", is_production=False, api_base_url=server.url)
    return RealtimeConnection(client, timing=FAST)


class Following:
    """A subscription that is read in the background."""

    def __init__(self, events: Any) -> None:
        self.events: list[RealtimeEvent] = []
        self.task = asyncio.create_task(self._read(events))

    async def _read(self, events: Any) -> None:
        async with contextlib.aclosing(events):
            async for event in events:
                self.events.append(event)

    @property
    def data(self) -> list[Any]:
        """What the messages carried."""
        return [event.data for event in self.events if isinstance(event, RealtimeMessage)]

    async def stop(self) -> None:
        """Leave the loop."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def test_one_connection_serves_several_channels(server: Server) -> None:
    """All topics, each named once, go into one token; strangers and other kinds are passed over."""
    following = Following(connection_of(server).subscribe([A, B, A]))
    await until(lambda: server.open)
    (connection,) = server.connections
    connection.lines.put_nowait(":\n\n")
    connection.lines.put_nowait("data: no json\n\n")
    connection.send(RealtimeTopic("room:1", "other"), 0)
    connection.send(A, "sid", kind="datastream-start")
    connection.send(B, {"n": 1})
    connection.send(A, [2])
    await until(lambda: len(following.events) == 2)
    assert following.events == [
        RealtimeMessage(B, {"n": 1}, 1795910400.5),
        RealtimeMessage(A, [2], 1795910400.5),
    ]
    assert server.tokens == [
        [
            {"kind": "run", "channel": "room:1", "name": "a"},
            {"kind": "run", "channel": "room:2", "name": "b"},
        ]
    ]
    await following.stop()
    await until(lambda: not server.open)


async def test_a_token_is_renewed_before_it_expires(server: Server) -> None:
    """A new connection with a new token replaces the old one in time: nothing missed or doubled.

    HolmesGPT/holmesgpt 2383, supabase/realtime-js 126, kuzzleio/sdk-javascript 437.
    """
    server.lifetime = 0.25
    following = Following(connection_of(server).subscribe([A]))
    await until(lambda: server.open)
    sent = 0
    while len(server.connections) < 4:
        server.broadcast(A, sent)
        sent += 1
        await asyncio.sleep(0.005)
    server.lifetime = 60.0
    await until(lambda: len(following.data) == sent)
    assert following.data == list(range(sent))
    assert following.events == [e for e in following.events if isinstance(e, RealtimeMessage)]
    assert [connection.token for connection in server.connections][:4] == [1, 2, 3, 4]
    await until(lambda: len(server.open) == 1)
    await following.stop()


async def test_a_server_that_says_that_it_is_closing_loses_nothing(server: Server) -> None:
    """The server's "closing" message makes a new connection while the old one still delivers."""
    following = Following(connection_of(server).subscribe([A]))
    await until(lambda: server.open)
    server.connections[0].send(A, None, kind="closing")
    await until(lambda: len(server.open) == 2)
    server.broadcast(A, 1)
    await until(lambda: len(server.open) == 1)
    server.broadcast(A, 2)
    await until(lambda: len(following.data) == 2)
    assert following.data == [1, 2]
    assert len(following.events) == 2
    await following.stop()


async def test_a_broken_connection_says_what_may_be_missing(server: Server) -> None:
    """After a break there is a new token, one connection, and one note for all of the topics.

    aws-devtools-labs/aws-blocks 497, ably/ably-dotnet 67.
    """
    following = Following(connection_of(server).subscribe([A, B]))
    await until(lambda: server.open)
    server.broadcast(A, 1)
    await until(lambda: following.data == [1])
    server.connections[0].close()
    await until(lambda: len(following.events) == 2)
    server.broadcast(A, 2)
    server.broadcast(B, 3)
    await until(lambda: len(following.events) == 4)
    missed = following.events[1]
    assert isinstance(missed, MissedMessages)
    assert missed.topics == (A, B)
    assert missed.since <= missed.until
    assert following.data == [1, 2, 3]
    assert [connection.token for connection in server.connections] == [1, 2]
    assert len(server.open) == 1
    await following.stop()


async def test_an_engine_that_restarts_is_waited_for(server: Server) -> None:
    """A token endpoint that fails for a while, once it worked, is asked again."""
    following = Following(connection_of(server).subscribe([A]))
    await until(lambda: server.open)
    server.token_status = 503
    server.connections[0].close()
    await until(lambda: len(server.tokens) >= 3)
    server.token_status = 201
    await until(lambda: server.open)
    server.broadcast(A, 1)
    await until(lambda: following.data == [1])
    await following.stop()


async def test_tokens_without_an_expiry_are_not_renewed(server: Server) -> None:
    """Where the token does not say how long it lasts, the connection stays: no reconnect loop.

    inngest/inngest-js 1544.
    """
    server.lifetime = None
    following = Following(connection_of(server).subscribe([A]))
    await until(lambda: server.open)
    for number in range(10):
        server.broadcast(A, number)
        await asyncio.sleep(0.02)
    await until(lambda: len(following.data) == 10)
    assert len(server.tokens) == 1
    await following.stop()


@pytest.mark.parametrize("status", ["Completed", "Failed", "Cancelled"])
async def test_a_run_that_has_ended_ends_the_subscription_at_once(
    server: Server, status: str
) -> None:
    """Following a run that is over yields its end and nothing else."""
    server.run_status = status
    events = connection_of(server).subscribe([A], run_id=RUN)
    assert [event async for event in events] == [RunEnded(status, before=True)]


async def test_the_subscription_ends_with_the_run(server: Server) -> None:
    """A run that ends while it is followed ends the subscription, after its last message.

    An engine that does not know the run yet is asked again.
    """
    server.run_status = None
    following = Following(connection_of(server).subscribe([A], run_id=RUN))
    await until(lambda: server.open)
    await asyncio.sleep(0.1)
    server.run_status = "Running"
    await asyncio.sleep(0.1)
    server.run_status = "Cancelled"
    server.broadcast(A, 1)
    await asyncio.wait_for(following.task, 100)
    assert following.data == [1]
    assert following.events[-1] == RunEnded("Cancelled", before=False)


async def test_a_refusal_is_an_error(server: Server) -> None:
    """An engine that gives no token is named with its status, at the first attempt."""
    server.token_status = 403
    with pytest.raises(RealtimeError, match=r"topic 'a' of channel 'room:1': .* 403") as caught:
        await connection_of(server).subscribe([A]).__anext__()
    assert caught.value.status == 403
    assert len(server.tokens) == 1


def test_what_cannot_be_subscribed_to_is_refused() -> None:
    """A subscription needs a topic, a client and a source, and a run id is safe in a URL."""
    realtime = RealtimeConnection(inngest.Inngest(app_id="app", is_production=False))
    with pytest.raises(RealtimeError, match="needs a topic"):
        realtime.subscribe([])
    with pytest.raises(RealtimeError, match="run id"):
        realtime.subscribe([A], run_id="../x")
    wrong: Any = 5
    with pytest.raises(RealtimeError, match="a run id is a ULID, and no int"):
        realtime.subscribe([A], run_id=wrong)
    source: Any
    for source in (wrong, LocalEngine):
        with pytest.raises(RealtimeError, match="source is a LocalEngine, not"):
            realtime.subscribe([A], source=source)
    with pytest.raises(RealtimeError, match=r"an inngest\.Inngest client, not int"):
        RealtimeConnection(wrong)


@pytest.mark.parametrize("sync", [False, True])
async def test_publishing_sends_what_the_sdk_sends(server: Server, sync: bool) -> None:
    """Channel and topic are parameters and the body is the data, as in the SDK's experiment."""
    realtime = connection_of(server)
    client = inngest.Inngest(app_id="app", is_production=False, api_base_url=server.url)
    await inngest.experimental.realtime.publish(client, "c/ä&", "t", {"ä": 1})
    if sync:
        await asyncio.to_thread(realtime.publish_sync, "c/ä&", "t", {"ä": 1})
    else:
        await realtime.publish("c/ä&", "t", {"ä": 1})
    await realtime.publish("c", "t", None, run_id=RUN)
    theirs, ours, with_run = server.published
    assert theirs == ours == ({"channel": "c/ä&", "topic": "t"}, {"ä": 1})
    assert with_run == ({"channel": "c", "topic": "t", "run_id": RUN}, None)
    token = await inngest.experimental.realtime.get_subscription_token(client, "c", ["t"])
    assert (await realtime.token([RealtimeTopic("c", "t")])).jwt.count(".") == 2
    assert server.tokens[0] == server.tokens[1]
    assert token["topics"] == ["t"]


async def test_a_message_that_cannot_be_published_is_an_error(server: Server) -> None:
    """No JSON, too large, refused and unreachable are errors that repeat no data."""
    realtime = connection_of(server)
    with pytest.raises(RealtimeError, match=r"not JSON \(TypeError\)") as caught:
        await realtime.publish("c", "t", {"secret": object()})
    assert "secret" not in str(caught.value)
    with pytest.raises(RealtimeError, match="not JSON"):
        await realtime.publish("c", "t", float("nan"))
    with pytest.raises(RealtimeError, match="exceeds the server's 524288"):
        await realtime.publish("c", "t", "x" * 524_288)
    assert server.published == []
    server.publish_status = 401
    with pytest.raises(RealtimeError, match="not published: the engine answered 401"):
        await realtime.publish("c", "t", 1)
    away = inngest.Inngest(app_id="app", is_production=False, api_base_url="http://127.0.0.1:9")
    with pytest.raises(RealtimeError, match=r"not published: .* failed: ConnectError") as caught:
        await RealtimeConnection(away, attempts=1).publish("c", "t", 1)
    assert caught.value.status is None


async def test_an_engine_in_process_is_listened_to_through_source() -> None:
    """Under LocalEngine messages come through `source`, of several channels, until the run ends."""
    client = inngest.Inngest(app_id="app", is_production=False)
    realtime = RealtimeConnection(client, timing=FAST)
    started = asyncio.Event()

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="go"))
    async def fn(ctx: inngest.Context) -> None:
        await realtime.publish("room:1", "a", 1, run_id=ctx.run_id)
        await realtime.publish("room:2", "b", 2)
        await realtime.publish("room:2", "other", 3)
        started.set()
        if ctx.event.data["wait"]:
            await ctx.step.sleep("wait", 3_600_000)

    async with LocalEngine(client, [fn]) as engine:
        with pytest.raises(EmbeddedEngineError, match="source=engine"):
            await realtime.subscribe([A]).__anext__()
        await engine.send(inngest.Event(name="go", data={"wait": False}))
        run = engine.runs[0].id
        following = Following(realtime.subscribe([A, B], run_id=run, source=engine))
        await asyncio.sleep(0)
        await engine.settle()
        await asyncio.wait_for(following.task, 100)
        assert following.data == [1, 2]
        assert following.events[-1] == RunEnded("Completed", before=False)
        again = realtime.subscribe([A], run_id=run, source=engine)
        assert [event async for event in again] == [RunEnded("Completed", before=True)]


async def test_closing_an_engine_in_process_ends_the_subscription() -> None:
    """A subscription to an engine that is closed ends, with or without a run."""
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="go"))
    async def fn(ctx: inngest.Context) -> None:
        pass

    async with LocalEngine(client, [fn]) as engine:
        following = Following(RealtimeConnection(client).subscribe([A], source=engine))
        await asyncio.sleep(0.05)
    await asyncio.wait_for(following.task, 100)
    assert following.events == []
