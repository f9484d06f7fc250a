"""The spans of events that are sent."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from inngest_plugins.core import CallKey, Send
from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.requests.carrier import carrier_of, with_carrier

_PRODUCER: CallKey[Span] = CallKey("otel.producer")


def begin_send(send: Send, tracer: Tracer) -> None:
    """Start the span of a send, and put the trace into the events."""
    kinds = {event.name for event in send.events}
    attributes: dict[str, str | int] = {
        "messaging.system": "inngest",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        names.APP_ID: send.client.app_id,
    }
    name = "send"
    if len(kinds) == 1:
        attributes["messaging.destination.name"] = send.events[0].name
        name = f"send {send.events[0].name}"
    if len(send.events) > 1:
        attributes["messaging.batch.message_count"] = len(send.events)
    if send.call is not None:
        attributes[names.RUN_ID] = send.call.run_id
    span = tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
    send[_PRODUCER] = span
    carrier = carrier_of(trace.set_span_in_context(span))
    for event in send.events:
        event.data = with_carrier(event.data, carrier)


def end_send(send: Send) -> None:
    """End the span of a send, if it has one."""
    span = send.get(_PRODUCER)
    if span is None:
        return
    if send.error is not None:
        span.set_attribute(ERROR_TYPE, "SendEventsError")
        span.set_status(Status(StatusCode.ERROR))
    elif span.is_recording():
        span.set_attribute(names.EVENT_IDS, send.ids)
        if len(send.ids) == 1:
            span.set_attribute("messaging.message.id", send.ids[0])
    span.end()
