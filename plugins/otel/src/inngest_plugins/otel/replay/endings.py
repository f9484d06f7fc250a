"""Why a span of the function's body ends: by its own code, by an interrupt, or by Python."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncGenerator
from typing import Any, Final


class _Collecting(threading.local):
    """Whether the garbage collector is running in this thread."""

    active: bool = False


_collecting = _Collecting()


def watch_collector() -> None:
    """Watch when the garbage collector runs; only the first call counts."""
    if _note_collection not in gc.callbacks:
        gc.callbacks.append(_note_collection)


def _note_collection(phase: str, info: dict[str, int]) -> None:
    del info
    _collecting.active = phase == "start"


async def _empty() -> AsyncGenerator[None, None]:
    return
    yield


def _type_of_aclose() -> type:
    closing = _empty().aclose()
    closing.close()
    return type(closing)


_CLOSING: Final = _type_of_aclose()
"""The type of the awaitable with which the event loop closes an async generator."""


def is_control_flow(error: object) -> bool:
    """Return whether the SDK is leaving the function's code because a step takes over.

    The SDK does so with exceptions of its own that are no `Exception`, so that user code does not
    catch them.
    """
    # By type, as `isinstance` may run a `__class__` property of the user's exception.
    kind = type(error)
    return (
        issubclass(kind, BaseException)
        and not issubclass(kind, Exception)
        and kind.__module__.partition(".")[0] == "inngest"
    )


def is_runtime_closing(error: object) -> bool:
    """Return whether the garbage collector or the event loop ends this, at a moment of their own.

    Args:
        error: the exception that is being handled. A generator is closed by a `GeneratorExit`.
    """
    if _collecting.active:
        return True
    return type(error) is GeneratorExit and _in_closing_task()


def _in_closing_task() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # no event loop in this thread
    coroutine: Any = None if task is None else task.get_coro()
    return isinstance(coroutine, _CLOSING)


def is_letting_go(error: object) -> bool:
    """Return whether this ends because Python discards its frame or its object.

    Args:
        error: the exception that is being handled.
    """
    return type(error) is GeneratorExit or _collecting.active or _in_finalizer()


def _in_finalizer() -> bool:
    frame = sys._getframe(1)  # noqa: SLF001 - nothing else tells of a running `__del__`
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_globals.get("__name__") == "weakref":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
