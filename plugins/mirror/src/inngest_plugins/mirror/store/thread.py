"""An event loop in a thread of its own, for a database that sync and async code share."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")

T = TypeVar("T")
Make: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
_CLOSING_SECONDS: Final = 5.0
_logger = logging.getLogger("inngest_plugins.mirror")


class LoopThread:
    """Runs coroutines for callers of every kind: event loops, sync functions' threads, scripts.

    An async driver's connections belong to one event loop. Functions run in many loops: the web
    framework's, those of sync functions' threads, one for every test. So the database has a loop of
    its own. It starts with the first use, anew in a forked process, and does not keep the program
    alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._current: _Loop | None = None
        _THREADS.add(self)

    def run(self, make: Make[T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it in this thread.

        Args:
            make: makes the coroutine.
            timeout: seconds after which it is cancelled.

        Raises:
            TimeoutError: it took longer.
        """
        future = self._running().start(make)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError as err:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError from err

    async def run_async(self, make: Make[T], timeout: float | None = None) -> T:
        """Run a coroutine and await it in this task; see `run`."""
        future = asyncio.wrap_future(self._running().start(make))
        try:
            return await asyncio.wait_for(future, timeout)
        except asyncio.TimeoutError as err:
            raise TimeoutError from err

    def later(self, seconds: float, make: Make[None]) -> None:
        """Run a coroutine after a while; `stop` drops it."""
        self._running().later(seconds, make)

    def stop(self, last: Make[None]) -> None:
        """Run a last coroutine and stop the loop; the next use starts another."""
        if (loop := self._taken()) is not None:
            loop.start(lambda: loop.end(last)).result()

    async def stop_async(self, last: Make[None]) -> None:
        """Run a last coroutine and stop the loop; see `stop`."""
        if (loop := self._taken()) is not None:
            await asyncio.wrap_future(loop.start(lambda: loop.end(last)))

    def forget(self) -> None:
        """In a forked process: the loop and its thread are the parent's."""
        # Another thread of the parent may have held the lock.
        self._lock = threading.Lock()
        self._current = None

    def _running(self) -> _Loop:
        with self._lock:
            if self._current is None:
                self._current = _Loop(self._name)
            return self._current

    def _taken(self) -> _Loop | None:
        with self._lock:
            loop, self._current = self._current, None
            return loop


class _DatabaseLoop(asyncio.SelectorEventLoop):
    """A loop that a driver's thread may outlive.

    After a connect that failed, aiosqlite's thread tells the loop that it ends, and nobody waits
    for it: where the loop has been closed meanwhile, the thread would end with a traceback.
    """

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: Unpack[Ts],
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Call a function in the loop's thread; not at all once the loop is closed."""
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise
            return asyncio.Handle(callback, args, self, context)


class _Loop:
    """A loop that runs in a thread until it is ended."""

    def __init__(self, name: str) -> None:
        self._loop = _DatabaseLoop()
        self._loop.set_exception_handler(_tell)
        self._later: set[asyncio.Task[None]] = set()
        self._is_ending = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def start(self, make: Make[T]) -> concurrent.futures.Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        if self._loop.is_closed():
            raise RuntimeError("the database's loop has ended")
        return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def later(self, seconds: float, make: Make[None]) -> None:
        """Start a coroutine after a while."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._begin, make)

    def _begin(self, make: Make[None]) -> None:
        if not self._is_ending:
            task = self._loop.create_task(make())
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def end(self, last: Make[None]) -> None:
        """Finish the coroutines that somebody waits for, cancel the rest, and stop."""
        self._is_ending = True
        for task in self._later:
            task.cancel()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=_CLOSING_SECONDS)
        try:
            await last()
        finally:
            self._loop.call_soon(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(_all_ended(tasks))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what the loop has to say, but no error of a connection that was given up.

    A write that takes too long is cancelled. Where that happens while asyncpg connects, it leaves a
    future with a ConnectionError that nobody awaits, and asyncio would log it as an error.
    """
    future, error = context.get("future"), context.get("exception")
    is_given_up = isinstance(error, ConnectionError) and not isinstance(future, asyncio.Task)
    if future is not None and is_given_up:
        _logger.debug("a connection that was given up: %s", error)
    else:
        loop.default_exception_handler(context)


async def _all_ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


_THREADS: Final[weakref.WeakSet[LoopThread]] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_THREADS):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
