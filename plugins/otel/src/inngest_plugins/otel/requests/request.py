"""What the plugin keeps of one request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from random import getrandbits
from typing import Any, Final, NamedTuple

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_ESCAPED,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from inngest_plugins.core import (
    USAGE,
    Call,
    CallKey,
    Outcome,
    Step,
    class_name,
    safe_text,
    safe_traceback,
)
from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.base.ids import SpanIds
from inngest_plugins.otel.replay.ledger import Ledger, Verdict
from inngest_plugins.otel.replay.origins import SpanId, own_span_id
from inngest_plugins.otel.replay.provider import AssignedIds
from inngest_plugins.otel.requests.profile import Profile

MAX_CAPTURED = 4096
"""Characters of a payload that are kept in an attribute."""


class Ended(NamedTuple):
    """How the step or the function ended.

    Attributes:
        op: the step's operation, None for the function.
        word: "completed", "retrying" or "failed".
        will_retry: whether the engine tries again.
        raised: what user code raised.
    """

    op: str | None
    word: str
    will_retry: bool
    raised: BaseException | None


class StepRecord:
    """One attempt of a step, from its handler's start to the outcome that other plugins leave it.

    Attributes:
        step: the step.
        span: its span.
        ended_at: when the handler ended, nanoseconds since the epoch.
        duration: how long it ran, seconds.
    """

    __slots__ = ("duration", "ended_at", "span", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.span: Span | None = None
        self.ended_at: int | None = None
        self.duration = 0.0

    def end_span(self) -> None:
        """End its span, if it still is open and the handler has ended."""
        span, ended_at = self.span, self.ended_at
        if span is not None and ended_at is not None:
            self.span = None
            span.end(ended_at)


class Request:
    """One request that is traced or measured; a context manager that is open as long as it lasts.

    Attributes:
        call: the request.
        request_id: the engine's id of it, or None.
        profile: what all requests of its function have in common.
        record: records the measurements when the request is over; None when only traced.
        tracer: makes the plugin's spans; None when only measured.
        ledger: decides about the spans of user code; None when not traced.
        span: the request's span.
        context: the context in which the function runs.
        keep_messages: whether the texts of exceptions may leave the process.
        started: when it began, `time.perf_counter`.
        executed: when the function's code was over, `time.perf_counter`.
        replay_started: when replay began, nanoseconds since the epoch.
        hook_times: hooks of other plugins, and the seconds they took.
        payload_sizes: payloads, "input" or "output", and their bytes.
        steps: the steps that ran. More than one if user code starts several at once, or catches the
            error of a step that is not reported to the engine.
        step: the one of them that is reported to the engine, once that is known.
        ended: how the step or the function ended, if one did.
        result: how it ended, in words.
        verdict: how it ended, for the ledger.
        raised: the exception that the function ended with.
        is_recording: whether the request's span is exported.
    """

    __slots__ = (
        "_ids",
        "_token",
        "call",
        "context",
        "ended",
        "executed",
        "hook_times",
        "is_recording",
        "keep_messages",
        "ledger",
        "payload_sizes",
        "profile",
        "raised",
        "record",
        "replay_started",
        "request_id",
        "result",
        "span",
        "started",
        "step",
        "steps",
        "tracer",
        "verdict",
    )

    def __init__(
        self,
        call: Call,
        profile: Profile,
        record: Callable[[Request], None] | None,
        *,
        keep_messages: bool,
    ) -> None:
        self.started = time.perf_counter()
        self.call = call
        self.profile = profile
        self.record = record
        self.keep_messages = keep_messages
        self.request_id = request_id = call.request_id
        # Where the engine's id of the request is not handed on, no two requests are the same.
        key = request_id or f"{getrandbits(64):x}"
        self._ids = SpanIds(call.run_id, "request", key, str(call.attempt))
        self.tracer: Tracer | None = None
        self.ledger: Ledger | None = None
        self.span: Span = trace.INVALID_SPAN
        self.context: Context | None = None
        self.is_recording = False
        self.replay_started = 0
        self.executed = 0.0
        self.hook_times: list[tuple[str, float]] = []
        self.payload_sizes: list[tuple[str, int]] = []
        self.steps: list[StepRecord] = []
        self.step: StepRecord | None = None
        self.ended: Ended | None = None
        self.result = ""
        self.verdict: Verdict | None = None
        self.raised: BaseException | None = None

    def __enter__(self) -> None:
        self._token = None if self.context is None else context_api.attach(self.context)

    def __exit__(self, *_: object) -> None:
        try:
            if self._token is not None:
                context_api.detach(self._token)
        finally:
            self._close()

    def next_span_id(self) -> SpanId:
        """Return the id of the next span of the plugin itself in this request.

        The engine may send a request twice. Whoever answers then gives its spans the same ids.
        """
        return own_span_id(next(self._ids), keep_messages=self.keep_messages)

    def start_span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        start_time: int | None = None,
        context: Context | None = None,
    ) -> Span:
        """Start a span of the plugin itself.

        Args:
            name: its name.
            kind: its kind.
            attributes: its attributes.
            start_time: when it began, nanoseconds since the epoch; now by default.
            context: holds its parent; the current context by default.
        """
        assert self.tracer is not None  # noqa: S101
        with AssignedIds(self.next_span_id()):
            return self.tracer.start_span(name, context, kind, attributes, start_time=start_time)

    def settle(self, outcome: Outcome) -> None:
        """Take note of how the step or the function ended."""
        word = _word(failed=outcome.error is not None, will_retry=outcome.will_retry)
        step = outcome.step
        if step is not None:
            self.result = f"step {word}"
            self.verdict = Verdict.REPEATED if outcome.will_retry else Verdict.ADVANCED
            ran = (record for record in self.steps if record.step.hashed_id == step.hashed_id)
            self.step = next(ran, None)
        else:
            self.result = word
            self.verdict = Verdict.FAILED_ATTEMPT if outcome.will_retry else Verdict.ENDED
            self.raised = outcome.raised
        self.ended = Ended(
            None if step is None else step.op, word, outcome.will_retry, outcome.raised
        )

    def measure_hooks(self, hook: str, since: float) -> None:
        """Take note of how long a hook of the other plugins took, if any of them has it.

        Args:
            hook: its name.
            since: when the first of them was called, `time.perf_counter`; 0.0 if it was not.
        """
        if self.record is not None and since and hook in self.profile.others:
            self.hook_times.append((hook, time.perf_counter() - since))

    def leave_body(self) -> None:
        """Let go of the spans that this request adds to the trace; only the first time counts."""
        if self.verdict is None:
            self._settle_without_outcome()
        ledger = self.ledger
        if ledger is not None and not ledger.closed and self.verdict is not None:
            ledger.in_body = False
            ledger.close(self.verdict, self.raised)

    def end_step(self, outcome: str) -> None:
        """End the span of the step that is reported to the engine.

        Args:
            outcome: how the step ended.
        """
        record = self.step
        if record is not None and record.span is not None:
            record.span.set_attribute(names.OUTCOME, outcome)
            if used := _usage(record.step):
                record.span.set_attributes(used)
            record.end_span()

    def fail(self, span: Span, error: BaseException) -> None:
        """Mark a span as failed with an exception."""
        kind = error_type(error)
        span.set_attribute(ERROR_TYPE, kind)
        if self.keep_messages:
            text = safe_text(error)
            # Not `record_exception`, which asks the exception for its text without a net.
            span.add_event(
                "exception",
                {
                    EXCEPTION_TYPE: kind,
                    EXCEPTION_MESSAGE: text,
                    EXCEPTION_STACKTRACE: safe_traceback(error),
                    EXCEPTION_ESCAPED: "False",
                },
            )
            span.set_status(Status(StatusCode.ERROR, f"{class_name(error)}: {text}"))
        else:
            span.add_event("exception", {EXCEPTION_TYPE: kind})
            span.set_status(Status(StatusCode.ERROR))

    def _settle_without_outcome(self) -> None:
        """Take note that neither a step nor the function ended."""
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

    def _close(self) -> None:
        self.leave_body()
        for record in self.steps:
            record.end_span()
        if self.is_recording:
            span, failure = self.span, self.call.failure
            span.set_attribute(names.OUTCOME, self.result)
            if failure is not None and self.raised is failure:
                self.fail(span, failure)
        self.span.end()
        if self.record is not None:
            self.record(self)


REQUEST: CallKey[Request] = CallKey("otel.request")


_QUALIFIED_NAME: Final = type.__dict__["__qualname__"]
_MODULE: Final = type.__dict__["__module__"]


def error_type(error: BaseException) -> str:
    """Return the class name of an exception, with its module unless it is built in.

    Whatever its metaclass or `__class__` says.
    """
    kind = type(error)
    name: str = _QUALIFIED_NAME.__get__(kind)
    module: object = _MODULE.__get__(kind)
    return name if module == "builtins" or type(module) is not str else f"{module}.{name}"


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


def _usage(step: Step) -> dict[str, AttributeValue]:
    """Return what a step's model calls used, where a plugin counts them.

    Not under `gen_ai.*`: the spans of the calls have these, and who adds them up, such as the
    engine, would count the calls again.
    """
    used = step.get(USAGE)
    if used is None or not used.calls:
        return {}
    return {
        names.MODELS: used.models,
        names.MODEL_CALLS: used.calls,
        names.INPUT_TOKENS: used.input_tokens,
        names.OUTPUT_TOKENS: used.output_tokens,
        names.COST: float(used.cost_usd),
        names.UNPRICED: used.unpriced_calls,
    }
