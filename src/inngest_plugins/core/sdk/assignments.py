"""The one place that assigns to attributes of the SDK's objects and modules."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import inngest
from inngest._internal import server_lib

from . import door


def put_event(ctx: door.AnyContext, event: inngest.Event) -> None:
    """Give the function another triggering event."""
    ctx.event = event


def put_events(ctx: door.AnyContext, events: list[inngest.Event]) -> None:
    """Give the function other triggering events."""
    ctx.events = events


def provide(ctx: door.AnyContext, name: str, value: object) -> None:
    """Add an attribute to the function's context."""
    setattr(ctx, name, value)


def put_options(info: door.StepInfo, options: dict[str, Any] | None) -> None:
    """Have a step leave for the engine with other options."""
    info.opts = options


def put_run(info: door.StepInfo) -> None:
    """Make a step that the engine would do one that runs in this app."""
    info.op = server_lib.Opcode.STEP_RUN
    info.name = info.display_name
    info.opts = None


def put_memo(output: door.Output, data: object, error: door.MemoizedError | None) -> None:
    """Put another result into the memo of a step."""
    # Past the model's own setattr, which has nothing to validate and is felt with many memos.
    object.__setattr__(output, "data", data)
    if error is not None or output.error is not None:
        output.error = error


def put_response(interrupt: door.ResponseInterrupt, item: door.CallResult) -> None:
    """Have the only response of an interrupt say what `item`, the result of a step, says."""
    (response,) = interrupt.responses
    assert item.step is not None  # noqa: S101 - it is a step's result
    response.step = item.step
    response.output = item.output
    response.original_error = item.error


def replace_function(module: ModuleType, name: str, function: object) -> object:
    """Put another function into one of the SDK's modules, and return the one that was there."""
    original: object = getattr(module, name)
    setattr(module, name, function)
    return original


def replace_middleware(client: inngest.Inngest, middleware: list[Any]) -> list[Any]:
    """Give a client another list of middleware, and return the one that it had."""
    before = client.middleware
    client.middleware = middleware
    return before
