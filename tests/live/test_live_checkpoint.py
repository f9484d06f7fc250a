"""Checkpointed functions on a real server."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, Hooks
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.metadata import MetadataPlugin, metadata

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer


class Watched:
    """An app with the three plugins, and what its functions did.

    Attributes:
        requests: the attempt of each request, in order.
        ran: how often each step's handler ran.
    """

    def __init__(self, server: LiveServer, name: str) -> None:
        self.app_id = f"live-checkpoint-{name}-{uuid.uuid4().hex[:8]}"
        self.requests: list[int] = []
        self.ran: Counter[str] = Counter()
        hooks = Hooks("watched")

        @hooks.before_response
        def count(call: Call) -> None:
            self.requests.append(call.attempt)

        self.client = server.client(
            self.app_id,
            middleware=[
                hooks,
                MetadataPlugin(),
                EncryptionPlugin(KeyRing(Key("k", bytes(32)))),
                CheckpointPlugin(),
            ],
        )

    @property
    def trigger(self) -> inngest.TriggerEvent:
        """The event that starts the function."""
        return inngest.TriggerEvent(event=f"{self.app_id}/go")

    def step(self, name: str, *, failures: int = 0) -> Any:
        """Return a handler that gives its step's name, and fails at first so many times."""

        def handler() -> str:
            self.ran[name] += 1
            metadata.set(name, self.ran[name])
            if self.ran[name] <= failures:
                # Else the server waits ten seconds and more.
                raise inngest.RetryAfterError(f"{name} fails", 1000)
            return name

        return handler

    def step_async(self, name: str) -> Any:
        """Return an async handler of the same kind."""
        handler = self.step(name)

        async def handler_async() -> Any:
            return handler()

        return handler_async

    def start(self, server: LiveServer) -> str:
        """Start the function; returns the run's id."""
        return server.start(self.client, inngest.Event(name=f"{self.app_id}/go"))


NAMES = [f"s{number}" for number in range(20)]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_live_twenty_steps_are_one_request(live_server: LiveServer, is_async: bool) -> None:
    """Each runs once, the result is right, and metadata of each step is stored."""
    app = Watched(live_server, "twenty")
    options: Any = {"fn_id": "work", "trigger": app.trigger, "retries": 0}

    async def work(ctx: inngest.Context) -> Any:
        return [await ctx.step.run(name, app.step_async(name)) for name in NAMES]

    def work_sync(ctx: inngest.ContextSync) -> Any:
        return [ctx.step.run(name, app.step(name)) for name in NAMES]

    body: Any = work if is_async else work_sync
    live_server.serve(app.client, [app.client.create_function(**options)(body)])
    ended = live_server.ended(app.start(live_server))
    assert ended["status"] == "COMPLETED"
    assert app.requests == [0]
    assert app.ran == dict.fromkeys(NAMES, 1)
    for name in NAMES:
        assert name in str(ended["trace"]["childrenSpans"]), f"{name} is not in the trace"


def test_live_a_failing_step_and_a_sleep(live_server: LiveServer) -> None:
    """An error is tried again in a request of its own, and a sleep ends the request."""
    app = Watched(live_server, "mixed")

    @app.client.create_function(fn_id="work", trigger=app.trigger, retries=1)
    def work(ctx: inngest.ContextSync) -> Any:
        done = [ctx.step.run("before", app.step("before"))]
        done.append(ctx.step.run("fails", app.step("fails", failures=1)))
        ctx.step.sleep("nap", 1000)
        done.extend(ctx.step.run(name, app.step(name)) for name in NAMES[:5])
        return done

    live_server.serve(app.client, [work])
    ended = live_server.ended(app.start(live_server))
    assert ended["status"] == "COMPLETED"
    assert app.ran == {"before": 1, "fails": 2, **dict.fromkeys(NAMES[:5], 1)}
    # The error, the second attempt, the sleep, and the rest of the function.
    assert app.requests == [0, 1, 0, 0]


def test_live_a_cancelled_run_stops(live_server: LiveServer) -> None:
    """It stops at the next step, is tried no more, and the run stays cancelled."""
    app = Watched(live_server, "cancelled")
    is_in_step, may_end = threading.Event(), threading.Event()

    def slow() -> str:
        is_in_step.set()
        may_end.wait(30)
        return "slow"

    @app.client.create_function(fn_id="work", trigger=app.trigger, retries=2)
    def work(ctx: inngest.ContextSync) -> Any:
        ctx.step.run("before", app.step("before"))
        ctx.step.run("slow", slow)
        return ctx.step.run("after", app.step("after"))

    live_server.serve(app.client, [work])
    run_id = app.start(live_server)
    assert is_in_step.wait(30)
    live_server.cancel(run_id)
    may_end.set()
    deadline = time.monotonic() + 30
    while not app.requests:
        assert time.monotonic() < deadline, "the request did not end"
        time.sleep(0.1)
    assert live_server.ended(run_id)["status"] == "CANCELLED"
    assert app.requests == [0]
    assert app.ran == {"before": 1}


def test_live_a_gateway_gives_up_on_a_request(live_server: LiveServer) -> None:
    """The server asks again while the function goes on: what is stored first counts for both."""
    app = Watched(live_server, "gateway")
    slow_ran, is_asked_again, has_ended = 0, threading.Event(), threading.Event()

    def slow() -> int:
        nonlocal slow_ran
        slow_ran += 1
        if slow_ran > 1:
            is_asked_again.set()
            has_ended.wait(30)
            return 2
        is_asked_again.wait(30)
        return 1

    @app.client.create_function(fn_id="work", trigger=app.trigger, retries=2)
    def work(ctx: inngest.ContextSync) -> Any:
        first = ctx.step.run("slow", slow)
        results.append([first, ctx.step.run("after", app.step("after"))])
        return results[-1]

    results: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    def gateway(inner: Any) -> Any:
        async def outer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["method"] != "POST" or tasks:
                await inner(scope, receive, send)
                return
            body = await receive()

            async def received() -> Any:
                return body

            async def answered(message: Any) -> None:
                if not message.get("more_body", message["type"] == "http.response.start"):
                    has_ended.set()

            tasks.append(asyncio.create_task(inner(scope, received, answered)))
            while not slow_ran:
                await asyncio.sleep(0.01)
            headers = [(b"retry-after", b"1")]
            await send({"type": "http.response.start", "status": 502, "headers": headers})
            await send({"type": "http.response.body", "body": b"bad gateway"})

        return outer

    live_server.serve(app.client, [work], behind=gateway)
    ended = live_server.ended(app.start(live_server))
    assert ended["status"] == "COMPLETED"
    assert has_ended.is_set()
    assert (slow_ran, app.ran) == (2, {"after": 1})
    assert results == [[1, "after"], [1, "after"]]
    # The one that was given up on, the next attempt with its answer, and the function's end.
    assert app.requests == [0, 1, 0]
