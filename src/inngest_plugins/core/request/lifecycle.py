"""One request from end to end: what the SDK reports, as moves of the request's course."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import inngest

from inngest_plugins.core.base.sync_async import Portal, start_async
from inngest_plugins.core.data import attachments
from inngest_plugins.core.data.call import Call, current_step
from inngest_plugins.core.data.send import Send
from inngest_plugins.core.data.step import Step
from inngest_plugins.core.sdk import door, ops
from inngest_plugins.core.stack.stack import BoundHook, Stack

from .contexts import Contexts
from .course import Course, Stage
from .dispatch import ALL, Dispatcher, Rest, Sequence
from .groups import follow_groups
from .outcomes import Outcomes
from .sends import SendSession
from .steps import StepReports

if TYPE_CHECKING:
    from .delivery import StepDelivery


class CallSession:
    """Takes a request's hooks to the stack, each at most once and in the documented order.

    The SDK's own hooks arrive through its middleware (`on_*`); what it has no hook for is derived:
    memoization from the steps that the function reaches, the end from the wrapper around the call.
    Each is a move of the course (see `Stage`). The sequences are generators that yield what they
    want awaited (see `base.sync_async`).

    Attributes:
        call: what the hooks see.
        portal: runs `async def` hooks of a sync function; None for an async one.
        steps: takes the steps that the function reaches.
        delivery: takes what steps give to the engine; None where they end the request, as usual.
    """

    __slots__ = (
        "_course",
        "_delivering",
        "_dispatcher",
        "_outcomes",
        "_sending",
        "_stack",
        "_stands_aside",
        "call",
        "delivery",
        "portal",
        "steps",
    )

    def __init__(
        self,
        call: Call,
        dispatcher: Dispatcher,
        memos: dict[str, door.Output],
        portal: Portal | None,
    ) -> None:
        self.call = call
        self.portal = portal
        self._stack: Stack = call.stack
        self._dispatcher = dispatcher
        self._course = Course(call, dispatcher, self._failed)
        follow_groups(call, Contexts(call, dispatcher, portal, self._failed).left)
        hooks = self._stack.hooks
        self.steps = StepReports(
            call,
            dispatcher,
            self._contexts() if hooks["around_step"] or hooks["answer_step"] else None,
            portal,
            memos=memos if self._stack.constant_time_memos else None,
            begin_execution=self._course.begin_execution,
        )
        self._outcomes = Outcomes(call, dispatcher, self._course, self.steps)
        self._sending: SendSession | None = None
        self._delivering = 0
        self._stands_aside = False
        self.delivery = self._begin_delivery()
        call._step_input_hooks = self._run_step_input_hooks  # noqa: SLF001 - the session owns it

    def _run_step_input_hooks(self, step: Step) -> Awaitable[None] | None:
        running = self._dispatcher.running_hook
        outer, running.bound = running.bound, None
        try:
            return self._start(self.steps.transform_input(step))
        finally:
            # The hook or the code that asked goes on; what is left runs when it is awaited.
            running.bound = outer

    def _begin_delivery(self) -> StepDelivery | None:
        if self.call.stack.delivery is None:
            return None
        from .delivery import StepDelivery, begin_delivery

        begun = begin_delivery(self.call)
        if begun is None:
            return None
        delivery = StepDelivery(
            self.call,
            self._dispatcher,
            self.portal,
            begun,
            running=self.steps.running,
            outward=self._take_outward,
            inward=self._take_inward,
            on_error=self._failed,
        )
        self.steps.on_reached = delivery.on_reached
        return delivery

    def stand_aside(self) -> None:
        """The SDK calls no hook of this request, as neither plugins nor others take part in it."""
        self._stands_aside = True
        self.steps.stands_aside = True
        self.call.memos.begin_splitting()
        self._split_events()
        self._course.reach = ALL
        self._start(self._course.begin_replay())
        if not self.call.memo_count:
            self._start(self._course.begin_execution())

    def _contexts(self) -> Contexts:
        return Contexts(self.call, self._dispatcher, self.portal, self._failed)

    # ------------------------------------------------------------ the SDK's hooks

    def on_transform_input(self) -> Awaitable[None] | None:
        """The request has arrived; the function has not begun."""
        return self._start(self._transform_input())

    def on_before_execution(self) -> Awaitable[None] | None:
        """The last memo was consumed, or there was none."""
        return self._start_then_check(self._course.begin_execution())

    def on_after_execution(self) -> Awaitable[None] | None:
        """The function returned or was interrupted by a step."""
        return self._start_then_check(self._course.end_execution())

    def on_transform_output(self, result: inngest.TransformOutputResult) -> Awaitable[None] | None:
        """There is a result: of the function, of one step, or a single planned operation."""
        return self._start(self._transform_output(result))

    def on_before_response(self) -> Awaitable[None] | None:
        """The answer is ready."""
        if self.call.failure is None and not self._stack.hooks["before_response"]:
            return self._start(self._course.answer())
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
        """`step.send_event` ended; close the send if other middleware kept it from going out."""
        if self._sending is not None:
            yield from self._sending.abandon(door.error_in(interrupt) or interrupt)

    def _start(self, rest: Rest) -> Awaitable[None] | None:
        if not rest:
            return None
        if self.portal is None:
            return start_async(rest)
        self.portal.run(rest)
        return None

    def _start_then_check(self, rest: Rest) -> Awaitable[None] | None:
        if rest:
            return self._start(self._then_check(rest))
        self._raise_failure()
        return None

    def _then_check(self, rest: Rest) -> Sequence:
        yield from rest
        self._raise_failure()

    # ------------------------------------------------------------ sequences

    def _transform_input(self) -> Sequence:
        call = self.call
        stack = self._stack
        fire = self._dispatcher.fire
        args = (call,)
        if stack.hooks["on_register"]:
            from .meeting import meet

            is_async = call.is_async
            yield from meet(call.client, stack, self._dispatcher, self._failed, is_async=is_async)
        outer_hooks, inner_hooks = stack.parts["transform_input"]
        self._course.reach = stack.outer_count
        if outer_hooks:
            yield from fire(outer_hooks, args, self._failed_entering)
        self.call.memos.begin_splitting()
        self._split_events()
        self._course.reach = ALL
        if inner_hooks:
            yield from fire(inner_hooks, args, self._failed_entering)
        yield from self._course.begin_replay()
        self._raise_failure()

    def _failed_entering(self, bound: BoundHook, err: Exception) -> None:
        self._failed(bound, err)
        if bound.closed:
            # What lies further in was not reached: its outbound hooks will not run either.
            self._course.reach = bound.index + 1
            raise err

    def _split_events(self) -> None:
        call = self.call
        ctx = call.ctx
        for event in (ctx.event, *ctx.events):
            if attachments.EVENT_KEY in event.data:
                data = dict(event.data)
                attached = data.pop(attachments.EVENT_KEY)
                event.data = data
                if isinstance(attached, dict):
                    call._event_attachments = attached  # noqa: SLF001

    def _transform_output(self, result: inngest.TransformOutputResult) -> Sequence:
        if result.error is not None:
            door.forget_interrupts(result.error)
        if result.step is not None and not door.has_run(result.step.op):
            return
        if not self._course.reach:
            yield from self._enter_observers()
        if not self._delivering:
            yield from self._course.end_execution()
        if result.step is None and (yield from self._ends_with_steps()):
            return
        yield from self._outcomes.transform(result)

    def _ends_with_steps(self) -> Any:
        """Deliver what waits before the function's end; return whether that failed."""
        if self.delivery is None:
            return False
        yield from self.delivery.flush()
        return self.delivery.ends_early

    def _take_outward(self, result: door.CallResult) -> Any:
        """Take the result of a step out through all middleware, for the delivery.

        Returns:
            What middleware outside of the stack raised.
        """
        ctx = self.call.ctx
        self._delivering += 1
        try:
            if self.portal is None:
                error = yield ops.transform_output(ctx, result)
            else:
                error = ops.transform_output_sync(ctx, result)
        finally:
            self._delivering -= 1
        self._outcomes.settle(result)
        self._outcomes.go_on()
        return error

    def _take_inward(self, step: Step, data: Any, info: door.StepInfo) -> Any:
        """Take a result that the engine has stored in through the stack, for the delivery."""
        self.steps.forget(step)
        output = yield from self.steps.give_stored(step, data, info)
        return output

    def _before_response(self) -> Sequence:
        failure = self.call.failure
        if isinstance(failure, Exception) and self._course.reach and self._outcomes.seen is None:
            # Nothing came out of the request but what a plugin raised.
            yield from self._course.end_execution()
            yield from self._outcomes.carry(failure)
        yield from self._course.answer()
        if self.call.failure is not None:
            raise self._outcomes.error_for(self.call.failure)

    # ------------------------------------------------------------ the end

    def ends_well(self, result: door.CallResult) -> bool:
        """End a request that went well and left nothing open; return whether it did.

        Any other is to be finished, which may have to wait for something.
        """
        call = self.call
        if self.delivery is not None or call.failure is not None or call._contexts:  # noqa: SLF001
            return False
        for item in result.multi or (result,):
            if item.error is not None:
                return False
        if self._stands_aside:
            self._outcomes.pass_by(result)
            self._end()
        elif self._course.stage is Stage.ANSWERED:
            self._end()
            self._outcomes.settle(result)
        else:
            return False
        return True

    def finish(self, result: door.CallResult) -> Any:
        """The SDK is done with the request: close what is open, and settle the result.

        Returns:
            The result to answer with.
        """
        call, course, outcomes = self.call, self._course, self._outcomes
        if self.delivery is not None:
            result = yield from self.delivery.finish(result)
        if self._stands_aside:
            outcomes.pass_by(result)
        error = result.error
        if error is not None and (outcomes.seen is None or error is not outcomes.seen.error):
            # Other middleware raised, before or after our plugins had seen the outcome.
            call.failure = call.failure or error
            if not course.reach:
                yield from self._enter_observers()
            if course.reach and outcomes.seen is None and course.stage < Stage.ANSWERED:
                yield from course.end_execution()
                yield from outcomes.carry(error)
                result = door.failed(outcomes.error_for(error))
        raised = None if outcomes.seen is None else outcomes.seen.raised
        yield from self._close(raised or call.failure)
        if isinstance(call.failure, Exception) and result.error is None:
            result = door.failed(outcomes.as_sent(call.failure))
        outcomes.settle(result)
        return result

    def _enter_observers(self) -> Sequence:
        """Let observers in late: middleware ahead of the stack refused the request.

        Without this a run could fail and nobody would see it. They cannot change the result.
        """
        self._course.reach = self._stack.observer_count
        outer_hooks, _ = self._stack.parts["transform_input"]
        yield from self._dispatcher.fire(
            outer_hooks, (self.call,), self._failed, below=self._course.reach
        )

    def abandon(self, error: BaseException) -> Sequence:
        """The request ends without an answer: it was cancelled, or the SDK itself failed."""
        self.call.cancelled = isinstance(error, asyncio.CancelledError)
        if not self.call.cancelled:
            self.call.failure = self.call.failure or error
        if self.delivery is not None:
            yield from self.delivery.last_attempt()
        yield from self._course.break_off()
        yield from self._close(error)

    def _close(self, error: BaseException | None) -> Sequence:
        if self._course.reach and self._course.stage < Stage.ANSWERED:
            yield from self._course.answer()
        self._end()
        if opened := self.call._contexts:  # noqa: SLF001
            yield from self._contexts().exit(opened, error)

    def _end(self) -> None:
        self._course.stage = Stage.ENDED
        self.call._ended = True  # noqa: SLF001 - the session owns its call

    # ------------------------------------------------------------ hooks and their failures

    def _failed(self, bound: BoundHook, err: Exception) -> None:
        if not bound.closed:
            self._dispatcher.ignored(bound, err)
        elif self.call.failure is None:
            door.forget_interrupts(err)
            self.call.failure = err

    def _raise_failure(self) -> None:
        if self.call.failure is not None:
            raise self.call.failure
