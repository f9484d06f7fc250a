"""Requests that the SDK refuses before a run is known, as one Sentry issue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from inngest_plugins.core import RefusedRequest

if TYPE_CHECKING:
    from sentry_sdk.types import Event

INTERVAL: Final = 60.0
"""Seconds between two events about the same app, path and reason."""

_QUOTES_NOTHING: Final = frozenset(
    {"function_not_found", "header_missing", "query_param_missing", "unauthorized"}
)
"""Reasons whose texts hold nothing of the request's body."""

_MAX_KINDS: Final = 1000


class RefusedRequests:
    """Turns the SDK's logs of refused requests into a limited number of events of one issue.

    Anybody can send requests with a wrong signature to a public endpoint, as many as they like.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str, str], float] = {}
        self._unsent: dict[tuple[str, str, str], int] = {}

    def describe(self, event: Event, request: RefusedRequest, text: str) -> Event | None:
        """Return the event of a refused request, None when there was one just now.

        Args:
            event: what Sentry's logging integration made of the SDK's log; changed in place.
            request: what was refused.
            text: what the SDK logged: `<reason>: <details>`.
        """
        reason = text.partition(":")[0]
        kind = (request.app_id, request.path, reason)
        with self._lock:
            now, last = self._clock(), self._last.get(kind)
            if last is not None and now - last < INTERVAL:
                self._unsent[kind] = self._unsent.get(kind, 0) + 1
                return None
            if len(self._last) >= _MAX_KINDS:
                # Strangers choose the paths, so only some are remembered.
                self._last.clear()
                self._unsent.clear()
            self._last[kind] = now
            unsent = self._unsent.pop(kind, 0)
        shown = text if reason in _QUOTES_NOTHING else reason
        raw: Any = event
        raw["level"] = "warning"
        raw["fingerprint"] = ["inngest", "refused request"]
        raw["logentry"] = {"message": f"Inngest request refused: {shown}"}
        raw.pop("extra", None)
        # Breadcrumbs hold earlier logs of refused requests, whose texts may quote bodies.
        raw.pop("breadcrumbs", None)
        request_data = raw.get("request")
        if isinstance(request_data, dict):
            request_data.pop("data", None)
        raw.setdefault("tags", {}).update(
            {
                "inngest.app.id": request.app_id,
                "inngest.path": request.path,
                "inngest.refused": reason,
            }
        )
        raw.setdefault("contexts", {})["inngest"] = {
            "type": "inngest",
            "refused_since_last_event": unsent,
        }
        return event
