"""Which trace a run belongs to, derived only from what every request of the run carries.

All workers must get the same ids without talking to each other, so every id is either read from the
request or derived from the run id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import inngest

from inngest_plugins.core import ulid_time, ulid_value

CARRIER_KEY = "_sentry"
"""Reserved key of an event's data under which the trace travels from sender to receiver."""

_FAILED_EVENT = "inngest/function.failed"
_MAX_BAGGAGE = 8192  # bytes; the limit of the W3C baggage recommendation
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_SENTRY_TRACE = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})(?:-([01]))?")


@dataclass(frozen=True, slots=True)
class Carrier:
    """The trace headers that a sender put into an event.

    Attributes:
        sentry_trace: `<trace id>-<span id>[-<sampled>]`, Sentry's own trace header.
        baggage: the W3C baggage header with Sentry's dynamic sampling context, or "".
    """

    sentry_trace: str
    baggage: str = ""

    @property
    def trace_id(self) -> str:
        """The sender's trace id: 32 hex digits."""
        return self.sentry_trace.partition("-")[0]

    def headers(self) -> dict[str, str]:
        """Return the headers as Sentry's `continue_trace` expects them."""
        headers = {"sentry-trace": self.sentry_trace}
        if self.baggage:
            headers["baggage"] = self.baggage
        return headers

    def to_data(self) -> dict[str, str]:
        """Return what is put under `CARRIER_KEY`."""
        data = {"trace": self.sentry_trace}
        if self.baggage:
            data["baggage"] = self.baggage
        return data

    @classmethod
    def from_data(cls, value: object) -> Carrier | None:
        """Read what a sender put under `CARRIER_KEY`; None when it is not well formed."""
        if not isinstance(value, Mapping):
            return None
        trace, baggage = value.get("trace"), value.get("baggage", "")
        if not isinstance(trace, str) or _SENTRY_TRACE.fullmatch(trace) is None:
            return None
        if not isinstance(baggage, str) or len(baggage) > _MAX_BAGGAGE:
            baggage = ""
        return cls(trace, baggage)


@dataclass(frozen=True, slots=True)
class RunTrace:
    """The trace of a run, the same on every request and worker.

    Attributes:
        trace_id: 32 hex digits.
        run_id: ULID of the run.
        carrier: the sender's headers when the run continues the sender's trace, else None.
    """

    trace_id: str
    run_id: str
    carrier: Carrier | None = None

    @property
    def root_span_id(self) -> str:
        """Span id of the transaction of the run's first request: 16 hex digits.

        The transactions of all other requests are its children.
        """
        return _digest("root span", self.run_id, 8)

    @classmethod
    def of(cls, run_id: str, headers: Mapping[str, str], carrier: Carrier | None) -> RunTrace:
        """Return the trace of a run.

        The sender's trace comes first, so that sender and receivers share one; then the trace id
        that the engine sends, which it keeps over a run, its invoked runs and its failure handler;
        then one derived from the run id.

        Args:
            run_id: ULID of the run.
            headers: the engine's trace headers, lower-case names.
            carrier: the carrier of the triggering event, if it has one.
        """
        if carrier is not None:
            return cls(carrier.trace_id, run_id, carrier)
        engine = trace_id_of_traceparent(headers.get("traceparent", ""))
        return cls(engine or trace_id_of_run(run_id), run_id)


def trace_id_of_traceparent(traceparent: str) -> str | None:
    """Return the trace id of a W3C `traceparent` header, or None when it is not a valid one."""
    match = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if match is None or set(match[1]) == {"0"} or traceparent.startswith("ff"):
        return None
    return match[1]


def trace_id_of_run(run_id: str) -> str:
    """Derive a trace id from a run id: a ULID's own 128 bits, else a digest of the text."""
    value = ulid_value(run_id)
    return f"{value:032x}" if value else _digest("trace", run_id, 16)


def check_in_id_of_run(run_id: str) -> str:
    """Derive the id that all cron check-ins of a run share: 32 hex digits."""
    return _digest("check-in", run_id, 16)


def started_at_of_run(run_id: str) -> float | None:
    """Return when the engine created the run, in seconds since 1970; None if not a ULID."""
    millis = ulid_time(run_id)
    return None if millis is None else millis / 1000


def take_carrier(event: inngest.Event) -> Carrier | None:
    """Remove the carrier from an event, also from the events inside a failure event.

    Args:
        event: this call's own copy; its data is replaced when it holds a carrier.

    Returns:
        The event's own carrier; for a failure event that of the failed run's event.
    """
    data: Mapping[str, Any] = event.data
    carrier: Carrier | None = None
    if CARRIER_KEY in data:
        data, carrier = without_carrier(data)
        event.data = data
    if event.name != _FAILED_EVENT:
        return carrier
    inner = data.get("event")
    if isinstance(inner, Mapping) and isinstance(inner.get("data"), Mapping):
        inner_data, nested = without_carrier(inner["data"])
        if inner_data is not inner["data"]:
            data = {**data, "event": {**inner, "data": inner_data}}
            carrier = carrier or nested
    batch = data.get("events")
    if isinstance(batch, list):
        data = {**data, "events": [without_carrier_in_event(item) for item in batch]}
    event.data = data
    return carrier


def without_carrier(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], Carrier | None]:
    """Return the data without its carrier, and the carrier; the same object if it has none."""
    if CARRIER_KEY not in data:
        return data, None
    rest = {key: value for key, value in data.items() if key != CARRIER_KEY}
    return rest, Carrier.from_data(data[CARRIER_KEY])


def without_carrier_in_event(event: object) -> object:
    """Return a raw event without its carrier; anything else is returned as it is."""
    if not isinstance(event, dict):
        return event
    data = event.get("data")
    if not isinstance(data, dict) or CARRIER_KEY not in data:
        return event
    return {**event, "data": without_carrier(data)[0]}


def _digest(purpose: str, run_id: str, size: int) -> str:
    text = f"inngest-plugins sentry {purpose} {run_id}"
    return hashlib.sha256(text.encode()).digest()[:size].hex()
