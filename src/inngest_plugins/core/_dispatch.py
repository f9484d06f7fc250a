"""Calling hooks: in order, with the failure policy of their plugin, recorded when asked for."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Generator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ._records import HookRecord
from ._stack import BoundHook

if TYPE_CHECKING:
    from ._call import Call

logger = logging.getLogger("inngest_plugins")

Sequence = Generator[Awaitable[Any], Any, None]
OnError = Callable[[BoundHook, Exception], None]

ALL = 1 << 30
"""For `fire`: let every plugin of the stack take part."""


class Dispatcher:
    """Calls the hooks of one stack for one call or one send.

    Attributes:
        call: the call that the hooks belong to, or None outside of a run.
        records: where to note each hook that ran, or None.
        running: the hook that runs now.
        interrupted: the hook in which the call was cancelled, or ended by another BaseException.
    """

    __slots__ = (
        "_opened_at",
        "_secret",
        "call",
        "interrupted",
        "records",
        "running",
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
        self.running: BoundHook | None = None
        self.interrupted: BoundHook | None = None
        self._opened_at: dict[int, float] = {}

    def fire(
        self,
        hooks: tuple[BoundHook, ...],
        args: tuple[Any, ...],
        on_error: OnError,
        *,
        below: int = ALL,
    ) -> Sequence:
        """Call hooks one after the other.

        Args:
            hooks: in the order in which to call them.
            args: what to call each with.
            on_error: gets what a hook raised, and may raise to stop.
            below: only plugins whose position in the stack is below this take part.
        """
        if self.records is not None:
            yield from self._fire_recorded(self.records, hooks, args, on_error, below)
            return
        if below is not ALL:
            hooks = tuple(bound for bound in hooks if bound.index < below)
        bound = None
        try:
            for bound in hooks:
                self.running = bound
                try:
                    result = bound.function(*args)
                    if result is not None and isawaitable(result):
                        yield result
                except Exception as err:
                    on_error(bound, err)
        except Exception:
            raise
        except BaseException:
            self.interrupted = bound
            raise
        finally:
            self.running = None

    def _fire_recorded(
        self,
        records: list[HookRecord],
        hooks: tuple[BoundHook, ...],
        args: tuple[Any, ...],
        on_error: OnError,
        below: int,
    ) -> Sequence:
        for bound in hooks:
            if bound.index >= below:
                continue
            self.running = bound
            started = time.time()
            error: Exception | None = None
            try:
                result = bound.function(*args)
                if result is not None and isawaitable(result):
                    yield result
            except Exception as err:
                error = err
            except BaseException:
                self.interrupted = bound
                raise
            finally:
                self.running = None
                records.append(self.record(bound, started, error))
            if error is not None:
                on_error(bound, error)

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
        return HookRecord(
            plugin=bound.owner.name,
            hook=bound.hook,
            run_id=None if self.call is None else self.call.run_id,
            request_id=None if self.call is None else self.call.request_id,
            started_at=started,
            duration=time.time() - started,
            error=None if error is None else type(error).__name__,
        )

    def ignored(self, bound: BoundHook, err: BaseException) -> None:
        """Log the exception of a hook that must not disturb the run.

        Where payloads are secret, without its text, which may quote one.
        """
        where = "\n" + "".join(traceback.format_tb(err.__traceback__)) if self._secret else ""
        logger.error(
            "plugin %r raised %s in %s, which was ignored (function %s, run %s)%s",
            bound.owner.name,
            type(err).__name__,
            bound.hook,
            None if self.call is None else self.call.function_id,
            None if self.call is None else self.call.run_id,
            where.rstrip(),
            exc_info=None if self._secret else err,
        )
