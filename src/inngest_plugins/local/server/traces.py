"""The trace of a run as API v2 shows it: a span for the run, below it one for every step."""

from __future__ import annotations

import json

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState, StepState
from inngest_plugins.local.wire.ids import decode_ulid
from inngest_plugins.local.wire.protocol import format_millis
from inngest_plugins.local.wire.trace_ids import trace_and_span_id

_STEP_OPS = {
    "StepRun": "RUN",
    "StepPlanned": "RUN",
    "Sleep": "SLEEP",
    "WaitForEvent": "WAIT_FOR_EVENT",
    "WaitForSignal": "WAIT_FOR_SIGNAL",
    "InvokeFunction": "INVOKE",
    "AIGateway": "AI_GATEWAY",
}
_STEP_STATUSES = {
    "Planned": "WAITING",
    "Retrying": "RUNNING",
    "Sleeping": "WAITING",
    "Waiting": "WAITING",
    "Invoking": "WAITING",
    "Failed": "FAILED",
}


def run_status(run: RunState) -> str:
    """A run's status in the words of API v2."""
    return "CANCELLED" if run.status == "TimedOut" else run.status.upper()


def run_trace(run: RunState, *, has_output: bool) -> dict[str, Json]:
    """The root span of a run's trace.

    Args:
        run: The run.
        has_output: Whether spans carry inputs and outputs.
    """
    span = _span("Run", trace_and_span_id(decode_ulid(run.id))[1], run.queued_at)
    _end(span, run.started_at, run.ended_at)
    span["status"] = run_status(run)
    children = [_step_span(run, step, has_output=has_output) for step in run.steps.values()]
    if not run.is_open:
        children.append(_finalization(run))
    if children:
        span["children"] = children
    if metadata := _metadata(run, "run", "run"):
        span["metadata"] = metadata
    if has_output:
        span["input"] = {"data": [_plain_event(event) for event in run.events]}
        if run.status == "Completed":
            span["output"] = {"data": run.output}
        elif run.error is not None:
            span["output"] = run.error
    return span


def _step_span(run: RunState, step: StepState, *, has_output: bool) -> dict[str, Json]:
    span = _span(step.id, trace_and_span_id(step.hashed_id.encode())[1], step.started_at)
    _end(span, step.started_at, step.ended_at)
    span["status"] = _STEP_STATUSES.get(step.status, "COMPLETED")
    span["stepId"] = step.hashed_id
    if step.op in _STEP_OPS:
        span["stepOp"] = _STEP_OPS[step.op]
    metadata = _metadata(run, step.key, "step")
    for attempt in range(step.attempts):
        metadata += _metadata(run, f"{step.key}@{attempt}", "step_attempt")
    if metadata:
        span["metadata"] = metadata
    if has_output:
        if step.opts and step.op != "StepRun":
            span["input"] = step.opts
        if step.has_memo:
            memo = json.loads(step.memo)
            is_error = isinstance(memo, dict) and set(memo) == {"error"}
            span["output"] = memo["error"] if is_error else memo
    return span


def _finalization(run: RunState) -> dict[str, Json]:
    last = run.requests[-1] if run.requests else None
    began = last.started_at if last else run.queued_at
    _, span_id = trace_and_span_id(f"{run.id}:finalization".encode())
    span = _span("Finalization", span_id, began)
    _end(span, began, run.ended_at)
    return {**span, "status": run_status(run)}


def _span(name: str, span_id: str, queued_at: float) -> dict[str, Json]:
    return {"id": span_id, "name": name, "queuedAt": format_millis(queued_at)}


def _end(span: dict[str, Json], started_at: float | None, ended_at: float | None) -> None:
    if started_at is not None:
        span["startedAt"] = format_millis(started_at)
    if started_at is not None and ended_at is not None:
        span["endedAt"] = format_millis(ended_at)
        span["durationMs"] = str(round((ended_at - started_at) * 1000))


def _metadata(run: RunState, target: str, scope: str) -> list[Json]:
    return [
        {
            "kind": kind,
            "scope": scope,
            "values": {name: json.dumps(value) for name, value in values.items()},
        }
        for kind, values in run.metadata.get(target, {}).items()
    ]


def _plain_event(event: str) -> dict[str, Json]:
    document: dict[str, Json] = json.loads(event)
    return {key: value for key, value in document.items() if key != "user" or value}
