"""A scope: the services of a step or of a whole request, opened when code needs them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

import anyio
import anyio.to_thread
import svcs
from svcs.exceptions import ServiceNotFoundError

from inngest_plugins.core import Call

from ._errors import AsyncServiceError, ScopeEndedError, UnregisteredServiceError
from ._injected import InjectedObjects
from ._types import is_async_factory, name_of

_opening: Final[ContextVar[Scope | None]] = ContextVar("inngest_plugins_opening", default=None)
"""The scope for which a factory is opening a service; the factory may ask it for more."""

_SVCS_SAYS_ASYNC: Final = "Use `aget()`"

ExcType = type[BaseException] | None
MakeContainer = Callable[[], tuple[svcs.Container, frozenset[Any]]]


class Scope:
    """Services that are opened once, when code needs them, and closed together.

    Args:
        call: the request.
        make: makes the container, and names the types that it has values of its own for.
        place: what the scope belongs to, as errors show it.

    Attributes:
        given: the objects that code received.
    """

    __slots__ = (
        "_async_lock",
        "_call",
        "_container",
        "_ended",
        "_local",
        "_make",
        "_place",
        "_thread_lock",
        "injected",
    )

    def __init__(self, call: Call, make: MakeContainer, place: str) -> None:
        self.injected = InjectedObjects()
        self._call = call
        self._make = make
        self._place = place
        self._ended = False
        self._container: svcs.Container | None = None
        self._local: frozenset[Any] = frozenset()
        self._thread_lock: threading.RLock | None = None
        self._async_lock: asyncio.Lock | None = None

    # ------------------------------------------------------------ asking

    def get(self, services: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return services, opened by sync factories where they are not open yet."""
        if _opening.get() is self:
            # A factory asks, in any thread: the lock is held for it.
            return self._get(services)
        with self._lock:
            token = _opening.set(self)
            try:
                return self._get(services)
            finally:
                _opening.reset(token)

    def _get(self, services: tuple[Any, ...]) -> tuple[Any, ...]:
        container = self._opened(services)
        self._check_sync(container, services)
        with self._explained(services):
            found = container.get(*services)
        return self._give(services, found)

    async def aget(self, services: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return services, opened by sync or async factories where they are not open yet."""
        if not self._call.is_async:
            # Nothing could close an async service when a sync function ends.
            return self.get(services)
        if _opening.get() is self:
            return await self._aget(services)
        if self._async_lock is None:
            self._async_lock = asyncio.Lock()
        async with self._async_lock:
            lock = await self._hold_lock()
            token = _opening.set(self)
            try:
                return await self._aget(services)
            finally:
                _opening.reset(token)
                lock.release()

    async def _hold_lock(self) -> threading.RLock:
        """Keep other threads from opening; one that is opening something finishes first."""
        lock = self._lock
        while not lock.acquire(blocking=False):
            # Not in this thread: what the other one opens may need this event loop.
            await anyio.to_thread.run_sync(_wait_for, lock, abandon_on_cancel=True)
        return lock

    async def _aget(self, services: tuple[Any, ...]) -> tuple[Any, ...]:
        container = self._opened(services)
        with self._explained(services):
            found = await container.aget(*services)
        return self._give(services, found)

    @property
    def _lock(self) -> threading.RLock:
        lock = self._thread_lock
        if lock is None:
            # Two threads may get here at once: both have to end up with the same lock.
            with _making_locks:
                lock = self._thread_lock = self._thread_lock or threading.RLock()
        return lock

    def _opened(self, services: tuple[Any, ...]) -> svcs.Container:
        if self._ended:
            raise ScopeEndedError(
                f"{_names(services)} was requested after {self._place} had ended: nothing would "
                "close it. Ask before the code ends, or await the task that asks"
            )
        if self._container is None:
            self._container, self._local = self._make()
        return self._container

    def _give(self, services: tuple[Any, ...], found: Any) -> tuple[Any, ...]:
        values = (found,) if len(services) == 1 else tuple(found)
        self.injected.add(services, values)
        return values

    # ------------------------------------------------------------ errors

    def _check_sync(self, container: svcs.Container, services: tuple[Any, ...]) -> None:
        # Calling an async factory would leave a coroutine that nobody awaits.
        for service in services:
            if service in container or service in self._local:
                continue
            if service in container.registry:
                registered = container.registry.get_registered_service_for(service)
                if is_async_factory(registered.factory):
                    raise self._is_async(service)

    def _is_async(self, service: Any) -> AsyncServiceError:
        name = name_of(service)
        advice = (
            f"use `await aget({name})`"
            if self._call.is_async
            else "register a sync factory, or make the function `async def`"
        )
        return AsyncServiceError(
            f"{name} or something that it needs has an async factory, and sync code requested it "
            f"in {self._place}: {advice}"
        )

    @contextmanager
    def _explained(self, services: tuple[Any, ...]) -> Iterator[None]:
        try:
            yield
        except ServiceNotFoundError as err:
            missing = err.args[0] if err.args else None
            needed = "" if missing in services else f", which {_names(services)} needs,"
            raise UnregisteredServiceError(
                f"no service is registered for {name_of(missing)}{needed} and it was requested in "
                f"{self._place}: register it with registry.register_factory or register_value"
            ) from err
        except TypeError as err:
            if not str(err).startswith(_SVCS_SAYS_ASYNC):
                raise
            raise self._is_async(services[0]) from err

    # ------------------------------------------------------------ closing

    def close(
        self, kind: ExcType, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what sync factories opened; a thread that is opening something finishes first."""
        self._ended = True
        if self._thread_lock is not None:
            _wait_for(self._thread_lock)
        container, self._container = self._container, None
        if container is not None:
            container.__exit__(kind, error, trace)

    async def aclose(
        self, kind: ExcType, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything, also while the task is being cancelled."""
        self._ended = True
        if self._thread_lock is None and self._async_lock is None:
            return  # Nobody asked for anything.
        with anyio.CancelScope(shield=True):
            await self._no_opener()
            container, self._container = self._container, None
            if container is not None:
                await container.__aexit__(kind, error, trace)

    async def _no_opener(self) -> None:
        """Wait until no task and no thread is opening something; they would leave it open."""
        if self._async_lock is not None:
            async with self._async_lock:
                pass
        if (lock := self._thread_lock) is not None:
            if lock.acquire(blocking=False):
                lock.release()
            else:
                # Not in this thread: what the other one opens may need this event loop.
                await anyio.to_thread.run_sync(_wait_for, lock)


_making_locks: Final = threading.Lock()


class Closing:
    """Closes a scope at the end of sync code."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> Scope:
        return self._scope

    def __exit__(
        self, kind: ExcType, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close(kind, error, trace)


class AsyncClosing:
    """Closes a scope at the end of async code. Entering it never waits."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __aenter__(self) -> Scope:
        return self._scope

    async def __aexit__(
        self, kind: ExcType, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.aclose(kind, error, trace)


def _wait_for(lock: threading.RLock) -> None:
    with lock:
        pass


def _names(services: tuple[Any, ...]) -> str:
    return ", ".join(map(name_of, services))
