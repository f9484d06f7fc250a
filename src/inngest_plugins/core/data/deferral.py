"""Deferred functions: who deferred the run of a request, and the events that carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import inngest

DEFERRED_EVENT: Final = "inngest/deferred.schedule"
"""The name of the event that starts a deferred function when its parent has ended."""

CARRIER_KEY: Final = "_inngest"
"""The key of that event's data under which the engine says who deferred it."""


@dataclass(frozen=True, slots=True)
class DeferredBy:
    """The run that deferred this one.

    Attributes:
        run_id: ULID of that run; empty when the engine did not say.
        function_id: the engine's id of its function, `"<app>-<function>"`; empty likewise.
        traceparent: the W3C header that names the engine's span of the deferral, or None.
    """

    run_id: str
    function_id: str
    traceparent: str | None


def take_carrier(*events: inngest.Event) -> DeferredBy | None:
    """Take the engine's own part out of the data of the events that start a deferred function.

    Plugins and handlers then see what was deferred: encryption may have sealed it as a whole.

    Args:
        events: the event of a request and its batch; their data is replaced.

    Returns:
        Who deferred the run; None when another event started it.
    """
    found: DeferredBy | None = None
    for event in events:
        if event.name == DEFERRED_EVENT and isinstance(event.data.get(CARRIER_KEY), dict):
            data = dict(event.data)
            found = _read(cast("Mapping[str, Any]", data.pop(CARRIER_KEY)))
            event.data = data
    return found


def _read(carrier: Mapping[str, Any]) -> DeferredBy:
    span = carrier.get("parent_defer_span")
    traceparent = span.get("tp") if isinstance(span, dict) else None
    return DeferredBy(
        run_id=_text(carrier.get("parent_run_id")),
        function_id=_text(carrier.get("parent_fn_slug")),
        traceparent=_text(traceparent) or None,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
