"""One request: its scope and transaction, and which failures are reported when."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

import inngest
import sentry_sdk

from inngest_plugins.core import CallKey, Outcome, Step, class_name, exception_chain
from inngest_plugins.sentry.base.serializable import serialization_error
from inngest_plugins.sentry.base.trace import Carrier
from inngest_plugins.sentry.crons import Monitor, Status, monitor_of
from inngest_plugins.sentry.events.captures import Captures, Level, tags_of
from inngest_plugins.sentry.events.causes import parts_of
from inngest_plugins.sentry.events.step_failures import (
    StepFailure,
    StepFailures,
    event_of_stored_error,
)
from inngest_plugins.sentry.performance.around_step import AroundStep, AroundTracedStep
from inngest_plugins.sentry.performance.transactions import (
    RequestTrace,
    is_first_request,
    join_trace,
    records_transactions,
)

REQUEST = CallKey["Request"]("sentry.request")

_LEAVES = {"InvokeFunction": "invokes", "WaitForEvent": "waits for", "DeferAdd": "defers"}
_NAMES_FUNCTION = {"InvokeFunction": "function_id", "DeferAdd": "fn_slug"}
"""The key of an operation's input that names the function to invoke or to defer."""


class Request:
    """Everything the plugin has open for one request; closed when the call ends.

    Args:
        captures: makes the request's events.
        carrier: the trace headers that the triggering event carried, or None.
        step_failures: keeps failures of steps until their runs have ended.
    """

    def __init__(
        self, captures: Captures, carrier: Carrier | None, step_failures: StepFailures
    ) -> None:
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
        self._step_failures = step_failures
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
        # Outside of a web server all requests share one scope: start without earlier breadcrumbs.
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
        """Report failures that no hook has seen, and leave the scopes."""
        call = self._call
        try:
            failure = call.failure
            if failure is not None and not self._is_known(failure):
                self._fail_outside_of_outcome(failure)
            self._captures.held.release(self._failures)
            if call.cancelled:
                self._status = "cancelled"
        finally:
            # Break the reference cycle with the call, so that both are freed at once.
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
        """Begin the span of the replay."""
        if self._trace is not None:
            self._trace.begin_replay(self._call)

    def end_replay(self) -> None:
        """End the span of the replay."""
        if self._trace is not None:
            self._trace.end_replay()

    def step(self, step: Step) -> AbstractContextManager[None]:
        """Return the context manager for the handler of a step that really runs."""
        trace = self._trace
        if trace is None or not trace.is_recorded:
            return AroundStep(step, self._step_raised)
        return AroundTracedStep(step, self._step_raised, lambda: trace.step(self._call, step))

    def _step_raised(self, step: Step, error: BaseException) -> None:
        self._bubbled.append((step, error))

    def leaving(self, step: Step) -> None:
        """Leave a breadcrumb of a step that goes to the engine, such as an invoke or a wait."""
        what = _LEAVES.get(step.op, "asks AI")
        target = step.name
        if step.op in _NAMES_FUNCTION and isinstance(step.input, dict):
            target = str(step.input.get(_NAMES_FUNCTION[step.op]))
        self._captures.crumb(f"step {step.id!r} {what} {target!r}", step)

    # ------------------------------------------------------------ outcomes

    def may_report(self, outcome: Outcome) -> bool:
        """Return whether a failure may be reported: one that is retried leaves a breadcrumb."""
        return not outcome.will_retry or self._settings.capture == "every"

    def succeeded(self, outcome: Outcome) -> bool:
        """Handle a step or function that has returned.

        Returns:
            Whether the SDK will refuse to send the output, and log that itself.
        """
        if outcome.has_output:
            unsendable = serialization_error(outcome.output)
            if unsendable is not None:
                self._failures.append(unsendable)
                self._unsendable(unsendable, outcome)
                return True
        # No breadcrumb of a step here: the requests that follow make one of each step done before.
        if outcome.step is None:
            self._report_caught((), outcome)
            self._check_in("ok")
        return False

    def failed(self, raised: BaseException, outcome: Outcome) -> None:
        """Handle a step or function that has raised."""
        self._failures.append(raised)
        self._status = "internal_error"
        if outcome.step is not None:
            self._step_failed(outcome.step, raised, outcome)
        else:
            self._function_failed(raised, outcome)

    def _step_failed(self, step: Step, raised: BaseException, outcome: Outcome) -> None:
        settings, captures = self._settings, self._captures
        captures.crumb(
            f"step {step.id!r} failed with {class_name(raised)}",
            step,
            level="error" if not outcome.will_retry else "warning",
        )
        if settings.step_errors == "breadcrumb":
            return
        if outcome.will_retry:
            if settings.capture == "every":
                captures.capture(
                    raised, "warning", handled=True, step=step, outcome=outcome, will_retry=True
                )
        elif settings.step_errors == "immediate":
            captures.capture(raised, "error", handled=True, step=step, outcome=outcome)
        else:
            kept = StepFailure(captures.keep(raised, step, outcome))
            self._step_failures.keep(self._call.run_id, step.hashed_id, kept)

    def _function_failed(self, raised: BaseException, outcome: Outcome) -> None:
        if outcome.will_retry:
            if self._settings.capture == "every" and not _is_retry_signal(raised):
                self._captures.capture(
                    raised, "warning", handled=True, outcome=outcome, will_retry=True
                )
            return
        self._check_in("error")
        chain = tuple(exception_chain(raised))
        is_breadcrumb = self._settings.step_errors == "breadcrumb"
        ended_by = [] if is_breadcrumb else [self._failed_step_in(x) for x in parts_of(raised)]
        self._report_caught(chain, outcome, but=ended_by)
        hashed_id = ended_by[0] if len(ended_by) == 1 else None
        if self._report_steps(ended_by):
            return
        step = next((step for step, error in self._bubbled if _is_in(error, chain)), None)
        found = None if hashed_id is None else self._call.identity_of(hashed_id)
        self._captures.capture(
            raised,
            "error",
            handled=False,
            step=step,
            outcome=outcome,
            failed_step=hashed_id,
            tags={} if found is None else {"inngest.step.id": found[0]},
        )

    def _failed_steps(self) -> list[str]:
        """Return the steps of this app that failed in earlier requests and that the function saw.

        Invoked functions and AI requests fail elsewhere, so they are not among them.
        """
        call, errors = self._call, self._captures.memo_errors
        if not errors:
            return []
        return [one for one in call.consumed if one in errors and call.op_of(one) == "StepRun"]

    def _failed_step_in(self, causes: tuple[BaseException, ...]) -> str | None:
        """Return the step of this app whose failure is behind an error; None for a new error."""
        for error in causes:
            hashed_id = self._call.failed_step(error)
            if hashed_id is not None:
                return hashed_id if hashed_id in self._failed_steps() else None
        return None

    def _report_steps(self, hashed_ids: list[str | None]) -> bool:
        """Report the failure of the step that has ended the run.

        Returns:
            False when the function's error is the event: a group of several steps' failures, or a
            failure that this process has not seen.
        """
        if self._settings.step_errors == "immediate":
            return bool(hashed_ids) and None not in hashed_ids
        taken = [self._step_failures.take(self._call.run_id, one) for one in hashed_ids if one]
        if len(hashed_ids) != 1 or not taken or taken[0] is None:
            return False
        if taken[0].event is not None:
            self._captures.send_kept(taken[0].event, "error", handled=False)
        return True

    def _unsendable(self, error: Exception, outcome: Outcome) -> None:
        self._status = "internal_error"
        final = self._call.is_final_attempt
        if final:
            self._check_in("error")
        if final or self._settings.capture == "every":
            level: Level = "error" if final else "warning"
            # Variables of the JSON encoder's frames would show the output.
            self._captures.capture(
                error,
                level,
                handled=not final,
                step=outcome.step,
                outcome=outcome,
                variables=False,
                will_retry=not final,
            )

    def _fail_outside_of_outcome(self, failure: BaseException) -> None:
        """Report an error of a plugin or other middleware that reached no outcome."""
        self._failures.append(failure)
        self._status = "internal_error"
        final = self._call.is_final_attempt or not _is_retriable(failure)
        if final:
            self._check_in("error")
            self._captures.capture(failure, "error", handled=False)
        elif self._settings.capture == "every" and not _is_retry_signal(failure):
            self._captures.capture(failure, "warning", handled=True, will_retry=True)

    def _report_caught(
        self,
        chain: tuple[BaseException, ...],
        outcome: Outcome,
        *,
        but: Collection[str | None] = (),
    ) -> None:
        """Report failures of steps that the function has caught: the run has ended otherwise.

        A step's NonRetriableError or RetryAfterError is raised where the step was called. If the
        function catches it there, nothing is memoized, and the step runs again in every request.

        Args:
            chain: the exception that ended the run, with its causes.
            outcome: how the run ended.
            but: the steps whose failures ended the run.
        """
        warns = self._settings.caught_step_errors == "warning"
        if self._settings.step_errors == "capture":
            for hashed_id in self._failed_steps():
                if hashed_id not in but:
                    self._report_caught_step(hashed_id, outcome, warns=warns)
        for step, error in self._bubbled:
            if _is_in(error, chain):
                continue
            self._failures.append(error)
            if warns:
                self._captures.capture(error, "warning", handled=True, step=step)

    def _report_caught_step(self, hashed_id: str, outcome: Outcome, *, warns: bool) -> None:
        kept = self._step_failures.take(self._call.run_id, hashed_id)
        if not warns:
            return
        if kept is not None:
            if kept.event is not None:
                self._captures.send_kept(kept.event, "warning", handled=True)
            return
        error = self._captures.memo_errors[hashed_id]
        event: Any = event_of_stored_error(error.name, error.message, error.stack)
        step_id, _ = self._call.identity_of(hashed_id) or (hashed_id, 0)
        event["tags"] = {"inngest.step.id": step_id}
        event["event_id"] = self._captures.event_id(hashed_id)
        self._captures.send(event, "warning", {}, step=None, outcome=outcome)

    def _is_known(self, error: BaseException) -> bool:
        return any(error is failure for failure in self._failures)

    def _check_in(self, status: Status) -> None:
        if self._monitor is not None:
            self._monitor.check_in(self._call.run_id, status)


def _is_in(error: BaseException, chain: tuple[BaseException, ...]) -> bool:
    # Not `in`, which would call the exceptions' own `__eq__`.
    return any(error is one for one in chain)


def _is_retry_signal(error: BaseException) -> bool:
    return issubclass(type(error), inngest.RetryAfterError)


def _is_retriable(error: BaseException) -> bool:
    try:
        return bool(getattr(error, "is_retriable", True))
    except Exception:
        return True
