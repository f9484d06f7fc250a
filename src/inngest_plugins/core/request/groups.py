"""Where the function's code stands among its `group.parallel` calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from inngest_plugins.core.data.call import Call, current_branch
from inngest_plugins.core.data.call_contexts import AroundBranch, ParallelGroup
from inngest_plugins.core.sdk import door
from inngest_plugins.core.stack.stack import BoundHook

OnError = Callable[[BoundHook | None, Exception], None]


def follow_groups(call: Call, on_error: OnError) -> None:
    """Keep `call.branch` and `call.left_groups` up to date, and hold the plugins' contexts.

    Args:
        call: the request.
        on_error: judges what a plugin's context manager raised.
    """
    groups = _Groups(call, on_error)
    door.replace_parallel(call.ctx, groups.wrap_async if call.is_async else groups.wrap_sync)


class _Groups:
    """Numbers the groups of a request in the order in which the code of each branch starts them."""

    __slots__ = ("_call", "_on_error", "_started")

    def __init__(self, call: Call, on_error: OnError) -> None:
        self._call = call
        self._on_error = on_error
        self._started: dict[tuple[int, ...], int] = {}

    def wrap_async(self, original: Any) -> Any:
        async def parallel(callables: Iterable[Callable[[], Any]], *args: Any, **kw: Any) -> Any:
            with self._group(is_race=door.is_race(args, kw)) as standing_in:

                def branch(number: int, run: Callable[[], Any]) -> Any:
                    async def branched() -> Any:
                        with standing_in(number):
                            return await run()

                    return branched

                branches = (branch(number, run) for number, run in enumerate(callables))
                return await original(branches, *args, **kw)

        return parallel

    def wrap_sync(self, original: Any) -> Any:
        def parallel(callables: Iterable[Callable[[], Any]], *args: Any, **kw: Any) -> Any:
            with self._group(is_race=door.is_race(args, kw)) as standing_in:

                def branch(number: int, run: Callable[[], Any]) -> Any:
                    def branched() -> Any:
                        with standing_in(number):
                            return run()

                    return branched

                branches = (branch(number, run) for number, run in enumerate(callables))
                return original(branches, *args, **kw)

        return parallel

    @contextlib.contextmanager
    def _group(self, *, is_race: bool) -> Iterator[AroundBranch]:
        around = current_branch.get()
        number = self._started.get(around, 0)
        self._started[around] = number + 1
        group = ParallelGroup((*around, number), is_race)
        try:
            with ExitStack() as held:
                yield _Branches(group.place, self._enter(group, held)).standing_in
        except BaseException as err:
            if not door.is_interrupt(err):
                self._call.left_groups.append(group.place)
            raise
        finally:
            if is_race:
                self._call._after_race = True  # noqa: SLF001

    def _enter(self, group: ParallelGroup, held: ExitStack) -> list[_Watching]:
        """Enter the plugins' contexts around the group; returns those for its branches."""
        found: list[_Watching] = []
        for bound, around in self._call._around_groups:  # noqa: SLF001
            watching = _Watching(around, bound, self._on_error)
            branches = held.enter_context(watching.context(group))
            if branches is not None:
                found.append(_Watching(branches, bound, self._on_error))
        return found


class _Branches:
    """The branches of a group."""

    __slots__ = ("_place", "_watching")

    def __init__(self, place: tuple[int, ...], watching: list[_Watching]) -> None:
        self._place = place
        self._watching = watching

    @contextlib.contextmanager
    def standing_in(self, number: int) -> Iterator[None]:
        token = current_branch.set((*self._place, number))
        try:
            if not self._watching:
                yield
                return
            with ExitStack() as held:
                for each in self._watching:
                    held.enter_context(each.context(number))
                yield
        finally:
            current_branch.reset(token)


class _Watching:
    """Makes contexts of a plugin that can neither swallow nor replace what the function raises."""

    __slots__ = ("_bound", "_make", "_on_error")

    def __init__(
        self,
        make: Callable[[Any], AbstractContextManager[Any]],
        bound: BoundHook | None,
        on_error: OnError,
    ) -> None:
        self._make = make
        self._bound = bound
        self._on_error = on_error

    @contextlib.contextmanager
    def context(self, argument: object) -> Iterator[Any]:
        entered: Any = None
        context: AbstractContextManager[Any] | None = None
        try:
            made = self._make(argument)
            entered = made.__enter__()
            context = made
        except Exception as err:
            self._on_error(self._bound, err)
        error: BaseException | None = None
        try:
            yield entered
        except BaseException as err:
            error = err
            raise
        finally:
            if context is not None:
                self._leave(context, error)

    def _leave(self, context: AbstractContextManager[Any], error: BaseException | None) -> None:
        exception = (
            (None, None, None) if error is None else (type(error), error, error.__traceback__)
        )
        try:
            context.__exit__(*exception)
        except Exception as err:
            if err is not error:
                self._on_error(self._bound, err)
