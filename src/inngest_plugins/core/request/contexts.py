"""Context managers that plugins hold open: around a step, and until a call ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import isawaitable
from typing import Any

from inngest_plugins.core.base.errors import ArgumentError
from inngest_plugins.core.base.sync_async import Portal
from inngest_plugins.core.data.call import Call
from inngest_plugins.core.data.call_contexts import AsyncContext, Opened, as_hook
from inngest_plugins.core.data.step import Answer, Step
from inngest_plugins.core.sdk import door
from inngest_plugins.core.stack.stack import BoundHook, Stack

from .dispatch import Dispatcher, OnError, Sequence


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

    def ask(self, step: Step) -> Any:
        """Ask the plugins for an answer.

        Returns:
            What the first one returned that returned something.
        """
        hooks = self._stack.hooks["answer_step"]
        if not hooks:
            return None
        answers: list[object] = []
        yield from self._dispatcher.fire(hooks, (self._call, step), self._on_error, answers=answers)
        return answers[0] if answers else None

    def begin_step(self, step: Step, info: door.StepInfo, opened: Opened) -> Sequence:
        """Ask the plugins for an answer, else enter their contexts around the step.

        Args:
            step: the step, whose handler is about to run.
            info: the SDK's own of the step.
            opened: collects what was entered.

        Raises:
            BaseException: the SDK's control flow that ends the step with a plugin's answer.
        """
        answer = step._answer  # noqa: SLF001
        if answer is None:
            answer = yield from self.ask(step)
        handler = answer.handler if isinstance(answer, Answer) else None
        if answer is not None and handler is None and self._call.failure is None:
            raise self._interrupt_of(answer, info)
        yield from self._enter_step(step, opened)
        if handler is not None and self._call.failure is None:
            raise (yield from self._run_in_place(handler, step, info))

    def _run_in_place(self, handler: Callable[..., Any], step: Step, info: door.StepInfo) -> Any:
        """Run the handler of a plugin's answer; returns what ends the step."""
        try:
            value = handler(*step.args)
            if isawaitable(value):
                value = yield value
        except door.NestedStepInterrupt:
            return door.error_of(self._call.ctx, info, door.nested_step_error())
        except Exception as err:
            return door.error_of(self._call.ctx, info, err)
        return self._interrupt_of(Answer(value), info)

    def _interrupt_of(self, answer: object, info: door.StepInfo) -> BaseException:
        if not isinstance(answer, Answer):
            return door.error_of(
                self._call.ctx,
                info,
                TypeError(
                    f"answer_step returned {type(answer).__name__} for step "
                    f"{info.display_name!r}: return an Answer, or None to let the handler run"
                ),
            )
        if answer.error is not None:
            return door.error_of(self._call.ctx, info, answer.error)
        try:
            return door.output_of(self._call.client, info, answer.value)
        except Exception as err:  # the client's serializer refused the value
            return door.error_of(self._call.ctx, info, err)

    def _enter_step(self, step: Step, opened: Opened) -> Sequence:
        for bound in self._stack.hooks["around_step"]:
            self._dispatcher.running_hook.bound = bound
            started = time.time()
            context: Any = None
            try:
                context = self._around(bound, step)
                if isinstance(context, AsyncContext):
                    yield as_hook(self._dispatcher.running_hook, context.context.__aenter__())
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
                self._dispatcher.running_hook.bound = None

    def _around(self, bound: BoundHook, step: Step) -> AbstractContextManager[Any] | AsyncContext:
        context = bound.function(self._call, step)
        if hasattr(context, "__enter__"):
            manager: AbstractContextManager[Any] = context
            return manager
        if not hasattr(context, "__aenter__"):
            raise ArgumentError(
                f"around_step of plugin {bound.owner.name!r} returned "
                f"{type(context).__name__}, which is not a context manager"
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
                    self.left(bound, err)
            except BaseException as err:
                if err is not error:
                    raised = interrupt = err
            self._dispatcher.closed(bound, context, raised)
        if interrupt is not None:
            raise interrupt

    def left(self, bound: BoundHook | None, err: Exception) -> None:
        """A context manager raised: judge it by the hook that opened it, if a hook did."""
        if bound is not None:
            self._on_error(bound, err)
        elif self._call.failure is None:
            self._call.failure = err
