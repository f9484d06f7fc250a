"""One request from end to end: which hook fires when, and what happens if it does not go well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

import inngest

from . import _attachments, _sdk
from ._call import Call, current_step
from ._composition import forget, unmet
from ._contexts import Contexts
from ._dispatch import ALL, Dispatcher, Sequence
from ._drive import Portal, start_async
from ._outcome import Outcome
from ._send import Send
from ._send_session import SendSession
from ._stack import BoundHook, Stack
from ._step_reports import StepReports
from ._untold import untold

_CLOSED_BY = {"before_memoization": "after_memoization", "before_execution": "after_execution"}
_CLOSING = frozenset({"after_memoization", "after_execution", "before_response"})

ErrorT = TypeVar("ErrorT", bound=BaseException)


class CallSession:
    """Takes a request's hooks to the stack, each at most once and in the documented order.

    The SDK's own hooks arrive through the bridge (`on_*`); what it has no hook for is derived:
    memoization from the steps that the function reaches, the end from the wrapper around the call.
    The sequences are generators that yield what they want awaited (see `_drive`).

    Attributes:
        call: what the hooks see.
        portal: runs `async def` hooks of a sync function; None for an async one.
        steps: takes the steps that the function reaches.
    """

    __slots__ = (
        "_attached",
        "_carried",
        "_contexts",
        "_dispatcher",
        "_entered",
        "_executed",
        "_executing",
        "_left_error",
        "_limits",
        "_memoizing",
        "_memos",
        "_output_done",
        "_raised",
        "_replayed",
        "_responded",
        "_sending",
        "_stack",
        "_started",
        "call",
        "portal",
        "steps",
    )

    def __init__(
        self,
        call: Call,
        dispatcher: Dispatcher,
        memos: dict[str, _sdk.Output],
        portal: Portal | None,
    ) -> None:
        self.call = call
        self.portal = portal
        self._stack: Stack = call.stack
        self._dispatcher = dispatcher
        call._dispatcher = dispatcher  # noqa: SLF001 - the session owns its call
        call._portal = portal  # noqa: SLF001
        self._memos = memos
        self._contexts = Contexts(call, dispatcher, portal, self._failed)
        self.steps = StepReports(
            call,
            dispatcher,
            self._contexts,
            portal,
            memos=memos if self._stack.constant_time_memos else None,
            begin_execution=self._begin_new_code,
        )
        self._entered = 0
        self._memoizing = self._replayed = self._executing = self._executed = False
        self._started = self._output_done = self._responded = False
        self._limits: dict[str, int] | None = None
        self._left_error: Exception | None = None
        self._carried: BaseException | None = None
        self._raised: BaseException | None = None
        self._sending: SendSession | None = None

    def started(self) -> None:
        """All middleware has let the request in: the SDK calls the function now."""
        self._started = True

    # ------------------------------------------------------------ the SDK's hooks

    def on_transform_input(self) -> Awaitable[None] | None:
        """The request has arrived; the function has not begun."""
        return self._start(self._transform_input())

    def on_before_execution(self) -> Awaitable[None] | None:
        """The last memo was consumed, or there was none."""
        return None if self._executing else self._start(self._begin_execution())

    def on_after_execution(self) -> Awaitable[None] | None:
        """The function returned or was interrupted by a step."""
        return self._start(self._after_execution())

    def on_transform_output(self, result: inngest.TransformOutputResult) -> Awaitable[None] | None:
        """There is a result: of the function, of one step, or a single planned operation."""
        return self._start(self._transform_output(result))

    def on_before_response(self) -> Awaitable[None] | None:
        """The answer is ready."""
        return self._start(self._before_response())

    def on_before_send(self, events: list[inngest.Event]) -> Awaitable[None] | None:
        """`step.send_event` is about to send."""
        send = Send(
            events,
            call=self.call,
            step=current_step.get(),
            client=self.call.client,
            stack=self._stack,
        )
        self._sending = SendSession(send, self._dispatcher, self.portal, in_step=True)
        return self._sending.on_before_send(events)

    def on_after_send(self, result: inngest.SendEventsResult) -> Awaitable[None] | None:
        """`step.send_event` has sent, or failed to."""
        return None if self._sending is None else self._sending.on_after_send(result)

    def abandon_send(self, interrupt: BaseException) -> Sequence:
        """`step.send_event` ended; close what other middleware has kept from being sent."""
        if self._sending is not None:
            yield from self._sending.abandon(_sdk.error_in(interrupt) or interrupt)

    def _start(self, sequence: Sequence) -> Awaitable[None] | None:
        if self.portal is None:
            return start_async(sequence)
        self.portal.run(sequence)
        return None

    # ------------------------------------------------------------ sequences

    def _transform_input(self) -> Sequence:
        call = self.call
        stack = self._stack
        fire = self._dispatcher.fire
        args = (call,)
        if hooks := stack.hooks("on_register"):
            new = unmet(call.client, stack)
            met = tuple(bound for bound in hooks if bound.owner in new)
            yield from fire(met, (call.client,), self._failed_meeting)
        outer_hooks, inner_hooks = stack.parts("transform_input")
        self._entered = stack.outer_count
        if outer_hooks:
            yield from fire(outer_hooks, args, self._failed_entering)
        self._split_attachments()
        self._entered = ALL
        if inner_hooks:
            yield from fire(inner_hooks, args, self._failed_entering)
        self._memoizing = True
        if hooks := stack.hooks("before_memoization"):
            yield from fire(hooks, args, self._failed)
        self._raise_failure()

    def _failed_meeting(self, bound: BoundHook, err: Exception) -> None:
        if bound.closed:
            forget(self.call.client, bound.owner)
        self._failed(bound, err)

    def _failed_entering(self, bound: BoundHook, err: Exception) -> None:
        self._failed(bound, err)
        if bound.closed:
            # What lies further in was not reached: its outbound hooks will not run either.
            self._entered = bound.index + 1
            raise err

    def _split_attachments(self) -> None:
        call = self.call
        for hashed_id, output in self._memos.items():
            if _attachments.is_joined(output.data):
                joined: Any = output.data
                output.data = joined["value"]
                if joined["attachments"]:
                    if call._attachments is None:  # noqa: SLF001
                        call._attachments = {}  # noqa: SLF001
                    call._attachments[hashed_id] = joined["attachments"]  # noqa: SLF001
        for event in (call.event, *call.events):
            if _attachments.EVENT_KEY in event.data:
                data = dict(event.data)
                attached = data.pop(_attachments.EVENT_KEY)
                event.data = data
                if isinstance(attached, dict):
                    call._event_attachments = attached  # noqa: SLF001

    def _end_memoization(self) -> Sequence:
        if self._memoizing and not self._replayed:
            self._replayed = True
            yield from self._fire("after_memoization")

    def _begin_execution(self, *, raising: bool = True) -> Sequence:
        if not self._executing and self._memoizing:
            self._executing = True
            if not self._replayed:
                yield from self._end_memoization()
            self.call._executing = True  # noqa: SLF001
            yield from self._fire("before_execution")
        if raising:
            self._raise_failure()

    def _begin_new_code(self) -> Sequence:
        if not self._executing:
            yield from self._begin_execution(raising=False)

    def _end_execution(self) -> Sequence:
        """Fire `after_execution`, once, and what of its opening has not been fired yet."""
        if self._executed or not self._memoizing:
            return
        if self._started and not self._executing:
            # The function ended before it had asked for all its memos.
            yield from self._begin_execution(raising=False)
        if not self._replayed:
            yield from self._end_memoization()
        self._executed = True
        if self.call._executing:  # noqa: SLF001
            yield from self._fire("after_execution")

    def _after_execution(self) -> Sequence:
        if not self._executing:
            yield from self._begin_execution(raising=False)
        yield from self._end_execution()
        self._raise_failure()

    def _transform_output(self, result: inngest.TransformOutputResult) -> Sequence:
        error = result.error
        if error is not None:
            _sdk.forget_interrupts(error)
        if result.step is not None and not _sdk.has_run(result.step.op):
            return
        if not self._entered:
            yield from self._enter_observers()
        yield from self._end_execution()
        step = None
        if result.step is not None:
            step = self.steps.step_named(result.step.id)
            step.input = result.step.opts
        has_output = error is None and result.has_output()
        failure = self.call.failure
        if isinstance(failure, Exception) and failure is not error:
            # The SDK swallowed what a plugin raised: that is the outcome, not what it stopped.
            step, has_output, error = None, False, failure
        outcome = Outcome(
            self.call,
            step=step,
            output=result.output if has_output else None,
            has_output=has_output,
            error=error,
        )
        yield from self._outward(outcome)
        self._raised = outcome.raised
        self._carried = failure
        if outcome.error is not error:
            result.error = outcome.error
        if outcome.error is None:
            result.output = outcome.output if outcome.has_output else None
        elif error is None:
            result.output = _sdk.EMPTY
        self._left_error = outcome.error

    def _outward(self, outcome: Outcome) -> Sequence:
        self._output_done = True

        def failed(bound: BoundHook, err: Exception) -> None:
            if bound.closed:
                _sdk.forget_interrupts(err)
                outcome.raised = outcome.error = err
                outcome.has_output = False
            else:
                self._dispatcher.ignored(bound, err)

        outer_hooks, inner_hooks = self._stack.parts("transform_output")
        fire = self._dispatcher.fire
        args = (self.call, outcome)
        if inner_hooks:
            yield from fire(inner_hooks, args, failed, below=self._entered)
        if outcome.error is None and outcome.has_output:
            outcome.output = _attachments.join(outcome.output, outcome.attachments)
        if outer_hooks:
            yield from fire(outer_hooks, args, failed, below=self._entered)

    def _before_response(self) -> Sequence:
        failure = self.call.failure
        if isinstance(failure, Exception) and self._entered and not self._output_done:
            # Nothing came out of the request but what a plugin raised.
            yield from self._end_execution()
            yield from self._carry(failure)
        if not self._responded:
            self._responded = True
            yield from self._fire("before_response")
        failure = self.call.failure
        if failure is None:
            return
        raise (
            self._left_error
            if self._left_error and self._carried is failure
            else (self._as_sent(failure))
        )

    def _carry(self, failure: Exception) -> Sequence:
        """Have the plugins see a failure as the outcome of the request."""
        outcome = Outcome(self.call, step=None, output=None, has_output=False, error=failure)
        yield from self._outward(outcome)
        self._raised = outcome.raised
        self._carried = failure
        self._left_error = outcome.error or failure

    def _as_sent(self, failure: ErrorT) -> ErrorT | Exception:
        """Return what may leave of a failure that came after the outcome."""
        if self._stack.secret_payloads and isinstance(failure, Exception):
            return untold(failure, f"a plugin of function {self.call.function_id!r}")
        return failure

    # ------------------------------------------------------------ the end

    def finish(self, result: _sdk.CallResult) -> Any:
        """The SDK is done with the request: close what is open, and settle the result.

        Returns:
            The result to answer with.
        """
        call = self.call
        error = result.error
        if error is not None and error is not self._left_error:
            # Other middleware raised, before or after our plugins had seen the outcome.
            call.failure = call.failure or error
            if not self._entered:
                yield from self._enter_observers()
            if self._entered and not (self._output_done or self._responded):
                yield from self._end_execution()
                yield from self._carry(error)
                result = _sdk.failed(self._left_error or error)
        yield from self._close(self._raised or call.failure)
        if isinstance(call.failure, Exception) and result.error is None:
            result = _sdk.failed(self._as_sent(call.failure))
        _sdk.settle(result, is_final_attempt=call.is_final_attempt)
        return result

    def _enter_observers(self) -> Sequence:
        """Let observers in late: middleware ahead of the stack refused the request.

        Without this a run could fail with nobody told. Nothing of theirs can change the result.
        """
        self._entered = self._stack.observer_count
        outer_hooks, _ = self._stack.parts("transform_input")
        yield from self._dispatcher.fire(
            outer_hooks, (self.call,), self._failed, below=self._entered
        )

    def abandon(self, error: BaseException) -> Sequence:
        """The request ends without an answer: it was cancelled, or the SDK itself failed."""
        self.call.cancelled = isinstance(error, asyncio.CancelledError)
        if not self.call.cancelled:
            self.call.failure = self.call.failure or error
        yield from self._resume_closing()
        yield from self._end_memoization()
        if self._executing:
            yield from self._end_execution()
        yield from self._close(error)

    def _resume_closing(self) -> Iterable[Awaitable[Any]]:
        """Fire what is left of the hook that the call was interrupted in, if it closes something.

        If it opens something, what lies further in was not reached and will not be closed.
        """
        interrupted = self._dispatcher.interrupted
        if interrupted is None:
            return ()
        opens = interrupted.hook
        if opens == "transform_input":
            self._entered = interrupted.index + 1
        elif opens in _CLOSED_BY:
            self._limits = {_CLOSED_BY[opens]: interrupted.index + 1}
        elif opens in _CLOSING:
            hooks = self._stack.hooks(opens)
            position = next(n for n, bound in enumerate(hooks) if bound is interrupted)
            return self._dispatcher.fire(
                hooks[position + 1 :], (self.call,), self._failed, below=self._entered
            )
        return ()

    def _close(self, error: BaseException | None) -> Sequence:
        if not self._responded and self._entered:
            self._responded = True
            yield from self._fire("before_response")
        self.call._ended = True  # noqa: SLF001
        yield from self._contexts.exit(self.call._contexts, error)  # noqa: SLF001

    # ------------------------------------------------------------ hooks and their failures

    def _fire(self, name: str) -> Iterable[Awaitable[Any]]:
        """Fire a hook that takes the call alone, for the plugins that the request has reached."""
        hooks = self._stack.hooks(name)
        if not hooks:
            return ()
        below = self._entered
        if self._limits is not None:
            below = min(below, self._limits.get(name, ALL))
        return self._dispatcher.fire(hooks, (self.call,), self._failed, below=below)

    def _failed(self, bound: BoundHook, err: Exception) -> None:
        if not bound.closed:
            self._dispatcher.ignored(bound, err)
        elif self.call.failure is None:
            _sdk.forget_interrupts(err)
            self.call.failure = err

    def _raise_failure(self) -> None:
        if self.call.failure is not None:
            raise self.call.failure
