"""Functions used to record the exchanges in this folder.

`build` gives the client and the functions; the FastAPI application that serves them has `Bodies` as
a middleware, by which a function reads what the SDK drops of a request, and by which `gateway`
answers with an op that the SDK does not know.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import time
import typing

import inngest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inngest_plugins.core import EngineApi

Json = typing.Any
APP = "beyond"
_body: contextvars.ContextVar[Json] = contextvars.ContextVar("body")


def hashed(step_id: str) -> str:
    """Return the id by which the engine knows a step."""
    return hashlib.sha1(step_id.encode(), usedforsecurity=False).hexdigest()


def run_op(step_id: str, data: Json, **more: Json) -> Json:
    """Return the op of a step that ran."""
    now = time.time_ns()
    return {
        "id": hashed(step_id),
        "op": "StepRun",
        "name": step_id,
        "displayName": step_id,
        "data": data,
        "opts": {},
        "userland": {"id": step_id},
        "timing": {"a": now - 5_000_000, "b": 4_000_000},
        **more,
    }


def defer_op(defer_id: str, receiver: str, data: Json) -> Json:
    """Return the op that defers a function to the end of the run."""
    return {
        "id": hashed(defer_id),
        "op": "DeferAdd",
        "userland": {"id": defer_id},
        "opts": {"fn_slug": f"{APP}-{receiver}", "input": data},
    }


def abort_op(defer_id: str) -> Json:
    """Return the op that takes a deferred function back."""
    return {
        "id": hashed(f"abort {defer_id}"),
        "op": "DeferAbort",
        "opts": {"target_hashed_id": hashed(defer_id)},
    }


class Bodies:
    """Keeps the body of a request for the function that handles it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        raw = b""
        more = True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        body = json.loads(raw)
        step = gateway_answer(scope["query_string"].decode(), body)
        if step is not None:
            await answer(send, *step)
            return
        _body.set(body)
        sent = False

        async def once() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": raw, "more_body": False}

        await self.app(scope, once, send)


def gateway_answer(query: str, body: Json) -> tuple[int, Json] | None:
    """Answer for `gateway`, as an SDK would that knows the op."""
    if f"fnId={APP}-gateway&" not in query:
        return None
    memo = body["steps"].get(hashed("fetch"))
    if memo is not None:
        return 200, memo
    op = {
        "id": hashed("fetch"),
        "op": "Gateway",
        "name": "fetch",
        "displayName": "fetch",
        "userland": {"id": "fetch"},
        "opts": body["event"]["data"],
    }
    return 206, [op]


async def answer(send: Send, status: int, body: Json) -> None:
    """Send an answer as the SDK does."""
    headers = {
        "content-type": "application/json",
        "x-inngest-sdk": "inngest-py:v0.5.19",
        "x-inngest-req-version": "2",
        "x-inngest-framework": "fast_api",
        "x-inngest-sdk-handled": "true",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def build(api: str | None = None) -> tuple[inngest.Inngest, list[inngest.Function[Json]]]:
    """Return a fresh client and its functions."""
    client = inngest.Inngest(
        app_id=APP, is_production=False, api_base_url=api, event_api_base_url=api
    )
    engine = EngineApi(client, attempts=1)
    functions: list[inngest.Function[Json]] = []

    def fn(fn_id: str, **options: Json) -> typing.Callable[[Json], Json]:
        options.setdefault("trigger", inngest.TriggerEvent(event=f"{APP}/{fn_id}"))

        def register(handler: Json) -> Json:
            function = client.create_function(fn_id=fn_id, **options)(handler)
            functions.append(function)
            return function

        return register

    def receiver(fn_id: str) -> typing.Callable[[Json], Json]:
        return fn(
            fn_id,
            trigger=inngest.TriggerEvent(
                event="inngest/deferred.schedule",
                expression=f"event.data._inngest.fn_slug == '{APP}-{fn_id}'",
            ),
        )

    async def checkpoint(*ops: Json, queued: bool = True) -> int:
        """Send ops to the engine while the request goes on."""
        context = _body.get()["ctx"]
        now = time.time_ns() // 1_000_000
        response = await engine.request(
            "POST",
            f"/v1/checkpoint/{context['run_id']}/async",
            json={
                "run_id": context["run_id"],
                "fn_id": context["fn_id"],
                "qi_id": context["qi_id"] if queued else "",
                "request_id": context["request_id"],
                "generation_id": context["generation_id"],
                "ts": now,
                "request_started_at": now - 10,
                "steps": list(ops),
            },
        )
        return response.status_code

    def first() -> bool:
        return not _body.get()["steps"]

    async def value() -> Json:
        return "ran"

    @fn("checkpoint")
    async def accepted(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint(run_op("one", 1))
            await checkpoint(run_op("two", {"n": 2}), run_op("three", None))
        return [await ctx.step.run(name, value) for name in ("one", "two", "three", "four")]

    @fn("checkpoint-duplicate")
    async def duplicate(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint(run_op("one", "first write"))
            await checkpoint(run_op("one", "second write"))
            await checkpoint(run_op("one", "third write"), run_op("two", 2))
        return [await ctx.step.run(name, value) for name in ("one", "two", "three")]

    @fn("checkpoint-then-return")
    async def then_return(ctx: inngest.Context) -> Json:
        await checkpoint(run_op("one", 1))
        return "done"

    @fn("checkpoint-planned")
    async def planned(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint({**run_op("one", None), "op": "StepPlanned"})
            await checkpoint(run_op("one", 1))
        return [await ctx.step.run(name, value) for name in ("one", "two")]

    @fn("checkpoint-bad-op")
    async def bad_op(ctx: inngest.Context) -> Json:
        statuses: Json = []
        if first():
            for op in ("Sleep", "StepError", "StepFailed", "InvokeFunction", "RunComplete", "None"):
                statuses.append(await checkpoint({**run_op("bad", 1), "op": op, "name": "1h"}))
            # What stands before a refused op is kept.
            mixed = [run_op("good", 1), {**run_op("bad", 1), "op": "Sleep"}, run_op("late", 2)]
            statuses.append(await checkpoint(*mixed))
            statuses.append(await checkpoint())
            statuses.append(await checkpoint({**run_op("bad", 1), "op": "Unheard"}))
        seen = [await ctx.step.run(name, value) for name in ("good", "late", "bad")]
        return {"seen": seen, "statuses": statuses}

    @fn("checkpoint-attempt", retries=1)
    async def attempt(ctx: inngest.Context) -> Json:
        if ctx.attempt == 0 and first():
            raise ValueError("before the checkpoint")
        if first():
            await checkpoint(run_op("one", 1))
            raise ValueError("after the checkpoint")
        if ctx.attempt == 0:
            raise ValueError("the counter began anew")
        return ctx.attempt

    @fn("checkpoint-attempt-unqueued", retries=1)
    async def unqueued(ctx: inngest.Context) -> Json:
        if ctx.attempt == 0:
            raise ValueError("before the checkpoint")
        await checkpoint(run_op("one", 1), queued=False)
        raise ValueError("the last")

    @fn("checkpoint-metadata")
    async def with_metadata(ctx: inngest.Context) -> Json:
        if first():
            entries = [
                {"scope": scope, "kind": "userland.default", "op": "merge", "values": {scope: 1}}
                for scope in ("run", "step", "step_attempt")
            ]
            await checkpoint(run_op("one", 1, metadata=entries))
        return [await ctx.step.run(name, value) for name in ("one", "two")]

    @fn("checkpoint-too-large")
    async def too_large(ctx: inngest.Context) -> Json:
        return await checkpoint(run_op("one", "x" * 4_300_000))

    @fn("checkpoint-before-parallel")
    async def before_parallel(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint(run_op("one", 1))
        one = await ctx.step.run("one", value)
        pair = await ctx.group.parallel(
            (lambda: ctx.step.run("left", value), lambda: ctx.step.run("right", value))
        )
        return [one, *pair]

    @receiver("deferred")
    async def deferred(ctx: inngest.Context) -> Json:
        return {name: ctx.event.data[name] for name in ctx.event.data if name != "_inngest"}

    async def deferring(ctx: inngest.Context) -> None:
        if first():
            await checkpoint(defer_op("mail", "deferred", {"to": "a"}), queued=False)
            await ctx.step.run("work", value)
        await ctx.step.run("work", value)

    @fn("defer")
    async def defer(ctx: inngest.Context) -> Json:
        await deferring(ctx)
        return "done"

    @fn("defer-then-fail", retries=0)
    async def defer_then_fail(ctx: inngest.Context) -> Json:
        await deferring(ctx)
        raise ValueError("failed")

    @fn("defer-then-cancelled")
    async def defer_then_cancelled(ctx: inngest.Context) -> Json:
        await deferring(ctx)
        await ctx.step.sleep("long", 60_000)

    @fn("defer-abort")
    async def defer_abort(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint(defer_op("mail", "deferred", {"to": "a"}), queued=False)
            await checkpoint(defer_op("post", "deferred", {"to": "b"}), queued=False)
        await ctx.step.run("work", value)
        if len(_body.get()["steps"]) == 1:
            await checkpoint(abort_op("mail"), queued=False)
            await checkpoint(abort_op("never deferred"), queued=False)
        await ctx.step.run("more", value)
        return "done"

    @fn("defer-twice")
    async def defer_twice(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint(defer_op("mail", "deferred", {"to": "first"}), queued=False)
            await checkpoint(defer_op("mail", "deferred", {"to": "second"}), queued=False)
        await ctx.step.run("work", value)
        return "done"

    @fn("defer-after-abort")
    async def defer_after_abort(ctx: inngest.Context) -> Json:
        if first():
            await checkpoint(defer_op("mail", "deferred", {"to": "first"}), queued=False)
            await checkpoint(abort_op("mail"), queued=False)
            await checkpoint(defer_op("mail", "deferred", {"to": "second"}), queued=False)
        await ctx.step.run("work", value)
        return "done"

    @fn("defer-refused")
    async def defer_refused(ctx: inngest.Context) -> Json:
        if first():
            unnamed = {**defer_op("unnamed", "deferred", {}), "opts": {"input": {}}}
            await checkpoint(unnamed, queued=False)
            await checkpoint(defer_op("unknown", "unknown", {}), queued=False)
            await checkpoint(defer_op("list", "deferred", [1]), queued=False)
            await checkpoint({**defer_op("bare", "deferred", {}), "opts": None}, queued=False)
        await ctx.step.run("work", value)
        return "done"

    @fn("defer-21")
    async def defer_21(ctx: inngest.Context) -> Json:
        if first():
            ops = [defer_op(f"mail-{n}", "deferred", {"n": n}) for n in range(21)]
            await checkpoint(*ops, queued=False)
        await ctx.step.run("work", value)
        return "done"

    @fn("gateway")
    async def gateway(ctx: inngest.Context) -> None:
        """Answered by `Bodies`."""

    @fn("steps", retries=0)
    async def steps(ctx: inngest.Context) -> Json:
        async def add(left: int, right: int) -> int:
            return left + right

        one = await ctx.step.run("one", add, 1, 1)
        two = await ctx.step.run("two", add, one, 1)
        if ctx.event.data.get("wait"):
            await ctx.step.sleep("long", 60_000)
        if ctx.event.data.get("fail"):
            raise ValueError("failed")
        return two

    return client, functions
