"""A function whose answers a test writes itself, for ops that the SDK does not know."""

from __future__ import annotations

import hashlib
import inspect
import json
import typing
from collections.abc import Awaitable, Callable

import fastapi
import inngest
import inngest.fast_api
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Json = typing.Any
Answer = tuple[int, Json]
Script = Callable[[Json], Answer | Awaitable[Answer]]

HEADERS = {
    "content-type": "application/json",
    "x-inngest-sdk": "inngest-py:v0.5.19",
    "x-inngest-req-version": "2",
    "x-inngest-framework": "fast_api",
    "x-inngest-sdk-handled": "true",
}


def hashed(step_id: str) -> str:
    """The id by which the engine knows a step."""
    return hashlib.sha1(step_id.encode(), usedforsecurity=False).hexdigest()


def op(kind: str, step_id: str, **more: Json) -> Json:
    """An op of a step."""
    return {
        "id": hashed(step_id),
        "op": kind,
        "name": step_id,
        "displayName": step_id,
        "userland": {"id": step_id},
        **more,
    }


def defer(defer_id: str, function: str, data: Json) -> Json:
    """The op that defers a function of the app ``app``."""
    return op("DeferAdd", defer_id, opts={"fn_slug": f"app-{function}", "input": data})


def checkpoint(body: Json, *ops: Json, **more: Json) -> Json:
    """The body of a checkpoint call for the request with that body."""
    context = body["ctx"]
    names = ("run_id", "fn_id", "qi_id", "request_id", "generation_id")
    return {**{name: context[name] for name in names}, "steps": list(ops), **more}


class Scripted:
    """Answers for the functions that a test wrote an answer for.

    Args:
        scripts: By the function's id: from the request's body to status and body of the answer.
        options: Of the functions.
    """

    def __init__(self, scripts: dict[str, Script], **options: Json) -> None:
        self.client = inngest.Inngest(app_id="app", is_production=False)
        self.functions: list[inngest.Function[Json]] = []
        self._scripts = {f"app-{name}": script for name, script in scripts.items()}
        for name in scripts:
            self._register(name, inngest.TriggerEvent(event=f"app/{name}"), options)

    def _register(self, name: str, trigger: inngest.TriggerEvent, options: Json) -> None:
        @self.client.create_function(fn_id=name, trigger=trigger, **options)
        async def never(ctx: inngest.Context) -> None:
            raise AssertionError("the script answers")

        self.functions.append(never)

    def receiver(self, name: str) -> None:
        """Add a deferred function that returns what it was called with."""

        @self.client.create_function(
            fn_id=name,
            trigger=inngest.TriggerEvent(
                event="inngest/deferred.schedule",
                expression=f"event.data._inngest.fn_slug == 'app-{name}'",
            ),
        )
        async def received(ctx: inngest.Context) -> Json:
            return {key: value for key, value in ctx.event.data.items() if key != "_inngest"}

        self.functions.append(received)

    def serve(self, client: inngest.Inngest, functions: list[inngest.Function[Json]]) -> Json:
        """For ``LocalEngine(serve=...)``."""
        app = fastapi.FastAPI()
        inngest.fast_api.serve(app, client, functions)
        return _Intercepted(app, self._scripts)


class _Intercepted:
    def __init__(self, app: ASGIApp, scripts: dict[str, Script]) -> None:
        self._app = app
        self._scripts = scripts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        function = scope.get("query_string", b"").decode().partition("&")[0].removeprefix("fnId=")
        script = self._scripts.get(function)
        if script is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        message: Message = await receive()
        answer = script(json.loads(message["body"]))
        status, body = await answer if inspect.isawaitable(answer) else answer
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})
