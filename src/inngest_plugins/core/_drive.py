"""Run the same hook sequence in an event loop or in a plain thread.

The sequences of `_session` are generators that yield what they want awaited. That keeps one copy
of every sequence: here an async function awaits on their behalf, and a sync one hands the
awaitable to an event loop in a thread of its own (anyio's blocking portal).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import Any, TypeVar

import anyio.from_thread

T = TypeVar("T")
Sequence = Generator[Awaitable[Any], Any, T]


def advance(sequence: Sequence[T]) -> tuple[Awaitable[Any] | None, T | None]:
    """Run a sequence up to its first awaitable.

    Returns:
        `(awaitable, None)` when it wants something awaited, `(None, result)` when it is done.
    """
    try:
        return next(sequence), None
    except StopIteration as done:
        return None, done.value


async def resume(sequence: Sequence[T], awaitable: Awaitable[Any]) -> T:
    """Finish a sequence that `advance` left at `awaitable`."""
    while True:
        try:
            value = await awaitable
        except BaseException as err:
            step: Callable[[], Awaitable[Any]] = _thrower(sequence, err)
        else:
            step = _sender(sequence, value)
        try:
            awaitable = step()
        except StopIteration as done:
            result: T = done.value
            return result


async def run_async(sequence: Sequence[T]) -> T:
    """Run a sequence from start to end in this task."""
    awaitable, result = advance(sequence)
    if awaitable is None:
        return result  # type: ignore[return-value]
    return await resume(sequence, awaitable)


def start_async(sequence: Sequence[None]) -> Coroutine[Any, Any, None] | None:
    """Run a sequence as far as it goes without awaiting.

    Returns:
        None when it is done, else the coroutine that finishes it. The SDK awaits what a hook
        returns, so that a stack of plain `def` hooks never pays for a coroutine.
    """
    awaitable = next(sequence, None)
    return None if awaitable is None else resume(sequence, awaitable)


class Portal:
    """Runs awaitables to completion from a sync function; starts its thread on first use."""

    __slots__ = ("_exit", "_portal", "_provider")

    def __init__(self, provider: anyio.from_thread.BlockingPortalProvider) -> None:
        self._provider = provider
        self._exit: ExitStack | None = None
        self._portal: anyio.from_thread.BlockingPortal | None = None

    @property
    def blocking(self) -> anyio.from_thread.BlockingPortal:
        """The portal itself; shared by the calls that overlap."""
        if self._portal is None:
            self._exit = ExitStack()
            self._portal = self._exit.enter_context(self._provider)
        return self._portal

    def run(self, sequence: Sequence[T]) -> T:
        """Run a sequence from start to end in this thread."""
        awaitable, result = advance(sequence)
        if awaitable is None:
            return result  # type: ignore[return-value]
        while True:
            try:
                value = self.blocking.call(_wait_for, awaitable)
            except BaseException as err:
                step = _thrower(sequence, err)
            else:
                step = _sender(sequence, value)
            try:
                awaitable = step()
            except StopIteration as done:
                finished: T = done.value
                return finished

    def close(self) -> None:
        """Let go of the thread; it ends when no other call uses it."""
        if self._exit is not None:
            self._exit.close()
            self._exit = self._portal = None


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _thrower(sequence: Sequence[Any], err: BaseException) -> Callable[[], Awaitable[Any]]:
    return lambda: sequence.throw(err)


def _sender(sequence: Sequence[Any], value: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: sequence.send(value)
