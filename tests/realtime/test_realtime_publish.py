"""A message leaves once in a run, in order, typed, and never blocks the loop or fails the run."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import httpx
import inngest
import pytest
from tests.realtime.realtime_rig import EVENT, ORDER, App, OrderChannel, Progress

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import answered_by
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine
from inngest_plugins.realtime import (
    MessageTypeError,
    PublishContextError,
    RealtimeError,
    RealtimePlugin,
    SecretMessageError,
    publish,
    publish_sync,
)

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t"


async def nothing() -> str:
    return "x"


@pytest.mark.parametrize("plugins", [(), (CheckpointPlugin(),)], ids=["", "checkpoints"])
async def test_once_in_a_run_and_in_order(kind: str, plugins: Any) -> None:
    """In the body where the code is new; in a step as often as it runs; the order is kept."""
    app = App(kind, *plugins)

    async def body(ctx: inngest.Context) -> None:
        await publish(ORDER.log, "begin")

        async def step() -> str:
            await publish(ORDER.progress, Progress(done=1))
            await publish(ORDER.progress, Progress(done=2, note="half"))
            return "done"

        await ctx.step.run("one", step)
        await publish(ORDER.log, "between")
        await ctx.step.sleep("nap", 60_000)
        for number in range(5):
            await publish(ORDER.log, str(number))
        await ctx.step.run("two", nothing)
        await publish(ORDER.log, "end")

    def body_sync(ctx: inngest.ContextSync) -> None:
        publish_sync(ORDER.log, "begin")

        def step() -> str:
            publish_sync(ORDER.progress, Progress(done=1))
            publish_sync(ORDER.progress, Progress(done=2, note="half"))
            return "done"

        ctx.step.run("one", step)
        publish_sync(ORDER.log, "between")
        ctx.step.sleep("nap", 60_000)
        for number in range(5):
            publish_sync(ORDER.log, str(number))
        ctx.step.run("two", lambda: "x")
        publish_sync(ORDER.log, "end")

    run, messages = await app.play(body, body_sync)
    assert run.status == "Completed", run.error
    assert messages == [
        ("log", "begin"),
        ("progress", {"done": 1, "note": ""}),
        ("progress", {"done": 2, "note": "half"}),
        ("log", "between"),
        *(("log", str(number)) for number in range(5)),
        ("log", "end"),
    ]


async def test_beside_a_group(kind: str) -> None:
    """Requests that run one step of a group publish nothing of the body again."""
    app = App(kind)

    async def body(ctx: inngest.Context) -> None:
        await ctx.step.run("first", nothing)
        await publish(ORDER.log, "before")

        def branch(name: str) -> Any:
            async def handler() -> str:
                await publish(ORDER.log, name)
                return name

            return lambda: ctx.step.run(name, handler)

        await ctx.group.parallel(tuple(branch(name) for name in "abc"))
        await publish(ORDER.log, "after")

    def body_sync(ctx: inngest.ContextSync) -> None:
        ctx.step.run("first", lambda: "x")
        publish_sync(ORDER.log, "before")

        def branch(name: str) -> Any:
            return lambda: ctx.step.run(name, lambda: publish_sync(ORDER.log, name))

        ctx.group.parallel(tuple(branch(name) for name in "abc"))
        publish_sync(ORDER.log, "after")

    run, messages = await app.play(body, body_sync)
    assert run.status == "Completed", run.error
    texts = [data for _, data in messages]
    assert (texts[0], texts[-1]) == ("before", "after")
    assert sorted(texts[1:-1]) == ["a", "b", "c"]


async def test_durable(kind: str) -> None:
    """A step of its own: once in the run, also when the body is tried again."""
    app = App(kind)

    def fail(attempt: int) -> None:
        if not attempt:
            raise ValueError("try again")

    async def body(ctx: inngest.Context) -> None:
        await publish(ORDER.log, "durable", durable=True)
        await publish(ORDER.log, "plain")
        await publish(ORDER.log, "named", durable=True, step_id="tell")
        fail(ctx.attempt)

    def body_sync(ctx: inngest.ContextSync) -> None:
        publish_sync(ORDER.log, "durable", durable=True)
        publish_sync(ORDER.log, "plain")
        publish_sync(ORDER.log, "named", durable=True, step_id="tell")
        fail(ctx.attempt)

    run, messages = await app.play(body, body_sync, retries=2)
    assert run.status == "Completed"
    assert list(run.steps) == ["publish log", "tell"]
    assert [data for _, data in messages] == ["durable", "plain", "named"]


async def test_a_durable_message_elsewhere(kind: str) -> None:
    """In a step it would be a step in a step."""
    app = App(kind)

    async def body(ctx: inngest.Context) -> None:
        async def step() -> None:
            await publish(ORDER.log, "x", durable=True)

        await ctx.step.run("one", step)

    def body_sync(ctx: inngest.ContextSync) -> None:
        ctx.step.run("one", lambda: publish_sync(ORDER.log, "x", durable=True))

    run, messages = await app.play(body, body_sync)
    assert run.status == "Failed"
    assert "a step of its own" in str(run.error)
    assert messages == []


@pytest.mark.parametrize(
    ("topic", "data", "place"),
    [
        ("progress", {"done": -1, "note": SECRET}, "$.done"),
        ("progress", {"note": SECRET}, "$.done"),
        ("progress", SECRET, "$"),
        ("log", 1, "$"),
        ("log", [SECRET], "$"),
        ("log", "x" * 600_000, "bytes"),
    ],
)
async def test_types(kind: str, topic: str, data: Any, place: str) -> None:
    """An error where it is published, strict or not, that names topic and place, and no value."""
    app = App(kind)
    raised: list[str] = []
    where = getattr(ORDER, topic)

    async def body(ctx: inngest.Context) -> None:
        try:
            await publish(where, data)
        except MessageTypeError as err:
            raised.append(str(err))

    def body_sync(ctx: inngest.ContextSync) -> None:
        try:
            publish_sync(where, data)
        except MessageTypeError as err:
            raised.append(str(err))

    _, messages = await app.play(body, body_sync)
    (text,) = raised
    assert place in text
    assert topic in text
    assert SECRET not in text
    assert messages == []


async def test_secret_payloads(kind: str) -> None:
    """Refused in the clear unless the topic says so, in a run and outside of one."""
    app = App(kind, EncryptionPlugin(KeyRing(Key("k", bytes(32)))))

    async def body(ctx: inngest.Context) -> None:
        await publish(ORDER.clear, "may be seen")
        await publish(ORDER.log, SECRET)

    def body_sync(ctx: inngest.ContextSync) -> None:
        publish_sync(ORDER.clear, "may be seen")
        publish_sync(ORDER.log, SECRET)

    run, messages = await app.play(body, body_sync, retries=0)
    assert run.status == "Failed"
    assert messages == [("clear", "may be seen")]
    with pytest.raises(SecretMessageError, match="plaintext=True"):
        await publish(ORDER.log, SECRET, client=app.client)
    (finding,) = RealtimePlugin().diagnose(_stack(app))
    assert "plaintext=True" in finding
    assert list(RealtimePlugin().diagnose(_stack(App("async")))) == []


def _stack(app: App) -> Any:
    from inngest_plugins.core import Stack

    return Stack.of(app.client)


class Broken:
    """An engine whose realtime endpoint fails; everything else is the embedded engine."""

    def __init__(self, client: inngest.Inngest, answer: int | None) -> None:
        self.tries = 0
        self.threads: set[int] = set()
        self._answer = answer
        http: Any = client._http_client
        self._sync, self._async = http._http_client_sync, http._http_client

    def handle(self, request: httpx.Request) -> httpx.Response:
        if "/v1/realtime/" in request.url.path:
            self.tries += 1
            self.threads.add(threading.get_ident())
            if self._answer is None:
                raise httpx.ConnectError("away", request=request)
            return httpx.Response(self._answer)
        answer = self._sync.send(_again(request))
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

    async def handle_async(self, request: httpx.Request) -> httpx.Response:
        answer = await self._async.send(_again(request))
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)


def _again(request: httpx.Request) -> httpx.Request:
    return httpx.Request(
        request.method, request.url, headers=request.headers, content=request.content
    )


@pytest.mark.parametrize("answer", [None, 500, 403])
@pytest.mark.parametrize("strict", ["plugin", "call", "no"])
async def test_an_endpoint_that_fails(
    kind: str, answer: int | None, strict: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once a request, and the run goes on; an error where it was asked for."""
    app = App(kind, strict=strict == "plugin")
    options: dict[str, Any] = {"strict": True} if strict == "call" else {}

    async def body(ctx: inngest.Context) -> str:
        for number in range(3):
            await publish(ORDER.log, f"{SECRET} {number}", **options)
        return "done"

    def body_sync(ctx: inngest.ContextSync) -> str:
        for number in range(3):
            publish_sync(ORDER.log, f"{SECRET} {number}", **options)
        return "done"

    function = app.make(body, body_sync, retries=0)
    async with LocalEngine(app.client, [function]) as engine:
        broken = Broken(app.client, answer)
        with (
            answered_by(
                app.client,
                httpx.MockTransport(broken.handle_async),
                httpx.MockTransport(broken.handle),
            ),
            caplog.at_level(logging.WARNING, "inngest_plugins.realtime"),
        ):
            run = await engine.run(inngest.Event(name=EVENT))
    assert threading.get_ident() not in broken.threads
    logged = [record for record in caplog.records if record.name == "inngest_plugins.realtime"]
    if strict == "no":
        assert run.output == "done"
        assert len(logged) == 1
        assert "'log' of channel 'order:o1'" in logged[0].getMessage()
    else:
        assert run.status == "Failed"
        assert "was not published" in str(run.error)
        assert logged == []
    assert SECRET not in str(run.error) + caplog.text


async def test_outside_of_a_run() -> None:
    """With a client; without one there is nobody to publish through."""
    app = App("async")

    async def body(ctx: inngest.Context) -> None: ...

    function = app.make(body, lambda ctx: None)
    async with LocalEngine(app.client, [function]) as engine:
        with engine.subscribe(ORDER.name) as messages:
            await publish(ORDER.progress, Progress(done=1), client=app.client)
            await asyncio.to_thread(publish_sync, ORDER.log, "x", client=app.client)
        assert [message.topic async for message in messages] == ["progress", "log"]
    with pytest.raises(PublishContextError, match="client="):
        await publish(ORDER.log, "x")
    with pytest.raises(RealtimeError):
        await publish(ORDER.log, "x", client=_unreachable(), strict=True)


def _unreachable() -> inngest.Inngest:
    url = "http://127.0.0.1:1"
    return inngest.Inngest(
        app_id="x", is_production=False, api_base_url=url, event_api_base_url=url
    )


async def test_what_is_used_wrongly() -> None:
    """Messages say what to write instead."""
    with pytest.raises(PublishContextError, match="await publish"):
        publish_sync(ORDER.log, "x")
    wrong: Any = OrderChannel.log
    wrong_client: Any = "shop"
    with pytest.raises(PublishContextError, match="takes a topic of a channel"):
        await publish(wrong, "x", client=_unreachable())
    with pytest.raises(PublishContextError, match=r"client=.*inngest\.Inngest client, not str"):
        await publish(ORDER.log, "x", client=wrong_client)
    timeouts: list[Any] = [0, -1, True, float("inf"), "5", None]
    for timeout in timeouts:
        with pytest.raises(PublishContextError, match="timeout"):
            RealtimePlugin(timeout=timeout)
    with pytest.raises(TypeError, match="strict"):
        RealtimePlugin(strict="no")  # type: ignore[arg-type]


async def test_the_wire_is_the_sdks(kind: str) -> None:
    """What leaves is what `inngest.experimental.realtime` sends, with the run's id."""
    app = App(kind)
    seen: list[tuple[dict[str, str], Any]] = []

    async def body(ctx: inngest.Context) -> None:
        await publish(ORDER.progress, Progress(done=1))

    def body_sync(ctx: inngest.ContextSync) -> None:
        publish_sync(ORDER.progress, Progress(done=1))

    function = app.make(body, body_sync)
    async with LocalEngine(app.client, [function]) as engine:
        broken = Broken(app.client, 200)

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/v1/realtime/publish":
                seen.append((dict(request.url.params), json.loads(request.content)))
            return broken.handle(request)

        transports = httpx.MockTransport(broken.handle_async), httpx.MockTransport(handle)
        with answered_by(app.client, *transports):
            run = await engine.run(inngest.Event(name=EVENT))
    assert seen == [
        (
            {"channel": "order:o1", "topic": "progress", "run_id": run.id},
            {"done": 1, "note": ""},
        )
    ]
