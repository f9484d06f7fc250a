"""Keeps failures of steps until the run has ended and it is known whether they were caught.

Whether the function catches a step's error shows only when the function goes on: in another
request, perhaps in another process. The event is made where the exception is, and kept in this
process until the run has ended. If the run ends in another process, that one makes the event from
what the engine stores of the error.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sentry_sdk.types import Event

_MAX_KEPT: Final = 200
"""Failures that are kept in a process; the oldest go first. An event takes some 20 kB."""


@dataclass(frozen=True, slots=True)
class StepFailure:
    """The final failure of a step.

    Attributes:
        event: the event, complete and clean; None when it is not to be sent.
    """

    event: Event | None


class StepFailures:
    """The failures that this process has seen, of runs that have not ended yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], StepFailure] = OrderedDict()

    def keep(self, run_id: str, hashed_id: str, failure: StepFailure) -> None:
        """Keep a failure until the run ends; a second one of the same step replaces it."""
        with self._lock:
            self._kept[run_id, hashed_id] = failure
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)

    def take(self, run_id: str, hashed_id: str) -> StepFailure | None:
        """Return the failure of a step and forget it; None if this process has not seen it."""
        with self._lock:
            return self._kept.pop((run_id, hashed_id), None)

    def __len__(self) -> int:
        return len(self._kept)


def event_of_stored_error(name: str, message: str, stack: str | None) -> Event:
    """Make an event from what the engine stores of a step's error.

    Args:
        name: the exception's class.
        message: its text.
        stack: its traceback as text, or None.
    """
    value: Any = {
        "type": name,
        "value": message,
        "mechanism": {"type": "inngest", "handled": True},
    }
    event: Any = {"exception": {"values": [value]}}
    if stack:
        event["extra"] = {"inngest.step.traceback": stack}
    made: Event = event
    return made


def set_handled(event: Event, *, handled: bool) -> None:
    """Say in an event whether the run goes on in spite of the exception."""
    raw: Any = event
    for value in raw["exception"]["values"]:
        mechanism = value.get("mechanism")
        if mechanism and mechanism.get("type") == "inngest":
            mechanism["handled"] = handled
