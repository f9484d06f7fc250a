"""What plugins hold open until a call ends."""

from __future__ import annotations

import abc
import contextvars
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from inngest_plugins.core.base.errors import ArgumentError, CallEndedError
from inngest_plugins.core.base.keys import Keyed
from inngest_plugins.core.base.sync_async import NotWaitingError, Portal
from inngest_plugins.core.stack.stack import BoundHook, RunningHook

T = TypeVar("T")

in_async_hook: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "inngest_pluginsin_async_hook", default=False
)


async def as_hook(running: RunningHook, awaitable: Awaitable[T]) -> T:
    """Await what an `async def` hook returned; meanwhile the task's code is a hook's."""
    token = in_async_hook.set(True)
    running.awaits = True
    try:
        return await awaitable
    finally:
        running.awaits = False
        in_async_hook.reset(token)


@dataclass(frozen=True, slots=True)
class ParallelGroup:
    """A `group.parallel` that the function has reached.

    Attributes:
        place: where: `Step.branch` of each of its steps begins with it.
        is_race: whether the function goes on as soon as one branch has ended.
    """

    place: tuple[int, ...]
    is_race: bool


AroundBranch: TypeAlias = Callable[[int], AbstractContextManager[Any]]
"""Returns what to hold open around a branch, given its number."""

AroundGroup: TypeAlias = Callable[[ParallelGroup], AbstractContextManager[AroundBranch]]
"""Returns what to hold open around a group; entering it gives the same for its branches."""


class CallContexts(Keyed):
    """The part of a call that opens context managers; the core closes them when the call ends.

    Args:
        is_async: whether the function is `async def`.
        portal: runs `async def` hooks of a sync function; None for an async one.
    """

    __slots__ = (
        "_around_groups",
        "_contexts",
        "_ended",
        "_thread",
        "is_async",
        "portal",
        "running_hook",
    )

    def __init__(self, *, is_async: bool, portal: Portal | None) -> None:
        self._data = None
        self.is_async = is_async
        self.portal = portal
        self.running_hook = RunningHook()
        self._contexts: Opened = []
        self._around_groups: list[tuple[BoundHook | None, AroundGroup]] = []
        self._ended = False
        self._thread = threading.get_ident()

    @property
    @abc.abstractmethod
    def run_id(self) -> str:
        """ULID of the run."""

    @property
    @abc.abstractmethod
    def function_id(self) -> str:
        """The engine's id of the function, `"<app>-<function>"`."""

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context manager that is closed when the call ends, however it ends.

        Contexts are closed in reverse order, after the last hook. One that was entered while the
        function failed is closed with the exception; it cannot swallow it.

        Args:
            context: a sync context manager.

        Returns:
            What entering it returned.

        Raises:
            ArgumentError: it is an async context manager (use `await call.enter_async(...)`), or
                this is a thread that neither runs a sync function nor a hook of it.
            CallEndedError: the call is over.

        An `async def` hook of a sync function runs in another thread than the function, which
        enters the context meanwhile: context variables are set for the function, its steps and
        the hooks that follow, and not for the rest of that hook.
        """
        self._check_open("enter")
        if not hasattr(context, "__enter__"):
            advice = (
                "use `await call.enter_async(...)`"
                if self.is_async
                else "a sync function can only enter a sync one"
            )
            if hasattr(context, "__aenter__"):
                raise ArgumentError(
                    f"{type(context).__name__} is an async context manager: {advice}"
                )
            raise ArgumentError(f"{type(context).__name__} is not a context manager")
        if self.portal is None or threading.get_ident() == self._thread:
            value = context.__enter__()
        else:
            try:
                # What it sets has to be there for the function, and to be undone where it was set.
                value = self.portal.in_function_thread(context.__enter__)
            except NotWaitingError:
                raise ArgumentError(
                    "call.enter was used from another thread than that of the sync function "
                    f"{self.function_id!r}: use it in the function or in a hook"
                ) from None
        self._contexts.append((self._running, context))
        return value

    async def enter_async(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter an async context manager that is closed when the call ends, however it ends.

        Args:
            context: an async context manager.

        Returns:
            What entering it returned.

        Raises:
            ArgumentError: the function is sync; enter a sync context manager with `enter`.
            CallEndedError: the call is over.
        """
        self._check_open("enter_async")
        if not self.is_async:
            raise ArgumentError(
                f"call.enter_async needs an async function, and {self.function_id!r} is sync: "
                "use call.enter with a sync context manager"
            )
        running = self._running
        value = await context.__aenter__()
        self._contexts.append((running, AsyncContext(context)))
        return value

    def set_context(self, variable: contextvars.ContextVar[T], value: T) -> None:
        """Set a context variable for the rest of the call; it is reset when the call ends.

        Args:
            variable: the variable.
            value: its value for the function, its steps and the hooks.
        """
        self.enter(_ContextVariable(variable, value))

    def around_groups(self, around: AroundGroup) -> None:
        """Hold a context open around each `group.parallel` of the function, and each branch of it.

        The SDK runs the branches of a group one after the other in the same task or thread: what
        one leaves behind there, such as a context variable, is there in the next.

        Args:
            around: called with each group that the function reaches; returns a context manager.
                What entering that gives is called with the number of each branch, from 0, and
                returns the context manager to hold open around the branch.

        They see the exception of the code that they are around, and can neither swallow nor
        replace it. What they raise counts as raised by the hook in which this was called.

        Raises:
            CallEndedError: the call is over.

        Example:
            ```python
            def transform_input(self, call):
                @contextlib.contextmanager
                def group(group):
                    @contextlib.contextmanager
                    def branch(number):
                        print("in branch", number, "of", group.place)
                        yield

                    yield branch

                call.around_groups(group)
            ```
        """
        self._check_open("around_groups")
        self._around_groups.append((self._running, around))

    @property
    def _running(self) -> BoundHook | None:
        return self.running_hook.bound

    def _check_open(self, method: str) -> None:
        if self._ended:
            raise CallEndedError(
                f"call.{method} was used after the request of run {self.run_id} had ended: "
                "nothing would close what it opens"
            )


class AsyncContext:
    """Marks an async context manager among the contexts of a call."""

    __slots__ = ("context",)

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self.context = context


Opened: TypeAlias = "list[tuple[BoundHook | None, AbstractContextManager[Any] | AsyncContext]]"
"""Contexts to be closed, each with the hook that opened it, if a hook did."""


class _ContextVariable:
    """A context variable's value as a context manager."""

    __slots__ = ("token", "value", "variable")

    def __init__(self, variable: contextvars.ContextVar[T], value: T) -> None:
        self.variable = variable
        self.value = value
        self.token: contextvars.Token[Any] | None = None

    def __enter__(self) -> None:
        self.token = self.variable.set(self.value)

    def __exit__(self, *_: object) -> None:
        if self.token is not None:
            self.variable.reset(self.token)
