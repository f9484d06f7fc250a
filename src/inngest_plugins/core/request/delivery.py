"""Delivers step results without ending the request, so that the function goes on in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inngest_plugins.core.base.errors import OpTooLargeError, RunEndedError, StaleDispatchError
from inngest_plugins.core.base.stored_json import through_the_wire
from inngest_plugins.core.base.sync_async import Portal, run_async
from inngest_plugins.core.data.call import Call
from inngest_plugins.core.data.step import Step, StepStatus
from inngest_plugins.core.sdk import assignments, door, ops
from inngest_plugins.core.stack.delivery import DeliveryRequest, RequestDelivery

from .dispatch import Dispatcher, OnError, Sequence

logger = logging.getLogger("inngest_plugins")


@dataclass(eq=False, repr=False, slots=True)
class _Waiting:
    """A result that the function was given and the engine has not acknowledged yet."""

    item: door.CallResult
    op: dict[str, Any]
    step: Step
    since: float


class StepDelivery:
    """Sends the result of each step that ran to the engine, and returns what a replay would.

    Where a result cannot be delivered it ends the request as its answer, as without a delivery,
    together with all that wait.

    Args:
        call: the call.
        dispatcher: calls the hooks.
        portal: runs `async def` hooks of a sync function; None for an async one.
        course: sends the operations.
        running: returns the step of an operation, if its handler has run.
        outward: takes a step's result out through all middleware; returns what that raised.
        inward: takes a stored result in through the stack, for a step.
        on_error: judges what a hook raised.

    Attributes:
        is_stopped: whether another request has the job, or the run is over.
    """

    __slots__ = (
        "_answered",
        "_call",
        "_course",
        "_dispatcher",
        "_inward",
        "_is_broken",
        "_on_error",
        "_outward",
        "_portal",
        "_running",
        "_stopped_at",
        "_waiting",
    )

    def __init__(
        self,
        call: Call,
        dispatcher: Dispatcher,
        portal: Portal | None,
        course: RequestDelivery,
        *,
        running: Callable[[door.StepInfo], Step | None],
        outward: Callable[[door.CallResult], Any],
        inward: Callable[[Step, Any, door.StepInfo], Any],
        on_error: OnError,
    ) -> None:
        self._call = call
        self._dispatcher = dispatcher
        self._portal = portal
        self._course = course
        self._running = running
        self._outward = outward
        self._inward = inward
        self._on_error = on_error
        self._waiting: list[_Waiting] = []
        self._answered: dict[int, Exception | None] = {}
        self._is_broken = False
        self._stopped_at: door.StepInfo | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether another request has the job, or the run is over."""
        return self._stopped_at is not None

    @property
    def ends_early(self) -> bool:
        """Whether the request ends with steps, whatever the function does next."""
        return self.is_stopped or bool(self._waiting)

    def has_gone_out(self, result: door.CallResult) -> tuple[bool, Exception | None]:
        """Return whether a result has gone out through all middleware, and what that raised."""
        items = result.multi
        if items is None or len(items) != 1 or id(items[0].step) not in self._answered:
            return False, None
        return True, self._answered[id(items[0].step)]

    # ------------------------------------------------------------ the course of the function

    def on_reached(self, info: door.StepInfo, status: StepStatus) -> Sequence:
        """The function has reached a step that has no stored result."""
        if self._stopped_at is not None:
            raise self._stop(info)
        if not self._waiting:
            return
        if status == "running" and not self._is_due():
            return
        # An answer of several operations has the engine plan every step that follows.
        yield from self.flush()
        if self._stopped_at is not None:
            raise self._stop(info)
        if self._waiting and status == "running":
            raise self._give_waiting()

    def run_async(self, original: Any) -> Any:
        """Wrap the coroutine function `ctx.step.run`."""
        call = self._call

        async def run(step_id: str, *args: Any, **options: Any) -> Any:
            try:
                return await original(step_id, *args, **options)
            except door.ResponseInterrupt as err:
                interrupt = err
            stored = await run_async(self._take(interrupt))
            if stored is None:
                raise interrupt
            return ops.result_on_replay(call.client, stored, options)

        return run

    def run_sync(self, original: Any) -> Any:
        """Wrap the function `ctx.step.run`."""
        call = self._call
        portal = self._portal
        assert portal is not None  # noqa: S101 - a sync function's call always has one

        def run(step_id: str, *args: Any, **options: Any) -> Any:
            try:
                return original(step_id, *args, **options)
            except door.ResponseInterrupt as err:
                interrupt = err
            stored = portal.run(self._take(interrupt))
            if stored is None:
                raise interrupt
            return ops.result_on_replay(call.client, stored, options)

        return run

    def _take(self, interrupt: door.ResponseInterrupt) -> Any:
        """Deliver the result of a step.

        Args:
            interrupt: what the SDK ends the request with.

        Returns:
            The stored result as a replay would have it; None when the interrupt is to end the
            request.

        Raises:
            BaseException: another interrupt, which is to end it instead.
        """
        info = ops.success_in(interrupt)
        step = None if info is None else self._running(info)
        if info is None or step is None or not self._may_deliver():
            yield from self._before_ending(interrupt)
            return None
        result = ops.result_of(interrupt)
        error = yield from self._outward(result)
        (item,) = result.multi or [result]
        failed = error or item.error or self._call.failure
        waiting = None if failed else self._written(item, step)
        if waiting is None:
            self._answer(interrupt, item, error)
            yield from self._before_ending(interrupt)
            return None
        self._waiting.append(waiting)
        if self._is_due():
            yield from self.flush()
            if self._stopped_at is not None:
                raise self._stop(info)
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self._answer(interrupt, item)
                return None
        stored = yield from self._inward(step, waiting.op["data"], info)
        return stored

    def _may_deliver(self) -> bool:
        call = self._call
        return (
            not self._is_broken
            and call.failure is None
            and call.target is None
            and not call._after_race  # noqa: SLF001
            and not door.in_parallel()
            and self._course.accepts()
        )

    def _written(self, item: door.CallResult, step: Step) -> _Waiting | None:
        """Write a result as an operation; None for what has to be answered.

        The SDK refuses what is no JSON, and a lone surrogate goes into an answer only.
        """
        try:
            op = ops.wire_op(item)
            op["data"] = through_the_wire(op["data"])
        except Exception:
            return None
        op["timing"] = {"a": step.started_ns, "b": step.duration_ns}
        return _Waiting(item, op, step, time.monotonic())

    def _answer(
        self,
        interrupt: door.ResponseInterrupt,
        item: door.CallResult,
        error: Exception | None = None,
    ) -> None:
        """Have the interrupt end the request with the result as the middleware left it."""
        assignments.put_response(interrupt, item)
        self._answered[id(item.step)] = error

    def _before_ending(self, interrupt: door.ResponseInterrupt) -> Sequence:
        """The interrupt will end the request: let nothing wait."""
        if self._stopped_at is not None:
            raise self._stop(self._stopped_at)
        if not self._waiting or door.in_parallel():
            return
        yield from self.flush()
        if self._stopped_at is not None:
            raise self._stop(self._stopped_at)
        failed = ops.failure_in(interrupt)
        if self._waiting and failed is not None and id(failed) not in self._answered:
            # Sent with others, an error would be tried again in a request whose count of attempts
            # starts anew. It runs again when these are stored.
            raise self._give_waiting()

    def _is_due(self) -> bool:
        age = time.monotonic() - self._waiting[0].since
        return self._course.is_due(len(self._waiting), age)

    def _give_waiting(self) -> BaseException:
        items = [waiting.item for waiting in self._waiting]
        self._waiting.clear()
        self._answered.update((id(item.step), None) for item in items)
        return ops.interrupt_of(items)

    def _stop(self, info: door.StepInfo) -> BaseException:
        return ops.interrupt_of(ops.stop_at(info).multi or [])

    # ------------------------------------------------------------ the engine

    def flush(self) -> Sequence:
        """Send what waits. What could not be sent goes on waiting, for the answer."""
        if self._is_broken or not self._waiting:
            return
        sent, self._waiting = self._waiting, []
        done = 0
        try:
            try:
                yield from self._send([waiting.op for waiting in sent])
            except OpTooLargeError:
                if len(sent) == 1:
                    raise
                # One of them is too large, or all of them together.
                for waiting in sent:
                    yield from self._send([waiting.op])
                    done += 1
            done = len(sent)
        except (StaleDispatchError, RunEndedError) as err:
            self._stopped_at = sent[0].item.step
            logger.info(
                "function %r stops before its end: %s. Nothing is lost",
                self._call.function_id,
                err,
            )
            return
        except Exception as err:
            self._is_broken = True
            logger.warning(
                "function %r: %d step(s) of run %s could not be delivered while the request goes "
                "on, so that they end it as its answer: %s",
                self._call.function_id,
                len(sent) - done,
                self._call.run_id,
                err,
            )
        except BaseException:
            self._waiting = [*sent[done:], *self._waiting]
            raise
        self._waiting = [*sent[done:], *self._waiting]
        hooks = self._call.stack.hooks["step_delivered"]
        for waiting in sent[:done]:
            if hooks:
                args = (self._call, waiting.step)
                yield from self._dispatcher.fire(hooks, args, self._on_error)

    def _send(self, operations: list[dict[str, Any]]) -> Sequence:
        if self._portal is None:
            yield self._course.send(operations)
        else:
            self._course.send_sync(operations)

    def last_attempt(self) -> Sequence:
        """The request ends without an answer: try once to send what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting or self.is_stopped:
            return
        operations = [each.op for each in waiting]
        engine = self._call.engine
        try:
            if self._portal is None:
                yield engine.send_ops(operations, attempts=1)
            else:
                engine.send_ops_sync(operations, attempts=1)
        except Exception as err:
            logger.warning(
                "function %r: %d step(s) of run %s will run again: the request ended before they "
                "were delivered: %s",
                self._call.function_id,
                len(operations),
                self._call.run_id,
                err,
            )

    # ------------------------------------------------------------ the answer

    def finish(self, result: door.CallResult) -> Any:
        """Return the result to answer with, given what the SDK would answer.

        What still waits goes with it. One answer cannot hold steps and the function's
        result: then the steps are the answer, and the next request reaches the end again.
        """
        if self._stopped_at is not None:
            return ops.stop_at(self._stopped_at)
        if result.multi is None:
            yield from self.flush()
            if self._stopped_at is not None:
                return ops.stop_at(self._stopped_at)
        if not self._waiting:
            return result
        items = [waiting.item for waiting in self._waiting]
        self._waiting.clear()
        return ops.steps_found([*items, *(result.multi or ())])


def begin_delivery(call: Call) -> RequestDelivery | None:
    """Return the delivery that the stack provides for a request, if it provides one."""
    provided = call.stack.delivery
    if provided is None:
        return None
    return provided.begin(
        DeliveryRequest(
            function_id=call.function_id,
            local_id=call.local_id,
            attempt=call.attempt,
            is_connect=call.is_connect,
            engine=call.engine,
        )
    )
