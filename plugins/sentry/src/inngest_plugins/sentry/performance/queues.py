"""Sent events for Sentry's Queues view: a span each, and trace headers inside the event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import inngest
import sentry_sdk
from sentry_sdk.tracing import Span

from inngest_plugins.core import CallKey, Send
from inngest_plugins.sentry.base.trace import CARRIER_KEY, Carrier

ORIGIN = "auto.queue.inngest"
SYSTEM = "inngest"
_SPANS = CallKey[dict[str, Span]]("sentry.publish_spans")


def body_size(events: Iterable[inngest.Event]) -> int | None:
    """Return the size of the events' data as JSON, in bytes; None when it is not JSON."""
    try:
        return sum(len(json.dumps(event.data).encode()) for event in events)
    except (TypeError, ValueError):
        return None


def destination_of(names: Iterable[str]) -> str:
    """Return the queue's name for events of these names, the same for sender and receiver."""
    return ", ".join(dict.fromkeys(names))


def begin_publish(send: Send, *, propagate: bool) -> None:
    """Open one `queue.publish` span for each event name, and put its headers into the events."""
    by_name: dict[str, list[inngest.Event]] = {}
    for event in send.events:
        by_name.setdefault(event.name, []).append(event)
    spans: dict[str, Span] = {}
    for name, events in by_name.items():
        span = sentry_sdk.start_span(op="queue.publish", name=name, origin=ORIGIN)
        span.set_data("messaging.system", SYSTEM)
        span.set_data("messaging.destination.name", name)
        span.set_data("messaging.batch.message_count", len(events))
        size = body_size(events)
        if size is not None:
            span.set_data("messaging.message.body.size", size)
        spans[name] = span
        carrier = _carrier(span) if propagate else None
        for event in events if carrier is not None else ():
            event.data = {**event.data, CARRIER_KEY: carrier}
    send[_SPANS] = spans


def end_publish(send: Send) -> None:
    """Close the spans that `begin_publish` opened."""
    spans = send.get(_SPANS)
    if spans is None:
        return
    ids: dict[str, list[str]] = {}
    for event, event_id in zip(send.events, send.ids, strict=False):
        ids.setdefault(event.name, []).append(event_id)
    for name, span in spans.items():
        if ids.get(name):
            span.set_data("messaging.message.id", ids[name][0])
        span.set_status("ok" if send.error is None else "internal_error")
        span.finish()


def _carrier(span: Span) -> Mapping[str, Any] | None:
    """Return the headers of a span; None outside of a transaction, where nothing is recorded.

    There the current trace is the process's own, and all runs would end up in it.
    """
    headers = dict(span.iter_headers())
    carrier = Carrier.from_data(
        {"trace": headers.get("sentry-trace"), "baggage": headers.get("baggage", "")}
    )
    return None if carrier is None else carrier.to_data()
