"""The spans of steps: of those that run here, and of invokes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from inngest_plugins.core import Call, Step
from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.requests.carrier import carrier_of, with_carrier
from inngest_plugins.otel.requests.request import Request, StepRecord


class RunningStep:
    """A step's handler while it runs, with its span as the current one.

    Args:
        request: the request that runs it.
        step: the step.
    """

    __slots__ = ("_record", "_request", "_started", "_token")

    def __init__(self, request: Request, step: Step) -> None:
        self._request = request
        self._record = StepRecord(step)
        self._token: Any = None
        self._started = 0.0

    def __enter__(self) -> None:
        request, record = self._request, self._record
        request.steps.append(record)
        self._started = time.perf_counter()
        if request.ledger is None:
            return
        step = record.step
        record.span = span = request.start_span(
            f"step {step.id}", attributes=_attributes(request.call, step)
        )
        self._token = context_api.attach(trace.set_span_in_context(span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        request, record = self._request, self._record
        record.ended_at = time.time_ns()
        record.duration = time.perf_counter() - self._started
        if request.ledger is not None:
            request.ledger.step_ran(error)
        if self._token is not None:
            context_api.detach(self._token)
        if isinstance(error, Exception) and record.span is not None:
            request.fail(record.span, error)


def trace_invoke(request: Request, step: Step) -> None:
    """Make the span of an invoke or a deferral, and send the trace along.

    Args:
        request: the request that invokes or defers.
        step: the step; its input gets the carrier.
    """
    data = step.input
    if data is None:
        return
    is_deferral = step.op == "DeferAdd"
    operation = "defer" if is_deferral else "invoke"
    function_id = str(data["fn_slug" if is_deferral else "function_id"])
    span = request.start_span(
        f"{operation} {function_id}",
        kind=SpanKind.PRODUCER,
        attributes={
            **_attributes(request.call, step),
            "messaging.system": "inngest",
            "messaging.operation.name": operation,
            "messaging.operation.type": "send",
            "faas.invoked_name": function_id,
        },
    )
    carrier = carrier_of(trace.set_span_in_context(span))
    if is_deferral:
        step.input = {**data, "input": with_carrier(data["input"], carrier)}
    else:
        payload = data["payload"]
        step.input = {
            **data,
            "payload": {**payload, "data": with_carrier(payload.get("data"), carrier)},
        }
    span.end()


def _attributes(call: Call, step: Step) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        names.RUN_ID: call.run_id,
        names.FUNCTION_ID: call.function_id,
        names.STEP_ID: step.id,
        names.STEP_HASH: step.hashed_id,
        names.STEP_OP: step.op,
        names.ATTEMPT: call.attempt,
    }
    if step.index:
        attributes[names.STEP_INDEX] = step.index
    return attributes
