"""Calling hooks: in order, with the failure policy of their plugin, recorded when asked for."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Generator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from inngest_plugins.core.base.safe_text import class_name
from inngest_plugins.core.data.call import Call
from inngest_plugins.core.data.call_contexts import as_hook
from inngest_plugins.core.stack.stack import BoundHook, RunningHook

if TYPE_CHECKING:
    from inngest_plugins.core.data.hook_record import HookRecord

logger = logging.getLogger("inngest_plugins")

Sequence = Generator[Awaitable[Any], Any, None]
Rest = Sequence | tuple[()]
"""The rest of a sequence that has begun: `()` where nothing has to be awaited.

Most hooks are plain functions, for which no generator is made.
"""
OnError = Callable[[BoundHook, Exception], None]

ALL = 1 << 30
"""For `fire`: let every plugin of the stack take part."""


class Dispatcher:
    """Calls the hooks of one stack for one call or one send.

    Attributes:
        call: the call that the hooks belong to, or None outside of a run.
        records: where to note each hook that ran, or None.
        running_hook: holds the hook that runs now.
        interrupted: the hook in which the call was cancelled, or ended by another BaseException.
    """

    __slots__ = (
        "_opened_at",
        "_secret",
        "call",
        "interrupted",
        "records",
        "running_hook",
    )

    def __init__(
        self,
        call: Call | None,
        records: list[HookRecord] | None,
        *,
        secret: bool = False,
    ) -> None:
        self._secret = secret
        self.call = call
        self.records = records
        self.running_hook = RunningHook() if call is None else call.running_hook
        self.interrupted: BoundHook | None = None
        self._opened_at: dict[int, float] = {}

    def fire(
        self,
        hooks: tuple[BoundHook, ...],
        args: tuple[Any, ...],
        on_error: OnError,
        *,
        below: int = ALL,
        answers: list[object] | None = None,
    ) -> Rest:
        """Call hooks one after the other, up to the first that has to be awaited.

        Args:
            hooks: in the order in which to call them.
            args: what to call each with.
            on_error: gets what a hook raised, and may raise to stop.
            below: only plugins whose position in the stack is below this take part.
            answers: gets the first thing that a hook returns, and no hook behind it is called;
                None to let hooks return what they like.

        Returns:
            The rest, from that hook on.
        """
        running, records = self.running_hook, self.records
        for position, bound in enumerate(hooks):
            if bound.index >= below:
                continue
            running.bound = bound
            started = 0.0 if records is None else time.time()
            try:
                result = bound.function(*args)
            except BaseException as err:
                on_error(bound, self._raised(bound, started, err))
                continue
            if result is not None and isawaitable(result):
                awaiting = self._await(bound, started, result, on_error)
                rest = hooks[position + 1 :]
                return self._go_on(awaiting, rest, args, on_error, below, answers)
            running.bound = None
            if records is not None:
                records.append(self.record(bound, started, None))
            if answers is not None and result is not None:
                answers.append(result)
                break
        return ()

    def _go_on(
        self,
        awaiting: Generator[Awaitable[Any], Any, Any],
        hooks: tuple[BoundHook, ...],
        args: tuple[Any, ...],
        on_error: OnError,
        below: int,
        answers: list[object] | None,
    ) -> Sequence:
        result = yield from awaiting
        if answers is not None and result is not None:
            answers.append(result)
        else:
            yield from self.fire(hooks, args, on_error, below=below, answers=answers)

    def _await(
        self, bound: BoundHook, started: float, result: Awaitable[Any], on_error: OnError
    ) -> Generator[Awaitable[Any], Any, Any]:
        """Await what a hook returned, and return its result."""
        try:
            answer = yield as_hook(self.running_hook, result)
        except BaseException as err:
            on_error(bound, self._raised(bound, started, err))
            return None
        self.running_hook.bound = None
        if self.records is not None:
            self.records.append(self.record(bound, started, None))
        return answer

    def _raised(self, bound: BoundHook, started: float, error: BaseException) -> Exception:
        """Note that a hook raised, and return the error; raise it if it is not an `Exception`."""
        self.running_hook.bound = None
        failed = error if isinstance(error, Exception) else None
        if self.records is not None:
            self.records.append(self.record(bound, started, failed))
        if failed is None:
            self.interrupted = bound
            raise error
        return failed

    def opened(self, context: object, started: float) -> None:
        """Note when the context manager of an `around_step` was entered."""
        if self.records is not None:
            self._opened_at[id(context)] = started

    def closed(self, bound: BoundHook | None, context: object, error: BaseException | None) -> None:
        """Record an `around_step` whose context manager was left."""
        if self.records is not None and bound is not None and id(context) in self._opened_at:
            self.records.append(self.record(bound, self._opened_at.pop(id(context)), error))

    def record(self, bound: BoundHook, started: float, error: BaseException | None) -> HookRecord:
        """Make the record of a hook that began at `started` and ends now."""
        from inngest_plugins.core.data.hook_record import HookRecord

        return HookRecord(
            plugin=bound.owner.name,
            hook=bound.hook,
            run_id=None if self.call is None else self.call.run_id,
            request_id=None if self.call is None else self.call.request_id,
            started_at=started,
            duration=time.time() - started,
            error=None if error is None else class_name(error),
        )

    def ignored(self, bound: BoundHook, err: BaseException) -> None:
        """Log the exception of a hook that must not disturb the run.

        Where payloads are secret, without its text, which may quote one.
        """
        where = "\n" + "".join(traceback.format_tb(err.__traceback__)) if self._secret else ""
        logger.error(
            "plugin %r raised %s in %s, which was ignored (function %s, run %s)%s",
            bound.owner.name,
            class_name(err),
            bound.hook,
            None if self.call is None else self.call.function_id,
            None if self.call is None else self.call.run_id,
            where.rstrip(),
            exc_info=None if self._secret else err,
        )
