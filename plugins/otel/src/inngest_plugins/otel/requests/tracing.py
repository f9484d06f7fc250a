"""Begins the trace of a request."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer, TracerProvider

from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.replay.branches import follow_branches
from inngest_plugins.otel.replay.completion import completion_of
from inngest_plugins.otel.replay.ledger import LEDGER, Ledger
from inngest_plugins.otel.replay.provider import AssignedIds, is_replay_safe, sampler_of
from inngest_plugins.otel.requests.carrier import Carrier
from inngest_plugins.otel.requests.parentage import parentage_of
from inngest_plugins.otel.requests.request import Request, captured


def begin_trace(
    request: Request,
    tracer: Tracer,
    provider: TracerProvider,
    carriers: Sequence[Carrier],
    *,
    continue_traces: bool,
    inngest_traces: bool,
    capture_payloads: bool,
) -> None:
    """Start a request's span in the run's trace, and the ledger for the spans of user code.

    Args:
        request: the request.
        tracer: makes its span.
        provider: where the tracer is from.
        carriers: the carriers of the triggering events.
        continue_traces: see `OpenTelemetryPlugin`.
        inngest_traces: see there.
        capture_payloads: see there.
    """
    call = request.call
    safe = is_replay_safe(provider)
    parentage = parentage_of(
        call,
        carriers,
        continue_traces=continue_traces,
        assume_parent=not safe,
        sampler=None if safe else sampler_of(provider),
    )
    span_id = request.next_span_id()
    request.tracer = tracer
    request.ledger = ledger = Ledger(
        call,
        root_span_id=int(span_id),
        completion=lambda: completion_of(call),
        keep_messages=request.keep_messages,
        trace_headers=call.trace_headers,
        gathers=inngest_traces,
    )
    with AssignedIds(span_id, parentage.trace_id):
        request.span = tracer.start_span(
            request.profile.span_name,
            parentage.context,
            SpanKind.CONSUMER,
            _attributes(request),
            parentage.links,
        )
    request.is_recording = request.span.is_recording()
    if capture_payloads and request.is_recording:
        request.span.set_attribute(names.INPUT, captured([event.data for event in call.events]))
    request.context = trace.set_span_in_context(request.span, parentage.context)
    if safe:
        call[LEDGER] = ledger
        follow_branches(call, ledger.boundary)


def _attributes(request: Request) -> dict[str, str | int]:
    call = request.call
    event = call.event
    attributes: dict[str, str | int] = {
        **request.profile.span_attributes,
        "messaging.destination.name": event.name,
        "faas.invocation_id": call.run_id,
        "faas.trigger": "timer" if event.name == "inngest/scheduled.timer" else "pubsub",
        names.RUN_ID: call.run_id,
        names.ATTEMPT: call.attempt,
        names.MEMOIZED: call.memo_count,
    }
    if event.id:
        attributes["messaging.message.id"] = event.id
    if len(call.events) > 1:
        attributes["messaging.batch.message_count"] = len(call.events)
    if request.request_id:
        attributes[names.REQUEST_ID] = request.request_id
    job_id = call.job_id
    if job_id:
        attributes[names.JOB_ID] = job_id
    return attributes
