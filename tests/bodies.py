"""Function bodies, `async def body(ctx, step)`, that run in async and in sync functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import inngest

Body = Callable[[Any, Any], Coroutine[Any, Any, Any]]
"""A function's body; in a sync function nothing that it awaits may really wait."""


def handler_of(body: Body, *, is_async: bool) -> Any:
    """Return what `create_function` decorates: the body as an async or as a sync function."""
    if is_async:

        async def handle(ctx: inngest.Context) -> Any:
            return await body(ctx, ctx.step)

        return handle

    def handle_sync(ctx: inngest.ContextSync) -> Any:
        return finished(body(ctx, SyncSteps(ctx)))

    return handle_sync


class SyncSteps:
    """Lets a body that awaits its steps run in a sync function."""

    def __init__(self, ctx: inngest.ContextSync) -> None:
        self._ctx = ctx

    def __getattr__(self, tool: str) -> Callable[..., Awaitable[Any]]:
        original = getattr(self._ctx.step, tool)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if tool == "run":
                name, handler, *rest = args
                return original(name, lambda: finished(handler(*rest)), **kwargs)
            return original(*args, **kwargs)

        return call


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the body waited for something")


async def parallel(ctx: Any, *calls: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """`ctx.group.parallel` for bodies."""
    if isinstance(ctx, inngest.Context):
        return await ctx.group.parallel(calls)
    return ctx.group.parallel(tuple(lambda call=call: finished(call()) for call in calls))
