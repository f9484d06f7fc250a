"""One HTTP request to a model's API: counts the call from the answer as it passes by."""

from __future__ import annotations

import json

from inngest_plugins.ai.budgets.enforcement import ENFORCEMENT, Enforcement
from inngest_plugins.ai.totals.run_usage import RUN_USAGE, RunUsage
from inngest_plugins.core import Call

from .answers import Report, provider_of

SOURCE = "instrument"
_MOST_BYTES = 32 * 1024 * 1024
_USAGE_KEYS = (b'"usage"', b'"usageMetadata"')


class Exchange:
    """An exchange that belongs to a run.

    Args:
        state: what is known of the run.
        enforcement: the run's budgets.
        host: the host of the API.
    """

    def __init__(self, state: RunUsage, enforcement: Enforcement, host: str) -> None:
        self.enforcement = enforcement
        self._state = state
        # A stream may end in other code than it began in, so the attempt is kept here.
        self._attempt = state.current()
        self._report = Report(provider_of(host))
        self._kind: str | None = None
        self._rest = bytearray()
        self._lines = 0

    @classmethod
    def begin(cls, method: str, host: str) -> Exchange | None:
        """Return the exchange that a request begins, or None when it belongs to no run."""
        call = Call.current()
        state = None if call is None else call.get(RUN_USAGE)
        if call is None or state is None or method != "POST":
            return None
        return cls(state, call[ENFORCEMENT], host)

    def answered(self, status: int, content_type: str) -> None:
        """Take the answer's status and type. An error is not charged."""
        if status < 400:
            kind = content_type.partition(";")[0].strip().lower()
            self._kind = {"application/json": "json", "text/event-stream": "events"}.get(kind)

    def passed(self, data: bytes) -> None:
        """Take a part of the answer's body."""
        if self._kind is None:
            return
        self._rest += data
        if self._kind == "events":
            *lines, rest = self._rest.split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                self._take_line(bytes(line))
        elif len(self._rest) > _MOST_BYTES:
            self._kind = None
            self._rest.clear()

    def _take_line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        # The first event names the model; of the others those with figures matter.
        if self._lines == 0 or any(word in line for word in _USAGE_KEYS):
            self._report.take(_decoded(line[5:]))
        self._lines += 1

    def ended(self) -> None:
        """Count the call when the answer has ended or was broken off. Called once."""
        if self._kind == "events":
            self._take_line(bytes(self._rest))
        elif self._kind == "json":
            self._report.take(_decoded(bytes(self._rest)))
        self._rest.clear()
        call = self._report.call()
        if call is not None:
            self._state.record_automatic(call, SOURCE, self._attempt)


def _decoded(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
