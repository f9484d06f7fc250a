"""What the plugin keeps and does for one request of one run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

import inngest
import sentry_sdk
from sentry_sdk.client import BaseClient
from sentry_sdk.utils import event_from_exception

from inngest_plugins.core import Call, CallKey, Outcome, Step

from ._crons import Monitor, Status, monitor_of
from ._handled import is_caught, positions_of_stack, positions_of_traceback
from ._held import RELEASED, HeldEvents, causes, forget_last_seen
from ._performance import RequestTrace, is_first_request, join_trace, records_transactions
from ._privacy import Privacy
from ._serializable import serialization_error
from ._settings import Settings
from ._step_names import StepNames
from ._step_tool import failed_step_in
from ._trace import Carrier

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from sentry_sdk.types import Event, Hint

Level = Literal["error", "warning"]

_OURS = "inngest_plugins.step"
"""Key of the hint of the plugin's own events; it holds the step that they are about."""

_FRAMEWORK_SOURCES = ("url", "route", "component", "view", None)
_MAX_REPLAYED = 50
_logger = logging.getLogger("inngest_plugins.sentry")


REQUEST = CallKey["Request"]("sentry.request")


class Request:
    """Everything the plugin has open for one request; closed when the call ends.

    Args:
        call: the request.
        client: Sentry's client.
        settings: the user's options.
        carrier: the trace headers that the triggering event carried, or None.
        memo_data: the memoized values, as the engine sent them.
        names: what steps of this process have been called.
    """

    def __init__(
        self,
        call: Call,
        client: BaseClient,
        settings: Settings,
        carrier: Carrier | None,
        memo_data: list[object],
        names: StepNames,
    ) -> None:
        self._call = call
        self._client = client
        self._settings = settings
        self._carrier = carrier
        self._memo_data = memo_data
        self._names = names
        suffix = "" if call.handler_kind == "main" else " (failure)"
        self._name = f"{call.function_name}{suffix}"
        self._opened = ExitStack()
        self._started = datetime.now(timezone.utc)
        self._trace: RequestTrace | None = None
        self._monitor: Monitor | None = monitor_of(call) if settings.crons else None
        self._held = HeldEvents()
        self._failures: list[BaseException] = []
        self._bubbled: list[tuple[Step, BaseException]] = []
        self._caught_by_code: dict[str, bool] = {}
        self._status = "ok"

    # ------------------------------------------------------------ opening and closing

    def __enter__(self) -> Request:
        """Fork Sentry's scopes for this request, and begin its transaction."""
        try:
            self._open()
        except BaseException:
            self._opened.close()
            raise
        self._call[REQUEST] = self
        return self

    def _open(self) -> None:
        call = self._call
        scope = self._opened.enter_context(sentry_sdk.isolation_scope())
        # A worker that is no web server has one scope for all of its requests, with their crumbs.
        scope.clear_breadcrumbs()
        scope.set_tags(self._tags())
        scope.add_event_processor(self._process)
        trace = join_trace(scope, call, self._carrier)
        if records_transactions(self._client):
            self._trace = RequestTrace(call, scope, trace, self._name)
            self._trace.open_in(self._opened)
        scope.set_transaction_name(self._name, source="task")
        if is_first_request(call):
            self._check_in("in_progress")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Report what no hook has seen, and give the scopes back."""
        with self._opened:
            call = self._call
            failure = call.failure
            if failure is not None and not self._is_known(failure):
                self._fail_outside_of_outcome(failure)
            self._held.release(self._failures)
            if call.cancelled:
                self._status = "cancelled"
            if self._trace is not None:
                self._trace.end(self._status)
            # The call and this would keep each other until the garbage collector comes.
            del call[REQUEST]

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
        self._names.learn(self._call.function_id, step)
        trace = self._trace
        if trace is None or not trace.is_recorded:
            return _StepContext(step, self._step_raised)
        return _TracedStepContext(step, self._step_raised, lambda: trace.step(self._call, step))

    def _step_raised(self, step: Step, error: BaseException, frame: FrameType) -> None:
        self._bubbled.append((step, error))
        if self._settings.step_errors == "capture":
            self._caught_by_code[step.hashed_id] = is_caught(positions_of_stack(frame))

    def leaving(self, step: Step) -> None:
        """A step leaves for the engine: an invoke, a wait or an AI request."""
        self._names.learn(self._call.function_id, step)
        what = {"InvokeFunction": "invokes", "WaitForEvent": "waits for"}.get(step.op, "asks AI")
        target = step.name
        if step.op == "InvokeFunction" and isinstance(step.input, dict):
            target = str(step.input.get("function_id"))
        self._crumb(f"step {step.id!r} {what} {target!r}", step)

    # ------------------------------------------------------------ outcomes

    def ended(self, outcome: Outcome) -> bool:
        """A step or the function has come to something.

        Returns:
            Whether the SDK will refuse to send the output, and log that itself.
        """
        raised = outcome.raised
        if raised is None:
            unsendable = serialization_error(outcome.output) if outcome.has_output else None
            if unsendable is not None:
                self._failures.append(unsendable)
                self._unsendable(unsendable, outcome)
                return True
            self._succeeded(outcome)
            return False
        self._failures.append(raised)
        self._status = "internal_error"
        if outcome.step is not None:
            self._step_failed(outcome.step, raised, outcome)
        else:
            self._function_failed(raised, outcome)
        return False

    def _succeeded(self, outcome: Outcome) -> None:
        # A step that is done ends its request: its breadcrumb stands in those that follow.
        if outcome.step is None:
            self._report_caught(())
            self._check_in("ok")

    def _step_failed(self, step: Step, raised: BaseException, outcome: Outcome) -> None:
        caught = self._caught_by_code.get(step.hashed_id, False)
        settings = self._settings
        self._crumb(
            f"step {step.id!r} failed with {type(raised).__name__}",
            step,
            level="error" if not outcome.will_retry else "warning",
        )
        if settings.step_errors == "breadcrumb":
            return
        if outcome.will_retry:
            if settings.capture == "every":
                self._capture(raised, "warning", handled=True, step=step, outcome=outcome)
        elif not caught:
            self._capture(raised, "error", handled=False, step=step, outcome=outcome)
        elif settings.caught_step_errors == "warning":
            self._capture(raised, "warning", handled=True, step=step, outcome=outcome)

    def _function_failed(self, raised: BaseException, outcome: Outcome) -> None:
        if outcome.will_retry:
            if self._settings.capture == "every" and not _is_retry_signal(raised):
                self._capture(raised, "warning", handled=True, outcome=outcome)
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
        self._capture(raised, "error", handled=False, step=step, outcome=outcome)

    def _unsendable(self, error: Exception, outcome: Outcome) -> None:
        self._status = "internal_error"
        final = self._call.is_final_attempt
        if final:
            self._check_in("error")
        if final or self._settings.capture == "every":
            level: Level = "error" if final else "warning"
            self._capture(error, level, handled=not final, step=outcome.step, outcome=outcome)

    def _fail_outside_of_outcome(self, failure: BaseException) -> None:
        """A plugin or other middleware raised where no outcome was left to tell of it."""
        self._failures.append(failure)
        self._status = "internal_error"
        final = self._call.is_final_attempt or not getattr(failure, "is_retriable", True)
        if final:
            self._check_in("error")
            self._capture(failure, "error", handled=False)
        elif self._settings.capture == "every" and not _is_retry_signal(failure):
            self._capture(failure, "warning", handled=True)

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
                self._capture(error, "warning", handled=True, step=step)

    def _is_known(self, error: BaseException) -> bool:
        return any(error is failure for failure in self._failures)

    # ------------------------------------------------------------ capturing

    def _capture(
        self,
        error: BaseException,
        level: Level,
        *,
        handled: bool,
        step: Step | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        if self._held.was_reported(error):
            return
        event, hint = event_from_exception(
            error,
            client_options=self._client.options,
            mechanism={"type": "inngest", "handled": handled},
        )
        event["level"] = level
        if step is not None:
            # The step is no longer the one that runs now.
            event["tags"] = {"inngest.step.id": step.id}
        before_capture = self._settings.before_capture
        if before_capture is not None:
            try:
                edited = before_capture(self._call, outcome, event)
            except Exception:
                # What it was to take out of the event would be sent otherwise.
                _logger.exception("before_capture raised, the event was dropped")
                return
            if edited is None:
                return
            event = edited
        forget_last_seen()
        marked: Any = {**hint, _OURS: step}
        sentry_sdk.capture_event(event, hint=marked)

    def _process(self, event: Event, hint: Hint) -> Event | None:
        """Sentry's event processor for everything that is captured in this request."""
        raw: Any = event
        if raw.get("type") not in (None, "event", "transaction"):
            return event
        marks: Mapping[str, Any] = hint or {}
        is_transaction = raw.get("type") == "transaction"
        is_own = is_transaction or bool(marks.keys() & {_OURS, RELEASED})
        if not is_own and self._held.take(event, hint):
            return None
        try:
            self._complete(raw, marks, is_transaction=is_transaction)
        except Exception:
            # An event that could not be cleaned may hold anything.
            _logger.exception("preparing an event of a run failed, it was dropped")
            return None
        return event

    def _complete(self, raw: Any, marks: Mapping[str, Any], *, is_transaction: bool) -> None:
        call = self._call
        privacy = Privacy(
            call.stack.secret_payloads,
            self._settings.send_payloads,
            self._settings.send_decrypted,
        )
        contexts = raw.setdefault("contexts", {})
        step = marks.get(_OURS) or call.step
        contexts["inngest"] = self._context(step)
        if step is not None and not is_transaction:
            raw.setdefault("tags", {}).setdefault("inngest.step.id", step.id)
        if (raw.get("transaction_info") or {}).get("source") in _FRAMEWORK_SOURCES:
            raw["transaction"] = self._name
            raw["transaction_info"] = {"source": "task"}
        if not is_transaction:
            replayed = self._replayed_crumbs()
            if replayed:
                crumbs = raw.setdefault("breadcrumbs", {}).setdefault("values", [])
                crumbs[:0] = replayed
        if privacy.allows_payloads:
            contexts["inngest.payloads"] = {"events": [dict(event.data) for event in call.events]}
        privacy.clean(
            raw,
            payloads=self._payloads,
            event_key=call.client.event_key,
            attach_stacktrace=bool(self._client.options.get("attach_stacktrace")),
        )

    def _payloads(self) -> Iterable[object]:
        yield self._call.event.data
        for event in self._call.events:
            yield event.data
        yield from self._memo_data

    # ------------------------------------------------------------ what events tell of the run

    def _tags(self) -> dict[str, str]:
        call = self._call
        return {
            "inngest.app.id": call.app_id,
            "inngest.function.id": call.function_id,
            "inngest.function.name": call.function_name,
            "inngest.run.id": call.run_id,
            "inngest.event.name": call.event.name,
            "inngest.event.id": call.event.id,
            "inngest.attempt": str(call.attempt),
        }

    def _context(self, step: Step | None) -> dict[str, object]:
        call = self._call
        context: dict[str, object] = {
            "type": "inngest",
            "app_id": call.app_id,
            "function_id": call.function_id,
            "function_name": call.function_name,
            "handler": call.handler_kind,
            "run_id": call.run_id,
            "attempt": call.attempt,
            "max_attempts": call.max_attempts,
            "event_names": sorted({event.name for event in call.events}),
            "event_ids": [event.id for event in call.events[:20]],
            "event_count": len(call.events),
            "memoized_steps": call.memo_count,
            "request_id": call.request_id,
            "job_id": call.job_id,
        }
        if step is not None:
            context["step"] = {
                "id": step.id,
                "index": step.index,
                "op": step.op,
                "hashed_id": step.hashed_id,
                "parallel": step.parallel,
            }
        return context

    def _crumb(self, message: str, step: Step, level: str = "info") -> None:
        sentry_sdk.add_breadcrumb(
            type="default",
            category="inngest.step",
            level=level,
            message=message,
            data={"id": step.id, "op": step.op, "attempt": self._call.attempt},
        )

    def _replayed_crumbs(self) -> list[dict[str, object]]:
        """Return a breadcrumb for each step that an earlier request has done.

        The engine sends their results under hashed ids; steps that this process has not seen yet
        are called by those.
        """
        call = self._call
        return [
            {
                "timestamp": self._started,
                "type": "default",
                "category": "inngest.step",
                "level": "info",
                "message": f"step {self._names.of(call.function_id, hashed)} done before",
            }
            for hashed in call.consumed[-_MAX_REPLAYED:]
        ]

    def _check_in(self, status: Status) -> None:
        if self._monitor is not None:
            self._monitor.check_in(self._call.run_id, status)


class _StepContext:
    """What stands around a step, as a class: a generator would add itself to the traceback."""

    def __init__(
        self, step: Step, raised: Callable[[Step, BaseException, FrameType], None]
    ) -> None:
        self._step = step
        self._raised = raised

    def __enter__(self) -> None:
        """Nothing is to be done before the step."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, Exception):
            # The frames further out are the code that called the step and may catch its error.
            self._raised(self._step, exc, sys._getframe(1))  # noqa: SLF001


class _TracedStepContext(_StepContext):
    """The same with the step's span, in a scope of its own: steps may run side by side."""

    def __init__(
        self,
        step: Step,
        raised: Callable[[Step, BaseException, FrameType], None],
        make_span: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        super().__init__(step, raised)
        self._make_span = make_span
        self._opened = ExitStack()
        self._span: AbstractContextManager[Any] | None = None

    def __enter__(self) -> None:
        self._opened.enter_context(sentry_sdk.new_scope())
        # Only now: a span is active in the scope in which it was made.
        self._span = self._make_span()
        self._span.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._span is not None:
            self._span.__exit__(exc_type, exc, traceback)
        self._opened.close()
        super().__exit__(exc_type, exc, traceback)


def _is_retry_signal(error: BaseException) -> bool:
    return isinstance(error, inngest.RetryAfterError)
