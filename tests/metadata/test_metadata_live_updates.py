"""Snapshots and streams, while the run runs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest

from inngest_plugins.metadata import (
    MetadataClient,
    MetadataContextError,
    MetadataKeyError,
    MetadataValueError,
    metadata,
    subscribe,
    subscribe_stream,
)

if TYPE_CHECKING:
    from tests.metadata.conftest import App

pytestmark = pytest.mark.anyio


async def events_of(source: AsyncIterator[Any]) -> list[Any]:
    """Collect everything until the end."""
    return [item async for item in source]


async def numbers(count: int) -> AsyncIterator[int]:
    """Yield with a pause after each, so that each change is a snapshot of its own."""
    for number in range(count):
        yield number
        await asyncio.sleep(0.03)


@pytest.mark.parametrize("sync", [False, True])
async def test_subscribers_see_a_run_move(make_app: type[App], sync: bool) -> None:
    """Each change is a snapshot with everything, and the last one says how the run ended."""
    app = make_app(realtime=True)
    snapshots: list[Any] = []

    def was_seen(number: int) -> bool:
        return any(each.get("progress") == number / 4 for each in list(snapshots))

    if sync:

        @app.function()
        def fn_sync(ctx: inngest.ContextSync) -> None:
            def step() -> None:
                for number in range(4):
                    metadata.set("progress", number / 4)
                    while not was_seen(number):
                        time.sleep(0.005)

            metadata.set("run_id", ctx.run_id)
            ctx.step.run("s", step)
            metadata.set("progress", 1)

    else:

        @app.function()
        async def fn_async(ctx: inngest.Context) -> None:
            async def step() -> None:
                for number in range(4):
                    metadata.set("progress", number / 4)
                    while not was_seen(number):
                        await asyncio.sleep(0.005)

            metadata.set("run_id", ctx.run_id)
            await ctx.step.run("s", step)
            metadata.set("progress", 1)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        run_id = engine.runs[0].id

        async def follow() -> None:
            async for snapshot in subscribe(run_id, source=engine):
                snapshots.append(snapshot)

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await engine.settle()
        await asyncio.wait_for(following, 100)
    progress = [snapshot.get("progress") for snapshot in snapshots]
    assert [value for value in progress if value is not None][-1] == 1
    assert progress == sorted(progress, key=lambda value: -1 if value is None else value)
    assert len({value for value in progress if value is not None}) >= 4
    assert all(snapshot["run_id"] == run_id for snapshot in snapshots)
    assert [snapshot.final for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
    assert snapshots[-1].status == "completed"
    assert snapshots[-1].kinds == {"default": {"progress": 1, "run_id": run_id}}
    assert run_id in repr(snapshots[-1])


async def test_replays_are_not_published_again(make_app: type[App]) -> None:
    """What a replay records again reaches no subscriber again."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("early", True)

        async def step() -> None:
            pass

        for number in range(5):
            await ctx.step.run(f"s{number}", step)

    await app.run()
    statuses = [data["status"] for _, topic, data in app.wire.published if topic == "metadata"]
    assert statuses == ["running", "completed"]


async def test_a_burst_of_changes_is_few_messages(make_app: type[App]) -> None:
    """Changes that come faster than requests share a snapshot, and the last one has them all."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        for _ in range(2000):
            metadata.increment("n")

    await app.run()
    assert len(app.wire.published) < 200
    assert app.wire.published[-1][2]["kinds"]["default"] == {"n": 2000}


async def test_a_failed_run_says_so(make_app: type[App]) -> None:
    """The last snapshot of a failed run has status failed; a retried attempt has no last one."""
    app = make_app(realtime=True)

    @app.function(retries=1)
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("n", ctx.attempt)
        raise ValueError("no")

    await app.run()
    assert [data["status"] for _, _, data in app.wire.published][-1] == "failed"
    assert [d["status"] for _, _, d in app.wire.published].count("failed") == 1


async def test_a_run_without_realtime_publishes_nothing(app: App) -> None:
    """Nothing is published unless it was asked for."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        metadata.set("a", 1)
        return [chunk async for chunk in metadata.stream("s", numbers(2))]

    assert (await app.run()).output == [0, 1]
    assert app.wire.published == []


async def test_an_unreachable_engine_costs_only_the_subscribers(
    make_app: type[App], caplog: pytest.LogCaptureFixture
) -> None:
    """When publishing fails the run is not affected, and the failure is logged once a request."""
    app = make_app(realtime=True)

    def fault(request: httpx.Request) -> httpx.Response | None:
        if "realtime" in request.url.path:
            return httpx.Response(400)
        return None

    app.wire.fault = fault

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        async for number in numbers(3):
            metadata.set("n", number)

    with caplog.at_level(logging.WARNING, "inngest_plugins.metadata"):
        run = await app.run()
    assert run.status == "Completed"
    assert len([r for r in caplog.records if "missed a message" in r.message]) == 1

    def broken(request: httpx.Request) -> httpx.Response | None:
        if "realtime" in request.url.path:
            raise httpx.ReadTimeout("slow")
        return None

    app.wire.fault = broken
    assert (await app.run()).status == "Completed"


async def test_a_message_that_is_too_long_is_not_cut(
    make_app: type[App], caplog: pytest.LogCaptureFixture
) -> None:
    """A snapshot beyond what the server takes is left out and logged, not published in part."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        for number in range(9):
            metadata.set("text", "x" * 60_000, kind=f"k{number}")

    assert (await app.run()).status == "Completed"
    assert "exceeds the server's" in caplog.text


async def test_streams_forward_and_hand_on(make_app: type[App]) -> None:
    """Chunks reach the reader and the subscriber in order, none lost, and both see the end."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        async def step() -> list[Any]:
            return [chunk async for chunk in metadata.stream("tokens", numbers(20))]

        return await ctx.step.run("s", step)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        run_id = engine.runs[0].id
        client = MetadataClient(app.client)
        following = asyncio.create_task(
            events_of(client.subscribe_stream(run_id, "tokens", source=engine))
        )
        await asyncio.sleep(0)
        await engine.settle()
        assert await asyncio.wait_for(following, 100) == list(range(20))
        assert engine.runs[0].output == list(range(20))


async def test_a_stream_that_breaks_off_ends_for_subscribers(make_app: type[App]) -> None:
    """A source that raises, or a chunk that is no JSON, ends the stream and reaches the reader."""
    app = make_app(realtime=True)

    async def broken() -> AsyncIterator[Any]:
        yield {"a": 1}
        raise ConnectionError("gone")

    async def odd() -> AsyncIterator[Any]:
        yield object()

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        with pytest.raises(ConnectionError):
            await events_of(metadata.stream("one", broken()))
        with pytest.raises(MetadataValueError, match="stream 'two'"):
            await events_of(metadata.stream("two", odd()))
        with pytest.raises(MetadataKeyError, match="1 to 128 bytes"):
            metadata.stream("", broken())

    assert (await app.run()).status == "Completed"
    streamed = [(topic, data) for _, topic, data in app.wire.published if "stream" in topic]
    assert streamed == [
        ("metadata.stream.one", {"stream": "one", "index": 0, "chunk": {"a": 1}}),
        ("metadata.stream.one", {"stream": "one", "index": 1, "end": True}),
        ("metadata.stream.two", {"stream": "two", "index": 0, "end": True}),
    ]


async def test_the_embedded_engine_must_be_passed(make_app: type[App]) -> None:
    """Subscribing by the client of an embedded engine says to pass the engine."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        with pytest.raises(MetadataContextError, match="source=engine"):
            await events_of(subscribe(ctx.run_id))
        return True

    assert (await app.run()).output is True


async def test_a_subscription_survives_what_is_not_for_it(make_app: type[App]) -> None:
    """Messages of another shape on the same topics are passed over."""

    class Source:
        def __init__(self, messages: list[Any]) -> None:
            self.messages = messages

        async def subscribe(self, channel: str, topics: Any = None) -> AsyncIterator[Any]:
            for message in self.messages:
                yield _Message(message)

    final = {"status": "completed", "kinds": {"default": {"a": 1}}}
    run_id = "01J00000000000000000000000"
    snapshots = await events_of(subscribe(run_id, source=Source([None, {"kinds": 1}, final])))
    assert snapshots == [{"a": 1}]
    chunks = await events_of(
        subscribe_stream(run_id, "s", source=Source([None, {"x": 1}, {"chunk": 0}, {"end": True}]))
    )
    assert chunks == [0]


class _Message:
    def __init__(self, data: Any) -> None:
        self.topic = "any"
        self.data = data


async def test_a_cancelled_request_leaves_no_thread(make_app: type[App]) -> None:
    """When a request is cancelled its publishing thread ends."""
    app = make_app(realtime=True)
    started = asyncio.Event()

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1)
        started.set()
        await asyncio.sleep(60)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        await started.wait()

    def alive() -> list[str]:
        names = [thread.name for thread in threading.enumerate()]
        return [name for name in names if name.startswith("metadata-")]

    for _ in range(2000):
        if alive():
            await asyncio.sleep(0.05)
    assert alive() == []


@pytest.mark.parametrize("status", ["Completed", "Failed", "Cancelled"])
async def test_following_a_run_that_has_ended_ends_at_once(
    make_app: type[App], status: str
) -> None:
    """A subscription to a run that is over, however it ended, yields nothing and ends."""
    app = make_app(realtime=True)

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1)
        if status == "Failed":
            raise ValueError("no")
        if status == "Cancelled":
            await ctx.step.wait_for_event("wait", event="never", timeout=3_600_000)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        (run,) = engine.runs
        if status == "Cancelled":
            await engine.idle()
            await engine.cancel(run)
        await engine.settle()
        assert engine.runs[0].status == status
        for following in (
            subscribe(run.id, source=engine),
            subscribe_stream(run.id, "tokens", source=engine),
        ):
            assert await asyncio.wait_for(events_of(following), 100) == []


async def test_a_run_that_is_cancelled_while_followed_ends_the_subscription(
    make_app: type[App],
) -> None:
    """A cancelled run says nothing itself: its last snapshot has the last values and the status."""
    app = make_app(realtime=True)

    @app.function()
    async def fn(ctx: inngest.Context) -> None:
        metadata.set("a", 1)
        await ctx.step.wait_for_event("wait", event="never", timeout=3_600_000)

    async with app.engine() as engine:
        await engine.send(inngest.Event(name="fn"))
        run_id = engine.runs[0].id
        following = asyncio.create_task(events_of(subscribe(run_id, source=engine)))
        await asyncio.sleep(0)
        await engine.idle()
        await engine.cancel(engine.runs[0])
        snapshots = await asyncio.wait_for(following, 100)
    assert snapshots == [{"a": 1}, {"a": 1}]
    assert [snapshot.status for snapshot in snapshots] == ["running", "cancelled"]
    assert snapshots[-1].final
