"""Holds back events of other integrations that may repeat a failure the plugin reports.

Sentry's asyncio integration reports an exception as it leaves a task, and `logger.exception`
reports the one it logs. When the same exception then fails the step, on each of its attempts, that
would be several events for one failure. Such events wait until the request's outcome is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sentry_sdk
from sentry_sdk.integrations.dedupe import DedupeIntegration

from inngest_plugins.core import exception_chain

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

RELEASED = "inngest_plugins.released"
"""Key of the hint that marks an event which was held back and is now sent."""

_MECHANISMS = ("asyncio", "logging")
_MAX_HELD = 20


@dataclass(frozen=True, slots=True)
class _Held:
    event: Event
    hint: Hint
    exception: BaseException


class PendingEvents:
    """The events that one request holds back, and the exceptions that others have reported."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._reported: list[BaseException] = []
        self._open = True

    def take(self, event: Event, hint: Hint) -> bool:
        """Hold an event back if it may be about the request's own failure.

        Args:
            event: an event of another integration or of user code.
            hint: Sentry's hint, which holds the exception.

        Returns:
            True when the event was taken and must not be sent now.
        """
        exception = exception_of(hint)
        if exception is None:
            return False
        if self._open and len(self._held) < _MAX_HELD and _mechanism(event) in _MECHANISMS:
            kept: Any = event
            # The scope's data is applied again when the event is released.
            kept.pop("breadcrumbs", None)
            self._held.append(_Held(event, hint, exception))
            return True
        self._reported.append(exception)
        return False

    def was_reported(self, exception: BaseException) -> bool:
        """Return whether user code has reported this exception in this request."""
        return any(reported is exception for reported in self._reported)

    def release(self, failures: Iterable[BaseException]) -> None:
        """Send the events that were held back, except those about one of these failures.

        Args:
            failures: the exceptions that the plugin reports, with their causes.
        """
        self._open = False
        if not self._held:
            return
        known = [cause for failure in failures for cause in exception_chain(failure)]
        held, self._held = self._held, []
        for item in held:
            if any(cause is item.exception for cause in known):
                continue
            forget_last_seen()
            hint: Any = {**item.hint, RELEASED: True}
            sentry_sdk.capture_event(item.event, hint=hint)


def exception_of(hint: Any) -> BaseException | None:
    """Return the exception of an event, or None."""
    exc_info = hint.get("exc_info") if hint else None
    return exc_info[1] if exc_info else None


def forget_last_seen() -> None:
    """Make Sentry's dedupe integration forget the exception of an event that was held back."""
    DedupeIntegration.reset_last_seen()


def _mechanism(event: Event) -> str:
    raw: Any = event
    values: Any = (raw.get("exception") or {}).get("values") or ({},)
    return str((values[-1].get("mechanism") or {}).get("type"))
