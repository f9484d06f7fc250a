"""One HTTP exchange with a model's API: what is read of the answer as it passes by."""

from __future__ import annotations

import json

from inngest_plugins.ai.budgets.enforcement import ENFORCEMENT, Enforcement
from inngest_plugins.ai.totals.run_usage import RUN_USAGE, RunUsage
from inngest_plugins.core import Call

from .answers import Report, provider_of

SOURCE = "instrument"
_MOST_BYTES = 32 * 1024 * 1024
_TELLING = (b'"usage"', b'"usageMetadata"')


class Exchange:
    """An exchange that belongs to a run.

    Args:
        state: what is known of the run.
        enforcement: the run's budgets.
        host: who is asked.
    """

    def __init__(self, state: RunUsage, enforcement: Enforcement, host: str) -> None:
        self.enforcement = enforcement
        self._state = state
        # Where a stream ends there may be other code running than where it began.
        self._attempt = state.current()
        self._report = Report(provider_of(host))
        self._kind: str | None = None
        self._rest = bytearray()
        self._lines = 0

    @classmethod
    def begin(cls, method: str, host: str) -> Exchange | None:
        """Return the exchange that a request begins; None for one that is not watched."""
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
        if self._lines == 0 or any(word in line for word in _TELLING):
            self._report.take(_decoded(line[5:]))
        self._lines += 1

    def ended(self) -> None:
        """Count the call: the answer has ended or was broken off. To be called once."""
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
    except ValueError:
        return None
