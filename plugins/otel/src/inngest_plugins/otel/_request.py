"""What the plugin keeps of one request."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import EXCEPTION_TYPE
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from inngest_plugins.core import Call, CallKey, Outcome, Step

from . import _attributes as names
from ._ledger import Ledger, Verdict

MAX_CAPTURED = 4096
"""Characters of a payload that are kept in an attribute."""


class StepRecord:
    """One attempt of a step, from its handler's start to the outcome that other plugins leave it.

    Attributes:
        step: the step.
        span: its span.
        ended_at: when the handler ended, nanoseconds since the epoch.
        duration: how long it ran, seconds.
    """

    __slots__ = ("duration", "ended_at", "span", "step")

    def __init__(self, step: Step, span: Span | None) -> None:
        self.step = step
        self.span = span
        self.ended_at: int | None = None
        self.duration = 0.0


class Request:
    """One request that is traced or measured.

    Attributes:
        call: the request.
        key: tells it from every other request of the run.
        tracer: makes the plugin's spans; None when only measured.
        ledger: decides about the spans of user code; None when not traced.
        span: the request's span.
        context: the context in which the function runs.
        keep_messages: whether the texts of exceptions may leave the process.
        started: when it began, `time.perf_counter`.
        step: the step that ran, if one did.
        result: what it came to, in words.
        verdict: what it came to, for the ledger.
        raised: the exception that the function ended with.
        is_recording: whether the request's span is exported.
    """

    def __init__(self, call: Call, *, keep_messages: bool) -> None:
        self.call = call
        self.key = f"{call.request_id or uuid.uuid4().hex}/{call.attempt}"
        self.keep_messages = keep_messages
        self.started = time.perf_counter()
        self.tracer: Tracer | None = None
        self.ledger: Ledger | None = None
        self.span: Span = trace.INVALID_SPAN
        self.context: Context | None = None
        self.is_recording = False
        self.replay_started = 0
        self.executed = 0.0
        self.step: StepRecord | None = None
        self.result = ""
        self.verdict: Verdict | None = None
        self.raised: BaseException | None = None

    def settle(self, outcome: Outcome) -> None:
        """Take note of how the step or the function ended."""
        failed = outcome.error is not None
        if outcome.step is not None:
            self.result = "step " + _word(failed=failed, will_retry=outcome.will_retry)
            self.verdict = Verdict.REPEATED if outcome.will_retry else Verdict.ADVANCED
        else:
            self.result = _word(failed=failed, will_retry=outcome.will_retry)
            self.verdict = Verdict.FAILED_ATTEMPT if outcome.will_retry else Verdict.ENDED
            self.raised = outcome.raised

    def settle_without_outcome(self) -> None:
        """Take note that neither a step nor the function ended."""
        if self.verdict is not None:
            return
        call = self.call
        if call.cancelled:
            self.result, self.verdict = "cancelled", Verdict.REPEATED
        elif call.failure is not None:
            retried = not call.is_final_attempt
            self.result = _word(failed=True, will_retry=retried)
            self.verdict = Verdict.REPEATED if retried else Verdict.ENDED
            self.raised = call.failure
        else:
            self.result, self.verdict = "suspended", Verdict.ADVANCED

    def end_step(self, outcome: str | None) -> None:
        """End the span of the step that ran, if it still is open.

        Args:
            outcome: what the step came to, or None when the engine will not be told.
        """
        record = self.step
        if record is None or record.span is None or record.ended_at is None:
            return
        span, record.span = record.span, None
        if outcome is not None:
            span.set_attribute(names.OUTCOME, outcome)
        span.end(record.ended_at)

    def fail(self, span: Span, error: BaseException) -> None:
        """Mark a span as failed with an exception."""
        kind = error_type(error)
        span.set_attribute(ERROR_TYPE, kind)
        if self.keep_messages:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        else:
            span.add_event("exception", {EXCEPTION_TYPE: kind})
            span.set_status(Status(StatusCode.ERROR))


REQUEST: CallKey[Request] = CallKey("otel.request")


class Attached:
    """A context that is current while this context manager is open."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = context_api.attach(self._context)

    def __exit__(self, *_: object) -> None:
        context_api.detach(self._token)


def error_type(error: BaseException) -> str:
    """Return the class name of an exception, with its module unless it is built in."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def captured(value: Any) -> str:
    """Return a payload as the text of an attribute, cut off where it gets long."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = str(value)
    return text[:MAX_CAPTURED]


def _word(*, failed: bool, will_retry: bool) -> str:
    if not failed:
        return "completed"
    return "retrying" if will_retry else "failed"
