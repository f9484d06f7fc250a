"""Metadata on a real server: where it shows, what is added up, and how it is followed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.metadata import (
    MetadataClient,
    MetadataPlugin,
    Snapshot,
    metadata,
    subscribe,
    subscribe_stream,
)

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

DEFAULT = "userland.default"


def spans(span: Any) -> Iterator[Any]:
    """Walk a trace tree."""
    yield span
    for child in span.get("childrenSpans") or ():
        yield from spans(child)


def shown(run: Any, scope: str, kind: str = DEFAULT) -> list[tuple[str, Any]]:
    """Return the metadata of one scope and kind as `(span id, values)`, each span once."""
    found = {
        span["spanID"]: entry["values"]
        for span in spans(run["trace"])
        for entry in span.get("metadata") or ()
        if entry["kind"] == kind and entry["scope"].lower() == scope
    }
    return list(found.items())


def of_attempts(run: Any) -> list[tuple[str, Any]]:
    """Return what the attempts of steps recorded.

    The server names the scope of one that failed by its attempt, that of the last by its step.
    """
    return shown(run, "step") + shown(run, "step_attempt")


def wait_for(server: LiveServer, run_id: str, condition: Callable[[Any], bool]) -> Any:
    """Return the run once its trace tree, written in the background, fulfils a condition."""
    deadline = time.monotonic() + 20
    while True:
        run = server.run(run_id)
        if condition(run) or time.monotonic() > deadline:
            assert condition(run), run
            return run
        time.sleep(0.2)


def test_live_metadata_shows_at_run_step_and_attempt(live_server: LiveServer) -> None:
    """The server shows what the body recorded at the run, and each try of a step's at that try."""
    client = live_server.client("live-metadata", middleware=[MetadataPlugin()])

    @client.create_function(
        fn_id="scopes", trigger=inngest.TriggerEvent(event="live-metadata/scopes"), retries=1
    )
    async def scopes(ctx: inngest.Context) -> Any:
        metadata.update({"begun": True, "gone": 1}).set("note", "x", kind="audit")

        async def step() -> None:
            metadata.set("attempt", ctx.attempt).increment("rows", 2)
            if ctx.attempt == 0:
                raise ValueError("again")

        await ctx.step.run("work", step)
        metadata.delete("gone").set("ended", True)
        return metadata.current()

    live_server.serve(client, [scopes])
    run_id = live_server.start(client, inngest.Event(name="live-metadata/scopes"))
    ended = live_server.ended(run_id, timeout=120)
    assert ended["status"] == "COMPLETED"
    run = wait_for(
        live_server,
        run_id,
        lambda run: (
            shown(run, "run") != []
            and "ended" in shown(run, "run")[0][1]
            and len(of_attempts(run)) >= 2
        ),
    )
    assert [values for _, values in shown(run, "run")] == [{"begun": True, "ended": True}]
    assert [values for _, values in shown(run, "run", "userland.audit")] == [{"note": "x"}]
    tries = sorted(of_attempts(run), key=lambda entry: entry[1]["attempt"])
    assert [values for _, values in tries] == [
        {"attempt": 0, "rows": 2},
        {"attempt": 1, "rows": 2},
    ]


def test_live_fifty_children_increment_one_key(live_server: LiveServer) -> None:
    """Fifty parallel children that increment one key of their parent lose nothing."""
    client = live_server.client("live-metadata-family", middleware=[MetadataPlugin()])

    @client.create_function(
        fn_id="child", trigger=inngest.TriggerEvent(event="live-metadata/child"), retries=0
    )
    async def child(ctx: inngest.Context) -> None:
        async def work() -> None:
            metadata.parent.increment("done").increment("weight", 2)

        await ctx.step.run("work", work)

    @client.create_function(
        fn_id="parent", trigger=inngest.TriggerEvent(event="live-metadata/parent"), retries=0
    )
    async def parent(ctx: inngest.Context) -> None:
        metadata.set("total", 50)

        def start(number: int) -> Any:
            return lambda: ctx.step.invoke(f"child-{number}", function=child)

        await ctx.group.parallel(tuple(start(number) for number in range(50)))

    live_server.serve(client, [parent, child])
    run_id = live_server.start(client, inngest.Event(name="live-metadata/parent"))
    live_server.ended(run_id, timeout=120)
    run = wait_for(
        live_server,
        run_id,
        lambda run: shown(run, "run") != [] and shown(run, "run")[0][1].get("done") == 50,
    )
    assert shown(run, "run")[0][1] == {"total": 50, "done": 50, "weight": 100}


def test_live_a_run_is_followed_while_it_runs(live_server: LiveServer) -> None:
    """Snapshots and a stream's chunks reach subscribers over the server while the run runs."""
    client = live_server.client("live-metadata-follow", middleware=[MetadataPlugin(realtime=True)])

    async def words() -> AsyncIterator[str]:
        for word in ("all", "is", "well"):
            yield word
            await asyncio.sleep(0.05)

    @client.create_function(
        fn_id="follow", trigger=inngest.TriggerEvent(event="live-metadata/follow"), retries=0
    )
    async def follow(ctx: inngest.Context) -> None:
        await ctx.step.wait_for_event("go", event="live-metadata/go", timeout=60_000)

        async def work() -> None:
            for number in range(5):
                metadata.set("progress", number / 5)
                await asyncio.sleep(0.1)
            async for _ in metadata.stream("words", words()):
                pass

        await ctx.step.run("work", work)
        metadata.set("progress", 1)

    live_server.serve(client, [follow])
    run_id = live_server.start(client, inngest.Event(name="live-metadata/follow"))

    async def collect() -> tuple[list[Snapshot], list[Any]]:
        async def snapshots() -> list[Snapshot]:
            return [each async for each in subscribe(run_id, client=client)]

        async def chunks() -> list[Any]:
            return [each async for each in subscribe_stream(run_id, "words", client=client)]

        following = asyncio.gather(snapshots(), chunks())
        await asyncio.sleep(2)
        await asyncio.to_thread(client.send_sync, inngest.Event(name="live-metadata/go"))
        first, second = await asyncio.wait_for(following, 30)
        return first, second

    found, chunks = asyncio.run(collect())
    progress = [snapshot["progress"] for snapshot in found if "progress" in snapshot]
    assert progress == sorted(progress)
    assert len(set(progress)) >= 4
    assert found[-1] == {"progress": 1}
    assert found[-1].status == "completed"
    assert chunks == ["all", "is", "well"]


def test_live_a_client_writes_from_outside(live_server: LiveServer) -> None:
    """`MetadataClient` reaches a run that has ended, and one of its steps."""
    client = live_server.client("live-metadata-client", middleware=[MetadataPlugin()])

    @client.create_function(
        fn_id="plain", trigger=inngest.TriggerEvent(event="live-metadata/plain"), retries=0
    )
    async def plain(ctx: inngest.Context) -> None:
        async def step() -> None:
            metadata.set("n", 1)

        metadata.set("n", 1)
        await ctx.step.run("work", step)

    live_server.serve(client, [plain])
    run_id = live_server.start(client, inngest.Event(name="live-metadata/plain"))
    live_server.ended(run_id)
    # A run can be seen to have ended before what its last request recorded is written.
    wait_for(
        live_server,
        run_id,
        lambda run: (
            [values for _, values in shown(run, "run") + shown(run, "step")] == [{"n": 1}] * 2
        ),
    )
    pending = MetadataClient(client).run(run_id).increment("n", 41).set("reviewed", True)
    pending.step("work").set("note", "fine")
    pending.send_sync()
    run = wait_for(
        live_server,
        run_id,
        lambda run: (
            shown(run, "run")[0][1].get("reviewed") is True
            and shown(run, "step") != []
            and "note" in shown(run, "step")[0][1]
        ),
    )
    assert shown(run, "run")[0][1] == {"n": 42, "reviewed": True}
    assert shown(run, "step")[0][1] == {"n": 1, "note": "fine"}


def test_live_the_limit_is_the_server_s(
    live_server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A scope that is filled to its last byte is taken by the server, umlauts included."""
    client = live_server.client("live-metadata-limit", middleware=[MetadataPlugin()])
    text = "ü" * ((65_536 - len("text") - 2) // 2)

    @client.create_function(
        fn_id="full", trigger=inngest.TriggerEvent(event="live-metadata/full"), retries=0
    )
    async def full(ctx: inngest.Context) -> None:
        metadata.set("text", text)
        await metadata.flush()

    live_server.serve(client, [full])
    with caplog.at_level(logging.WARNING, "inngest_plugins.metadata"):
        run_id = live_server.start(client, inngest.Event(name="live-metadata/full"))
        assert live_server.ended(run_id)["status"] == "COMPLETED"
    assert caplog.records == []
    wait_for(live_server, run_id, lambda run: shown(run, "run") != [])
