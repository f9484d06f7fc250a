"""Which function object a `step.invoke` names: the SDK reports its id alone."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import inngest

invoked_function: contextvars.ContextVar[inngest.Function[Any] | None] = contextvars.ContextVar(
    "inngest_plugins_invoked_function", default=None
)


async def invoke(
    original: Callable[..., Awaitable[Any]],
    tools: inngest.Step,
    step_id: str,
    *,
    function: inngest.Function[Any],
    **options: Any,
) -> Any:
    """`Step.invoke`: notes the function while the step is reported."""
    invoked_function.set(function)
    try:
        return await original(tools, step_id, function=function, **options)
    finally:
        invoked_function.set(None)


def invoke_sync(
    original: Callable[..., Any],
    tools: inngest.StepSync,
    step_id: str,
    *,
    function: inngest.Function[Any],
    **options: Any,
) -> Any:
    """`StepSync.invoke`: notes the function while the step is reported."""
    invoked_function.set(function)
    try:
        return original(tools, step_id, function=function, **options)
    finally:
        invoked_function.set(None)
