"""Runs code that is not the engine's: its failure ends only the task that called it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import anyio

T = TypeVar("T")


class CrashedError(Exception):
    """Foreign code raised, or was cancelled by itself; ``cause`` is what it raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


def ends_the_process(error: BaseException) -> bool:
    """Whether an exception is meant for the whole process, or for the test that runs.

    Those are ``SystemExit``, ``KeyboardInterrupt`` and the outcomes of pytest, alone or in a group.
    """
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return True
    if any(kind.__module__ == "_pytest.outcomes" for kind in type(error).__mro__):
        # ``pytest.fail()`` and its like, recognised without importing pytest.
        return True
    # Groups are read by their attribute: Python 3.10 has no class for them.
    members = getattr(error, "exceptions", None)
    if not isinstance(members, tuple):
        return False
    return any(isinstance(member, BaseException) and ends_the_process(member) for member in members)


async def outcome_of(call: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    """Await foreign code; returns its result and what it raised, except that it was cancelled.

    A task that raises `SystemExit` or `KeyboardInterrupt` stops the event loop at once, and nothing
    that is open there is closed.
    """
    try:
        return await call, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


async def isolated(call: Coroutine[Any, Any, T]) -> T:
    """Await foreign code in a task of its own.

    Code that cancels "its" task then cancels only that. Cancelling the caller cancels the code.

    Raises:
        CrashedError: It raised anything, or was cancelled from inside.
        BaseException: It raised what is meant for the whole process, see `ends_the_process`.
    """
    task = asyncio.ensure_future(outcome_of(call))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task})
        if not task.cancelled() and (ended := task.result()[1]) and ends_the_process(ended):
            raise ended from None
        raise
    if task.cancelled():
        raise CrashedError(asyncio.CancelledError())
    result, error = task.result()
    if error is None:
        return cast("T", result)
    if ends_the_process(error):
        raise error
    raise CrashedError(error)
