"""What the plugin keeps and does for one request of one run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import inngest
import sentry_sdk

from inngest_plugins.core import CallKey, Outcome, Step

from ._around_step import AroundStep, AroundTracedStep
from ._captures import Captures, Level, tags_of
from ._crons import Monitor, Status, monitor_of
from ._handled import is_caught, positions_of_stack, positions_of_traceback
from ._held import causes
from ._performance import RequestTrace, is_first_request, join_trace, records_transactions
from ._serializable import serialization_error
from ._step_tool import failed_step_in
from ._trace import Carrier

if TYPE_CHECKING:
    from types import FrameType

REQUEST = CallKey["Request"]("sentry.request")


class Request:
    """Everything the plugin has open for one request; closed when the call ends.

    Args:
        captures: makes the request's events.
        carrier: the trace headers that the triggering event carried, or None.
    """

    def __init__(self, captures: Captures, carrier: Carrier | None) -> None:
        call, settings = captures.call, captures.settings
        self._captures = captures
        self._call = call
        self._settings = settings
        self._carrier = carrier
        self._scopes: AbstractContextManager[sentry_sdk.Scope] = sentry_sdk.isolation_scope()
        self._trace: RequestTrace | None = None
        self._monitor: Monitor | None = monitor_of(call) if settings.crons else None
        self._failures: list[BaseException] = []
        self._bubbled: list[tuple[Step, BaseException]] = []
        self._caught_by_code: dict[str, bool] = {}
        self._status = "ok"

    # ------------------------------------------------------------ opening and closing

    def __enter__(self) -> Request:
        """Fork Sentry's scopes for this request, and begin its transaction."""
        scope = self._scopes.__enter__()
        try:
            self._open(scope)
        except BaseException:
            self._close()
            raise
        self._call[REQUEST] = self
        return self

    def _open(self, scope: sentry_sdk.Scope) -> None:
        call, captures = self._call, self._captures
        # A worker that is no web server has one scope for all of its requests, with their crumbs.
        scope.clear_breadcrumbs()
        scope.set_tags(tags_of(call))
        scope.add_event_processor(captures.process)
        trace = join_trace(scope, call, self._carrier)
        if records_transactions(captures.client):
            opened = RequestTrace(call, scope, trace, captures.name)
            opened.open()
            self._trace = opened
        scope.set_transaction_name(captures.name, source="task")
        if self._monitor is not None and is_first_request(call):
            self._check_in("in_progress")

    def __exit__(self, *_: object) -> None:
        """Report what no hook has seen, and give the scopes back."""
        call = self._call
        try:
            failure = call.failure
            if failure is not None and not self._is_known(failure):
                self._fail_outside_of_outcome(failure)
            self._captures.held.release(self._failures)
            if call.cancelled:
                self._status = "cancelled"
        finally:
            # The call and this would keep each other until the garbage collector comes.
            del call[REQUEST]
            self._close()

    def _close(self) -> None:
        try:
            if self._trace is not None:
                self._trace.close(self._status)
        finally:
            self._scopes.__exit__(None, None, None)

    @property
    def allows_log_messages(self) -> bool:
        """Whether the texts of logs may leave."""
        return self._captures.rules().allows("log_messages")

    # ------------------------------------------------------------ memoization and steps

    def begin_replay(self) -> None:
        """The function begins to replay."""
        if self._trace is not None:
            self._trace.begin_replay(self._call)

    def end_replay(self) -> None:
        """All memoized steps have been replayed."""
        if self._trace is not None:
            self._trace.end_replay()

    def step(self, step: Step) -> AbstractContextManager[None]:
        """Return what stands around the handler of a step that really runs."""
        trace = self._trace
        if trace is None or not trace.is_recorded:
            return AroundStep(step, self._step_raised)
        return AroundTracedStep(step, self._step_raised, lambda: trace.step(self._call, step))

    def _step_raised(self, step: Step, error: BaseException, frame: FrameType) -> None:
        self._bubbled.append((step, error))
        if self._settings.step_errors == "capture":
            self._caught_by_code[step.hashed_id] = is_caught(positions_of_stack(frame))

    def leaving(self, step: Step) -> None:
        """A step leaves for the engine: an invoke, a wait or an AI request."""
        what = {"InvokeFunction": "invokes", "WaitForEvent": "waits for"}.get(step.op, "asks AI")
        target = step.name
        if step.op == "InvokeFunction" and isinstance(step.input, dict):
            target = str(step.input.get("function_id"))
        self._captures.crumb(f"step {step.id!r} {what} {target!r}", step)

    # ------------------------------------------------------------ outcomes

    def may_report(self, outcome: Outcome) -> bool:
        """Tell whether a failure could be reported: one that is tried again leaves a breadcrumb."""
        return not outcome.will_retry or self._settings.capture == "every"

    def succeeded(self, outcome: Outcome) -> bool:
        """A step or the function has returned.

        Returns:
            Whether the SDK will refuse to send the output, and log that itself.
        """
        if outcome.has_output:
            unsendable = serialization_error(outcome.output)
            if unsendable is not None:
                self._failures.append(unsendable)
                self._unsendable(unsendable, outcome)
                return True
        # A step that is done ends its request: its breadcrumb stands in those that follow.
        if outcome.step is None:
            self._report_caught(())
            self._check_in("ok")
        return False

    def failed(self, raised: BaseException, outcome: Outcome) -> None:
        """A step or the function has raised."""
        self._failures.append(raised)
        self._status = "internal_error"
        if outcome.step is not None:
            self._step_failed(outcome.step, raised, outcome)
        else:
            self._function_failed(raised, outcome)

    def _step_failed(self, step: Step, raised: BaseException, outcome: Outcome) -> None:
        caught = self._caught_by_code.get(step.hashed_id, False)
        settings = self._settings
        self._captures.crumb(
            f"step {step.id!r} failed with {type(raised).__name__}",
            step,
            level="error" if not outcome.will_retry else "warning",
        )
        if settings.step_errors == "breadcrumb":
            return
        if outcome.will_retry:
            if settings.capture == "every":
                self._captures.capture(raised, "warning", handled=True, step=step, outcome=outcome)
        elif not caught:
            self._captures.capture(raised, "error", handled=False, step=step, outcome=outcome)
        elif settings.caught_step_errors == "warning":
            self._captures.capture(raised, "warning", handled=True, step=step, outcome=outcome)

    def _function_failed(self, raised: BaseException, outcome: Outcome) -> None:
        if outcome.will_retry:
            if self._settings.capture == "every" and not _is_retry_signal(raised):
                self._captures.capture(raised, "warning", handled=True, outcome=outcome)
            return
        self._check_in("error")
        chain = tuple(causes(raised))
        self._report_caught(chain)
        if self._settings.step_errors == "capture":
            failed_step = failed_step_in(raised)
            if failed_step is not None and not is_caught(
                positions_of_traceback(failed_step.__traceback__)
            ):
                # The request in which the step finally failed has reported it.
                return
        step = next((step for step, error in self._bubbled if error in chain), None)
        self._captures.capture(raised, "error", handled=False, step=step, outcome=outcome)

    def _unsendable(self, error: Exception, outcome: Outcome) -> None:
        self._status = "internal_error"
        final = self._call.is_final_attempt
        if final:
            self._check_in("error")
        if final or self._settings.capture == "every":
            level: Level = "error" if final else "warning"
            # The frames are those of the JSON encoder, which hold the output.
            self._captures.capture(
                error,
                level,
                handled=not final,
                step=outcome.step,
                outcome=outcome,
                variables=False,
            )

    def _fail_outside_of_outcome(self, failure: BaseException) -> None:
        """A plugin or other middleware raised where no outcome was left to tell of it."""
        self._failures.append(failure)
        self._status = "internal_error"
        final = self._call.is_final_attempt or not getattr(failure, "is_retriable", True)
        if final:
            self._check_in("error")
            self._captures.capture(failure, "error", handled=False)
        elif self._settings.capture == "every" and not _is_retry_signal(failure):
            self._captures.capture(failure, "warning", handled=True)

    def _report_caught(self, chain: tuple[BaseException, ...]) -> None:
        """Report errors that passed through the function's code in this request and ended there.

        A NonRetriableError or RetryAfterError of a step is raised where the step was called. One
        that is caught there leaves no trace: the step is not memoized and runs again in every
        request. So only the request that ends the run reports it.
        """
        caught = [(step, error) for step, error in self._bubbled if error not in chain]
        for step, error in caught:
            self._failures.append(error)
            if self._settings.caught_step_errors == "warning":
                self._captures.capture(error, "warning", handled=True, step=step)

    def _is_known(self, error: BaseException) -> bool:
        return any(error is failure for failure in self._failures)

    def _check_in(self, status: Status) -> None:
        if self._monitor is not None:
            self._monitor.check_in(self._call.run_id, status)


def _is_retry_signal(error: BaseException) -> bool:
    return isinstance(error, inngest.RetryAfterError)
