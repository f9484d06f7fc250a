"""Run the same hook sequence in an event loop or in a plain thread.

The sequences of `_session` are generators that yield what they want awaited. That keeps one copy
of every sequence: here an async function awaits on their behalf, and a sync one hands the
awaitable to an event loop in a thread of its own (anyio's blocking portal).
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from queue import SimpleQueue

    from anyio import CancelScope
    from anyio.from_thread import BlockingPortal, BlockingPortalProvider

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


Request = tuple[Callable[[], Any], "Future[Any]"]

_lending: Final[ContextVar[bool]] = ContextVar("inngest_plugins_lending", default=False)
"""Whether this thread does something that an `async def` hook waits for, and its loop with it."""


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a worker thread, which a cancellation leaves alone."""
    from anyio.to_thread import run_sync

    return await run_sync(function, abandon_on_cancel=True)


class NotWaitingError(Exception):
    """The thread of the sync function is not waiting for an `async def` hook."""


def new_portals() -> BlockingPortalProvider:
    """Make what gives the calls that overlap one portal."""
    # Imported when it is used: it is a quarter of what importing the core would cost (`startup`).
    from anyio.from_thread import BlockingPortalProvider

    return BlockingPortalProvider()


def shielded(seconds: float) -> CancelScope:
    """Return a scope that a cancellation does not reach, and that ends after these seconds."""
    from anyio import move_on_after

    return move_on_after(seconds, shield=True)


class Portal:
    """Runs awaitables to completion from a sync function; starts its thread on first use.

    While the function's thread waits for them, they can have it do what has to be done there.

    Args:
        provider: returns what the calls of one stack share.
    """

    __slots__ = ("_exit", "_inbox", "_lock", "_portal", "_provider")

    def __init__(self, provider: Callable[[], BlockingPortalProvider]) -> None:
        self._provider = provider
        self._exit: ExitStack | None = None
        self._portal: BlockingPortal | None = None
        self._inbox: SimpleQueue[Request | Future[Any]] | None = None
        self._lock = threading.Lock()

    @property
    def blocking(self) -> BlockingPortal:
        """The portal itself; shared by the calls that overlap."""
        if self._portal is None:
            self._exit = ExitStack()
            self._portal = self._exit.enter_context(self._provider())
        return self._portal

    def run(self, sequence: Sequence[T]) -> T:
        """Run a sequence from start to end in this thread."""
        awaitable, result = advance(sequence)
        if awaitable is None:
            return result  # type: ignore[return-value]
        while True:
            try:
                value = self._finish(awaitable)
            except BaseException as err:
                step = _thrower(sequence, err)
            else:
                step = _sender(sequence, value)
            try:
                awaitable = step()
            except StopIteration as done:
                finished: T = done.value
                return finished

    def in_function_thread(self, action: Callable[[], T]) -> T:
        """Run something in the function's thread; called from the thread of the hooks.

        Raises:
            NotWaitingError: that thread is elsewhere: in the function, or in another call.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self._inbox is None:
                raise NotWaitingError
            self._inbox.put((action, answer))
        return cast("T", answer.result())

    def _finish(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for the portal, and run meanwhile what it needs in this thread."""
        from queue import SimpleQueue

        if _lending.get():
            # The loop of the portal waits for this thread.
            from anyio.from_thread import start_blocking_portal

            with start_blocking_portal() as own:
                return _unpacked(own.call(_outcome_of, awaitable))
        portal = self.blocking
        inbox: SimpleQueue[Request | Future[Any]] = SimpleQueue()
        with self._lock:
            self._inbox = inbox
        try:
            done = portal.start_task_soon(_outcome_of, awaitable)
            done.add_done_callback(inbox.put)
            while not isinstance(request := inbox.get(), Future):
                _lend(*request)
        finally:
            with self._lock:
                self._inbox = None
            while not inbox.empty():
                if not isinstance(request := inbox.get(), Future):
                    request[1].set_exception(NotWaitingError())
        return _unpacked(done.result())

    def close(self) -> None:
        """Let go of the thread; it ends when no other call uses it."""
        if self._exit is not None:
            self._exit.close()
            self._exit = self._portal = None


def _lend(action: Callable[[], Any], answer: Future[Any]) -> None:
    token = _lending.set(True)
    try:
        answer.set_result(action())
    except BaseException as err:
        answer.set_exception(err)
        if not isinstance(err, Exception):
            raise
    finally:
        _lending.reset(token)


async def _outcome_of(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Wait; an error is returned: one that is no `Exception` would end the portal of all calls."""
    try:
        return await awaitable, None
    except CancelledError:
        raise
    except BaseException as err:
        return None, err


def _unpacked(outcome: tuple[Any, BaseException | None]) -> Any:
    value, error = outcome
    if error is not None:
        raise error
    return value


def _thrower(sequence: Sequence[Any], err: BaseException) -> Callable[[], Awaitable[Any]]:
    return lambda: sequence.throw(err)


def _sender(sequence: Sequence[Any], value: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: sequence.send(value)
