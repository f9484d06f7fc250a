"""Headers of the engine, read from the request of any web framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

TRACE_HEADERS: Final = ("traceparent", "tracestate")
_HEADERS: Final = (*TRACE_HEADERS, "x-request-id", "x-inngest-job-id")


def engine_headers(raw_request: object) -> dict[str, str]:
    """Read the engine's headers that a call needs from the request of any web framework.

    A `connect` worker gets no HTTP request but a protobuf message, whose `system_trace_ctx` is the
    same headers as a JSON object.
    """
    try:
        carrier = getattr(raw_request, "system_trace_ctx", None)
        headers = getattr(raw_request, "headers", None)
    except RuntimeError:
        # Flask's request is a proxy, which means nothing in the SDK's pool threads.
        return {}
    if isinstance(carrier, bytes):
        return _from_carrier(carrier)
    if headers is None and isinstance(raw_request, Mapping):
        event: Any = raw_request.get("http", raw_request)
        headers = event.get("headers") if isinstance(event, Mapping) else None
    if headers is None or not hasattr(headers, "get"):
        return {}
    found = ((name, headers.get(name)) for name in _HEADERS)
    return {name: value for name, value in found if isinstance(value, str) and value}


def is_connect(raw_request: object) -> bool:
    """Return whether a request came over a `connect` worker's connection."""
    try:
        return isinstance(getattr(raw_request, "system_trace_ctx", None), bytes)
    except RuntimeError:
        # Flask's request, in one of the SDK's pool threads.
        return False


def _from_carrier(carrier: bytes) -> dict[str, str]:
    try:
        parsed = json.loads(carrier or b"{}")
    except ValueError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    lowered = {str(name).lower(): value for name, value in parsed.items()}
    return {n: lowered[n] for n in TRACE_HEADERS if isinstance(lowered.get(n), str)}
