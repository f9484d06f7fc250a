"""Trace context and baggage that travel in event data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import inngest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inngest_plugins.core import Call, Memo

CARRIER_KEY: Final = "_otel_context"
"""The key of `event.data` that holds the carrier: an object of W3C headers."""

_HEADERS: Final = frozenset({"traceparent", "tracestate", "baggage"})
_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()
_PROPAGATOR: Final = CompositePropagator([_TRACE_CONTEXT, _BAGGAGE])
_KEY: Final = CARRIER_KEY.encode()
_FETCHED: Final = (b'"use_api":true', b'"use_api": true')
"""In the body of a request whose memos are too big for it, and are fetched by the SDK."""
_LIFE_CYCLE: Final = "inngest/function."
"""Engine events about a run, which carry the events that triggered it."""

Carrier = dict[str, str]


def carrier_of(context: Context | None = None) -> Carrier:
    """Return the W3C headers of a context, the current one by default; may be empty."""
    carrier: Carrier = {}
    _PROPAGATOR.inject(carrier, context)
    return carrier


def with_carrier(data: Any, carrier: Carrier) -> Any:
    """Return event data that holds the carrier; the data as it is if it can hold none."""
    if not carrier or not (data is None or isinstance(data, dict)):
        return data
    return {**(data or {}), CARRIER_KEY: carrier}


def span_context_in(carrier: Carrier) -> SpanContext | None:
    """Return the span that a carrier names, or None."""
    found = trace.get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None


def baggage_into(carrier: Carrier, context: Context) -> Context:
    """Return the context with the carrier's baggage added."""
    if "baggage" not in carrier:
        return context
    return _BAGGAGE.extract(carrier, context)


def headers_context(headers: Mapping[str, str]) -> SpanContext | None:
    """Return the span that W3C headers name, or None."""
    if "traceparent" not in headers:
        return None
    extracted = _TRACE_CONTEXT.extract(headers, Context())
    found = trace.get_current_span(extracted).get_span_context()
    return found if found.is_valid else None


def take_carriers(call: Call) -> list[Carrier]:
    """Take the carriers out of everything that the handler will see.

    That is the triggering events, the events that engine events about a run quote, and events that
    a `wait_for_event` received.

    Returns:
        The carriers of the triggering events, without repetition.
    """
    found: list[Carrier] = []
    ctx = call.ctx
    for event in (ctx.event, *ctx.events):
        if CARRIER_KEY not in event.data and not event.name.startswith(_LIFE_CYCLE):
            continue
        for taken in _take_from_event(event):
            if taken not in found:
                found.append(taken)
    if not call.memo_count or not _may_carry(call):
        return found
    memos = call.memos
    for hashed_id, data in memos.data():
        # A memo of a wait is the event itself.
        if type(data) is dict and type(data.get("data")) is dict and CARRIER_KEY in data["data"]:
            kept, carrier = _split(data["data"])
            if carrier is not None:
                memos[hashed_id] = Memo({**data, "data": kept})
    return found


def _may_carry(call: Call) -> bool:
    """Return whether memos may hold a carrier, without looking at each of them."""
    body = call.engine.request_body
    return body is None or _KEY in body or any(mark in body for mark in _FETCHED)


def _take_from_event(event: inngest.Event) -> Iterable[Carrier]:
    data: Any = event.data
    if event.name.startswith(_LIFE_CYCLE):
        taken = _take_quoted(event, data)
        if taken is not None:
            yield taken
    if CARRIER_KEY in event.data:
        kept, own = _split(data)
        if own is not None:
            event.data = kept
            yield own


def _take_quoted(event: inngest.Event, data: Any) -> Carrier | None:
    first: Carrier | None = None
    quoted = data.get("event")
    cleaned, carrier = _without(quoted)
    events = data.get("events")
    several = [_without(each) for each in events] if isinstance(events, list) else None
    if carrier is None and not any(c for _, c in several or ()):
        return None
    first = carrier
    event.data = {**data, "event": cleaned}
    if several is not None:
        event.data = {**event.data, "events": [each for each, _ in several]}
    return first


def _without(quoted: Any) -> tuple[Any, Carrier | None]:
    if type(quoted) is dict and type(quoted.get("data")) is dict and CARRIER_KEY in quoted["data"]:
        kept, carrier = _split(quoted["data"])
        return {**quoted, "data": kept}, carrier
    return quoted, None


def _split(data: dict[str, Any]) -> tuple[dict[str, Any], Carrier | None]:
    """Split data from its carrier; a user's own value under the same key is left alone."""
    carrier = data[CARRIER_KEY]
    if (
        type(carrier) is not dict
        or not carrier
        or not carrier.keys() <= _HEADERS
        or not all(isinstance(value, str) for value in carrier.values())
    ):
        return data, None
    return {key: value for key, value in data.items() if key != CARRIER_KEY}, carrier


def with_remote_parent(parent: SpanContext) -> Context:
    """Return the current context with a span of another process as the current one."""
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context_api.get_current())
