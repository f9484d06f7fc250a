"""The engine's side of the protocol, posted in process to an app, in each way the SDK runs one.

A test writes one `async def` body. `serve` makes an async function of it, or a sync one: then the
body is driven to its end without a loop, and what it awaits are the SDK's sync tools.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fastapi
import flask
import httpx
import inngest
import inngest.fast_api
import inngest.flask

from inngest_plugins.core import answered_by

Json = Any
Body = Callable[[Any], Awaitable[Any]]

ASYNC_SETTINGS = ("fastapi-async", "flask-async", "connect")
SYNC_SETTINGS = ("fastapi-pool", "flask", "flask-async-pool", "connect-pool")
SETTINGS = (*ASYNC_SETTINGS, *SYNC_SETTINGS)
BOTH = ("fastapi-async", "fastapi-pool")
"""One async and one sync setting, for laws that do not depend on the framework."""

_runs = itertools.count(1)

# The SDK reports every failing request of a client to this logger; only the plugins' is of
# interest here.
SILENT = logging.getLogger("silent-sdk")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


def hashed(step_id: str) -> str:
    """The id under which the engine keeps a step; reused ids are written `"id:1"`."""
    return hashlib.sha1(step_id.encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """An answer of the app."""

    status: int
    body: Json
    headers: Mapping[str, str]

    @property
    def op(self) -> dict[str, Json]:
        """The only operation of a 206."""
        assert self.status == 206, (self.status, self.body)
        (op,) = self.body
        result: dict[str, Json] = op
        return result

    @property
    def ops(self) -> list[dict[str, Json]]:
        """All operations of a 206."""
        assert self.status == 206, (self.status, self.body)
        result: list[dict[str, Json]] = self.body
        return result

    @property
    def no_retry(self) -> bool:
        """Whether the engine is told not to try again."""
        return self.headers.get("x-inngest-no-retry") == "true"


def call_body(
    *,
    memos: Mapping[str, Json] | None = None,
    events: Sequence[Mapping[str, Json]] | None = None,
    attempt: int = 0,
    max_attempts: int | None = 4,
    planning: bool = False,
    run_id: str | None = None,
    identity: Mapping[str, Json] | None = None,
    defers: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """The body of one call, with memos by the user's step ids.

    `identity` is what `ctx` says of the dispatch beside what the SDK reads.
    """
    events = events or [{"name": "shop/test", "data": {"n": 1}, "id": "e1", "ts": 1}]
    steps = {hashed(step_id): memo for step_id, memo in (memos or {}).items()}
    ctx: dict[str, Json] = {
        "attempt": attempt,
        "disable_immediate_execution": planning,
        "run_id": run_id or f"run-{next(_runs)}",
        "stack": {"stack": list(steps), "current": len(steps)},
        "use_api": False,
    }
    if max_attempts is not None:
        ctx["max_attempts"] = max_attempts
    ctx.update(identity or {})
    return {
        "ctx": ctx,
        "defers": defers or {},
        "event": events[0],
        "events": list(events),
        "steps": steps,
        "use_api": False,
    }


class Engine:
    """Answers what a client sends to the engine, and keeps the events that it sent."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.sent: list[list[dict[str, Json]]] = []
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Take one request."""
        self.requests.append(request)
        if self._answer is not None:
            return self._answer(request)
        batch: list[dict[str, Json]] = json.loads(request.content)
        self.sent.append(batch)
        return httpx.Response(200, json={"ids": [f"id{n}" for n in range(len(batch))]})

    @contextmanager
    def serving(self, client: inngest.Inngest) -> Iterator[Engine]:
        """Answer this client."""
        transport = httpx.MockTransport(self.handle)
        with answered_by(client, transport, transport):
            yield self


@dataclass
class App:
    """A served function."""

    client: inngest.Inngest
    function: inngest.Function[Any]
    setting: str
    send: Callable[[dict[str, str], dict[str, str], bytes], Awaitable[Reply]]
    posted: list[Reply] = field(default_factory=list[Reply])

    async def apost(
        self,
        *,
        function: inngest.Function[Any] | None = None,
        target: str | None = None,
        on_failure: bool = False,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Reply:
        """Post one call and return the answer."""
        query = {
            "fnId": (function or self.function).id + ("-failure" if on_failure else ""),
            "stepId": "step" if target is None else hashed(target),
        }
        reply = await self.send(
            query,
            {"content-type": "application/json", **(headers or {})},
            json.dumps(call_body(**body)).encode(),
        )
        self.posted.append(reply)
        return reply

    def post(self, **call: Any) -> Reply:
        """Post one call from a thread without an event loop."""
        return asyncio.run(self.apost(**call))


def make_client(*middleware: Any, app_id: str = "shop", **options: Any) -> inngest.Inngest:
    """A client in dev mode."""
    options.setdefault("is_production", False)
    options.setdefault("logger", SILENT)
    return inngest.Inngest(app_id=app_id, middleware=list(middleware), **options)


def serve(
    setting: str,
    body: Body,
    *middleware: Any,
    own: Sequence[Any] = (),
    client: inngest.Inngest | None = None,
    on_failure: Body | None = None,
    beside: Sequence[inngest.Function[Any]] = (),
    **options: Any,
) -> App:
    """Serve one function with `middleware` on the client and `own` on the function."""
    client = client or make_client(*middleware)
    function = make_function(setting, client, body, own=own, on_failure=on_failure, **options)
    return serve_functions(setting, client, function, *beside)


def make_function(
    setting: str,
    client: inngest.Inngest,
    body: Body,
    *,
    own: Sequence[Any] = (),
    on_failure: Body | None = None,
    **options: Any,
) -> inngest.Function[Any]:
    """Make a function, async or sync as the setting asks."""
    is_async = setting in ASYNC_SETTINGS
    make: Any = _asynchronous if is_async else synchronous
    options.setdefault("fn_id", "fn")
    options.setdefault("trigger", inngest.TriggerEvent(event="shop/test"))
    create: Any = client.create_function(
        middleware=list(own),
        on_failure=None if on_failure is None else make(on_failure),
        **options,
    )
    function: inngest.Function[Any] = create(make(body))
    return function


def serve_functions(
    setting: str, client: inngest.Inngest, *functions: inngest.Function[Any]
) -> App:
    """Serve functions that exist; calls go to the first unless they say otherwise."""
    if setting.startswith("fastapi"):
        return _fastapi(setting, client, *functions)
    if setting.startswith("flask"):
        return _flask(setting, client, *functions)
    from tests.core.core_connect import connect_sender

    return App(client, functions[0], setting, connect_sender(client, *functions))


def _fastapi(setting: str, client: inngest.Inngest, *functions: inngest.Function[Any]) -> App:
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, list(functions))
    transport = httpx.ASGITransport(app)

    async def send(query: dict[str, str], headers: dict[str, str], content: bytes) -> Reply:
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            response = await http.post(
                "/api/inngest", params=query, headers=headers, content=content
            )
        return Reply(response.status_code, response.json(), response.headers)

    return App(client, functions[0], setting, send)


def _flask(setting: str, client: inngest.Inngest, *served: inngest.Function[Any]) -> App:
    app = flask.Flask("app")
    functions = list(served)
    if setting == "flask-async-pool":
        # One async function puts the whole Flask app into async mode.
        @client.create_function(fn_id="other", trigger=inngest.TriggerEvent(event="shop/other"))
        async def other(ctx: inngest.Context) -> None:
            return None

        functions.append(other)
    inngest.flask.serve(app, client, functions)
    threads = concurrent.futures.ThreadPoolExecutor(2)

    def post(query: dict[str, str], headers: dict[str, str], content: bytes) -> Reply:
        response = app.test_client().post(
            "/api/inngest", query_string=query, headers=headers, data=content
        )
        return Reply(
            response.status_code,
            json.loads(response.data),
            {k.lower(): v for k, v in response.headers.items()},
        )

    async def send(query: dict[str, str], headers: dict[str, str], content: bytes) -> Reply:
        # A WSGI server's threads: they live on, and so does their context.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, post, query, headers, content)

    return App(client, functions[0], setting, send)


# ---------------------------------------------------------------- one body, sync or async


def _asynchronous(body: Body) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    async def handler(ctx: inngest.Context) -> Any:
        return await body(ctx)

    return handler


def synchronous(body: Body) -> Callable[[Any], Any]:
    """Make a sync function of a body that awaits nothing but `ctx`'s tools."""

    def handler(ctx: inngest.ContextSync) -> Any:
        return drive(body(_SyncContext(ctx)))

    return handler


def drive(awaitable: Any) -> Any:
    """Run a coroutine that never really waits."""
    try:
        awaitable.send(None)
    except StopIteration as done:
        return done.value
    awaitable.close()
    raise AssertionError("a body that runs as a sync function must not wait")


class _Awaiting:
    """Makes every method of a sync tool look like a coroutine function."""

    def __init__(self, tool: Any) -> None:
        self._tool = tool

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tool, name)
        if not callable(value):
            return _Awaiting(value)

        async def method(*args: Any, **kwargs: Any) -> Any:
            return value(*args, **kwargs)

        return method


class _SyncStep(_Awaiting):
    async def run(self, step_id: str, handler: Any, *args: Any, **kwargs: Any) -> Any:
        def plain(*args: Any) -> Any:
            value = handler(*args)
            return drive(value) if asyncio.iscoroutine(value) else value

        return self._tool.run(step_id, plain, *args, **kwargs)


class _SyncGroup(_Awaiting):
    async def parallel(self, callables: Any, **kwargs: Any) -> Any:
        def plain(callable_: Any) -> Any:
            return lambda: drive(callable_())

        return self._tool.parallel(tuple(map(plain, callables)), **kwargs)


class _SyncContext:
    def __init__(self, ctx: inngest.ContextSync) -> None:
        self.sdk_context = ctx
        self.step = _SyncStep(ctx.step)
        self.group = _SyncGroup(ctx.group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sdk_context, name)
