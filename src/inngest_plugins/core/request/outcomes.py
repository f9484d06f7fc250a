"""The result or error of a step or of the function, on its way out through the plugins."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import inngest

from inngest_plugins.core.base.safe_text import redacted
from inngest_plugins.core.data import attachments
from inngest_plugins.core.data.call import Call
from inngest_plugins.core.data.outcome import Outcome
from inngest_plugins.core.sdk import door, ops
from inngest_plugins.core.stack.stack import BoundHook

from .course import Course
from .dispatch import Dispatcher, Sequence
from .steps import StepReports

ErrorT = TypeVar("ErrorT", bound=BaseException)

_logger = logging.getLogger("inngest_plugins")


def _add_last(add: Callable[[], object], outcome: Outcome) -> None:
    try:
        add()
    except Exception:
        _logger.exception("metadata of %r is left out", outcome)


@dataclass(eq=False, repr=False, slots=True)
class SeenOutcome:
    """The outcome of the request that the plugins have seen.

    Attributes:
        raised: the exception as user code or a plugin raised it.
        error: the exception as it leaves.
        failure: the failure of the call that the outcome stands for, if it does.
    """

    raised: BaseException | None
    error: Exception | None
    failure: BaseException | None


class Outcomes:
    """Takes outcomes outward through `transform_output`, and remembers what the plugins have seen.

    Args:
        call: the call.
        dispatcher: calls the hooks.
        course: knows which plugins take part.
        steps: knows the steps whose handlers have run.

    Attributes:
        seen: the outcome that the plugins have seen; None while the request has none.
    """

    __slots__ = ("_call", "_carrying", "_course", "_dispatcher", "_steps", "seen")

    def __init__(
        self, call: Call, dispatcher: Dispatcher, course: Course, steps: StepReports
    ) -> None:
        self.seen: SeenOutcome | None = None
        self._call = call
        self._dispatcher = dispatcher
        self._course = course
        self._steps = steps
        self._carrying: dict[str, Outcome] = {}

    def transform(self, result: inngest.TransformOutputResult) -> Sequence:
        """Show the plugins a result of the SDK, and write their changes into it."""
        failure = self._call.failure
        if failure is None and not self._call.stack.hooks["transform_output"]:
            self._pass(result)
            return
        outcome = self._outcome_of(result, failure)
        step, error = outcome.step, outcome.error
        yield from self._outward(outcome)
        self.seen = SeenOutcome(outcome.raised, outcome.error, failure)
        if step is not None and (outcome.metadata or outcome.last_additions):
            self._carrying[step.hashed_id] = outcome
        door.put_outcome(
            result,
            output=outcome.output if outcome.has_output else None,
            error=outcome.error,
            before=error,
        )

    def pass_by(self, result: door.CallResult) -> None:
        """Handle a result of the SDK when no plugin has a hook for it."""
        items = result.multi or [result]
        if len(items) == 1 and (items[0].step is None or door.has_run(items[0].step.op)):
            self._pass(items[0])

    def _pass(self, result: inngest.TransformOutputResult | door.CallResult) -> None:
        error = result.error
        if error is None:
            result.output = attachments.join(result.output, None)
        self.seen = SeenOutcome(error, error, None)

    def carry(self, failure: Exception) -> Sequence:
        """Show the plugins a failure as the outcome of the request."""
        outcome = Outcome(self._call, step=None, output=None, has_output=False, error=failure)
        yield from self._outward(outcome)
        self.seen = SeenOutcome(outcome.raised, outcome.error or failure, failure)

    def go_on(self) -> None:
        """A step was delivered and the request goes on: its outcome is still open."""
        if self._call.failure is None and self.seen is not None and self.seen.error is None:
            self.seen = None

    def settle(self, result: door.CallResult) -> None:
        """Make a result ready to be written: its operations agree with what plugins left."""
        for item in (result.multi or ()) if self._carrying else ():
            outcome = None if item.step is None else self._carrying.pop(item.step.id, None)
            if outcome is None or item.step is None:
                continue
            for add in outcome.last_additions or ():
                _add_last(add, outcome)
            if outcome.metadata:
                item.step = ops.with_metadata(item.step, outcome.metadata)
        door.settle(result, is_final_attempt=self._call.is_final_attempt)

    def error_for(self, failure: ErrorT) -> ErrorT | Exception:
        """Return the error that leaves for a failure of the call."""
        seen = self.seen
        if seen is not None and seen.error is not None and seen.failure is failure:
            return seen.error
        return self.as_sent(failure)

    def as_sent(self, failure: ErrorT) -> ErrorT | Exception:
        """Return the error that may leave for a failure after the outcome."""
        if self._call.stack.secret_payloads and isinstance(failure, Exception):
            return redacted(failure, f"a plugin of function {self._call.function_id!r}")
        return failure

    def _outcome_of(
        self, result: inngest.TransformOutputResult, failure: BaseException | None
    ) -> Outcome:
        step = None
        if result.step is not None:
            step = self._steps.step_named(result.step.id)
            step.input = result.step.opts
        error = result.error
        has_output = error is None and result.has_output()
        if isinstance(failure, Exception) and failure is not error:
            # The SDK swallowed what a plugin raised: that is the outcome, not what it stopped.
            step, has_output, error = None, False, failure
        return Outcome(
            self._call,
            step=step,
            output=result.output if has_output else None,
            has_output=has_output,
            error=error,
        )

    def _outward(self, outcome: Outcome) -> Sequence:
        def failed(bound: BoundHook, err: Exception) -> None:
            if bound.closed:
                door.forget_interrupts(err)
                outcome.raised = outcome.error = err
                outcome.has_output = False
            else:
                self._dispatcher.ignored(bound, err)

        outer_hooks, inner_hooks = self._call.stack.parts["transform_output"]
        fire = self._dispatcher.fire
        args = (self._call, outcome)
        reach = self._course.reach
        # Interrupted half-way, the outcome counts as seen: no plugin sees one twice.
        self.seen = SeenOutcome(outcome.raised, outcome.error, self._call.failure)
        if inner_hooks:
            yield from fire(inner_hooks, args, failed, below=reach)
        if outcome.error is None and outcome.has_output:
            outcome.output = attachments.join(outcome.output, outcome.attachments)
        if outer_hooks:
            yield from fire(outer_hooks, args, failed, below=reach)
