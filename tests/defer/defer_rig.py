"""Apps that defer, the embedded engine, and what goes on between them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import inngest
import pydantic

from inngest_plugins.core import answered_by
from inngest_plugins.defer import DeferPlugin, deferred_function
from inngest_plugins.local import LocalEngine, Run, VirtualClock

EVENT = "shop/test"
Json = Any


class Verdict(pydantic.BaseModel):
    """What the tests defer."""

    text: str
    score: int = pydantic.Field(default=0, ge=0)


@dataclass
class App:
    """An app with one deferred function, `judge`, that keeps what it was given."""

    kind: str
    plugins: tuple[Any, ...] = ()
    app_id: str = "shop"
    judged: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self.client = inngest.Inngest(
            app_id=self.app_id, is_production=False, middleware=[DeferPlugin(), *self.plugins]
        )
        self.judge = deferred_function(self.client, fn_id="judge", schema=Verdict, retries=0)
        judged = self.judged
        if self.kind == "async":

            async def judge_reply(ctx: inngest.Context, verdict: Verdict) -> str:
                judged.append(verdict)
                return await ctx.step.run("weigh", weigh)

            async def weigh() -> str:
                return "weighed"

            self.function: inngest.Function[Any] = self.judge(judge_reply)
        else:

            def judge_reply_sync(ctx: inngest.ContextSync, verdict: Verdict) -> str:
                judged.append(verdict)
                return ctx.step.run("weigh", lambda: "weighed")

            self.function = self.judge(judge_reply_sync)

    def make(self, body: Callable[[Any], Any], **options: Any) -> inngest.Function[Any]:
        """Make the function that defers, of a plain function that uses `Steps`."""
        make = self.client.create_function(
            fn_id="reply", trigger=inngest.TriggerEvent(event=EVENT), **options
        )
        if self.kind == "sync":

            def reply_sync(ctx: inngest.ContextSync) -> Any:
                return body(ctx)

            return make(reply_sync)

        async def reply(ctx: inngest.Context) -> Any:
            return await body(ctx)

        return make(reply)

    async def play(
        self,
        *bodies: Callable[[Any], Any],
        decide: Decide | None = None,
        serve: bool = True,
        **options: Any,
    ) -> Played:
        """Run a body (the first is async, the second sync) once, and what it deferred."""
        reply = self.make(bodies[-1] if self.kind == "sync" else bodies[0], **options)
        functions = [reply, self.function] if serve else [reply]
        async with LocalEngine(self.client, functions, clock=VirtualClock()) as engine:
            with between(self.client, decide or (lambda number: None)) as calls:
                run = await engine.run(inngest.Event(name=EVENT), function=reply, timeout=200)
                await engine.settle()
            return Played(run, engine.deferred, calls)


@dataclass
class Played:
    """A run, what it deferred, and the calls to the engine that told so."""

    run: Run
    deferred: list[Run]
    calls: Calls

    @property
    def message(self) -> str:
        """What the run failed with."""
        return str((self.run.error or {}).get("message"))


@dataclass
class Calls:
    """The checkpoint calls that an app made: the ops of each, and the answer's status."""

    ops: list[list[Json]] = field(default_factory=list[list[Json]])
    answered: list[int | None] = field(default_factory=list[int | None])

    @property
    def names(self) -> list[list[str]]:
        """The opcodes of each call."""
        return [[op["op"] for op in ops] for ops in self.ops]


Decide = Callable[[int], "str | int | None"]
"""Given the number of a call: a status to answer, "refuse", "lose", or None to let it pass."""


@contextlib.contextmanager
def between(client: inngest.Inngest, decide: Decide) -> Iterator[Calls]:
    """Stand between an app and the engine that has been opened for it."""
    http: Any = client._http_client
    engine_sync, engine_async = http._http_client_sync, http._http_client
    calls = Calls()

    def begin(request: httpx.Request) -> str | int | None:
        number = len(calls.ops)
        calls.ops.append(json.loads(request.content)["steps"])
        decision = decide(number)
        calls.answered.append(decision if isinstance(decision, int) else None)
        if decision == "refuse":
            raise httpx.ConnectError("refused", request=request)
        return decision

    def end(decision: str | int | None, request: httpx.Request, answer: httpx.Response) -> None:
        if decision == "lose":
            raise httpx.ReadTimeout("lost", request=request)
        calls.answered[-1] = answer.status_code

    def handle(request: httpx.Request) -> httpx.Response:
        if "/v1/checkpoint/" not in request.url.path:
            return _copy(engine_sync.send(_again(request)))
        decision = begin(request)
        if isinstance(decision, int):
            return httpx.Response(decision, json={"error": "injected"})
        answer = _copy(engine_sync.send(_again(request)))
        end(decision, request, answer)
        return answer

    async def handle_async(request: httpx.Request) -> httpx.Response:
        if "/v1/checkpoint/" not in request.url.path:
            return _copy(await engine_async.send(_again(request)))
        decision = begin(request)
        if isinstance(decision, int):
            return httpx.Response(decision, json={"error": "injected"})
        answer = _copy(await engine_async.send(_again(request)))
        end(decision, request, answer)
        return answer

    with answered_by(client, httpx.MockTransport(handle_async), httpx.MockTransport(handle)):
        yield calls


def _again(request: httpx.Request) -> httpx.Request:
    return httpx.Request(
        request.method, request.url, headers=request.headers, content=request.content
    )


def _copy(response: httpx.Response) -> httpx.Response:
    return httpx.Response(response.status_code, content=response.content, headers=response.headers)
