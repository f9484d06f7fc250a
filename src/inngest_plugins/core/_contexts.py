"""Context managers that plugins hold open: around a step, and until a call ends."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

from ._call import AsyncContext, Call, Opened
from ._dispatch import Dispatcher, OnError, Sequence
from ._drive import Portal
from ._stack import BoundHook, Stack
from ._step import Step


class Contexts:
    """Enters and leaves the context managers of one call's plugins.

    Args:
        call: the call.
        dispatcher: notes what ran, and logs what is ignored.
        portal: drives async context managers of a sync function; None for an async one.
        on_error: judges what a plugin's context manager raised.
    """

    __slots__ = ("_call", "_dispatcher", "_on_error", "_portal", "_stack")

    def __init__(
        self, call: Call, dispatcher: Dispatcher, portal: Portal | None, on_error: OnError
    ) -> None:
        self._call = call
        self._stack: Stack = call.stack
        self._dispatcher = dispatcher
        self._portal = portal
        self._on_error = on_error

    def enter_step(self, step: Step, opened: Opened) -> Sequence:
        """Enter what the plugins want around a step, noting each in `opened`."""
        for bound in self._stack.hooks("around_step"):
            self._dispatcher.running = bound
            started = time.time()
            context: Any = None
            try:
                context = self._around(bound, step)
                if isinstance(context, AsyncContext):
                    yield context.context.__aenter__()
                else:
                    context.__enter__()
            except Exception as err:
                self._dispatcher.opened(context, started)
                self._dispatcher.closed(bound, context, err)
                self._on_error(bound, err)
                if bound.closed:
                    return
            else:
                opened.append((bound, context))
                self._dispatcher.opened(context, started)
            finally:
                self._dispatcher.running = None

    def _around(self, bound: BoundHook, step: Step) -> AbstractContextManager[Any] | AsyncContext:
        context = bound.function(self._call, step)
        if hasattr(context, "__enter__"):
            manager: AbstractContextManager[Any] = context
            return manager
        if not hasattr(context, "__aenter__"):
            raise TypeError(
                f"around_step of plugin {bound.owner.name!r} returned "
                f"{type(context).__name__}, which is no context manager"
            )
        if self._portal is None:
            return AsyncContext(context)
        return self._portal.blocking.wrap_async_context_manager(context)

    def exit(self, opened: Opened, error: BaseException | None) -> Sequence:
        """Leave contexts in reverse order, whatever some of them do.

        Args:
            opened: the contexts; empty afterwards.
            error: what ended the code they were around, or None.
        """
        exception = (
            (None, None, None) if error is None else (type(error), error, error.__traceback__)
        )
        interrupt: BaseException | None = None
        while opened:
            bound, context = opened.pop()
            raised: BaseException | None = None
            try:
                if isinstance(context, AsyncContext):
                    yield context.context.__aexit__(*exception)
                else:
                    context.__exit__(*exception)
            except Exception as err:
                if err is not error:
                    raised = err
                    self._left(bound, err)
            except BaseException as err:
                if err is not error:
                    raised = interrupt = err
            self._dispatcher.closed(bound, context, raised)
        if interrupt is not None:
            raise interrupt

    def _left(self, bound: BoundHook | None, err: Exception) -> None:
        if bound is not None:
            self._on_error(bound, err)
        elif self._call.failure is None:
            self._call.failure = err
