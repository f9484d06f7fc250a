"""Copies of ended spans with a few fields changed."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
)
from opentelemetry.trace import SpanContext, Status
from opentelemetry.util.types import AttributeValue


def context_of(span: ReadableSpan) -> SpanContext:
    """Return the context of an ended span, which always has one."""
    context: SpanContext | None = span.get_span_context()
    return trace.INVALID_SPAN_CONTEXT if context is None else context


def rewritten(
    span: ReadableSpan,
    *,
    span_id: int | None = None,
    parent_id: int | None = None,
    start_time: int | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    status: Status | None = None,
) -> ReadableSpan:
    """Return a copy of an ended span in which some fields differ.

    Args:
        span: the span as its processor received it.
        span_id: its new id.
        parent_id: the new id of its parent, in the same trace.
        start_time: its new start, nanoseconds since the epoch.
        attributes: attributes to add.
        status: its new status.
    """
    context = context_of(span)
    if span_id is not None:
        context = _with_span_id(context, span_id)
    parent = span.parent
    if parent_id is not None and parent is not None:
        parent = _with_span_id(parent, parent_id)
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=parent,
        resource=span.resource,
        attributes={**(span.attributes or {}), **attributes} if attributes else span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=status or span.status,
        start_time=span.start_time if start_time is None else start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def without_messages(span: ReadableSpan) -> ReadableSpan:
    """Return the span without the texts of exceptions: their types stay.

    The tracing SDK records an exception that leaves a `with` block on its own, with its message and
    its traceback, either of which may quote a payload.
    """
    if not span.events and not span.status.description:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_without_message(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_message(event: Event) -> Event:
    attributes = event.attributes or {}
    if EXCEPTION_MESSAGE not in attributes and EXCEPTION_STACKTRACE not in attributes:
        return event
    kept = {
        name: value
        for name, value in attributes.items()
        if name not in (EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE)
    }
    return Event(event.name, kept, event.timestamp)


def _with_span_id(context: SpanContext, span_id: int) -> SpanContext:
    return SpanContext(
        context.trace_id,
        span_id,
        is_remote=context.is_remote,
        trace_flags=context.trace_flags,
        trace_state=context.trace_state,
    )
