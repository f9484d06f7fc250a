"""The model calls of one attempt of a step, or of one request's body: each counted once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal

from inngest_plugins.core import ModelCall, ModelUsage

BY_HAND = "usage.record"
"""The source of calls that user code reports."""
BY_PLUGIN = "plugin"
"""The source of calls that another plugin reports."""
SPAN = "span:"
"""Prefix of the sources that are instrumentations of OpenTelemetry."""


@dataclass
class _Counted:
    """A call with those who reported it."""

    call: ModelCall
    sources: set[str] = field(default_factory=set[str])
    in_step: bool = False
    """Whether a step has counted it. It stands here so that it is not counted again."""


class Attempt:
    """The calls of one piece of running code. Safe to use from several threads.

    Args:
        key: identifies the attempt in the run, also on other workers.
        step_id: the step, for messages; None for the body.

    Attributes:
        failed: whether it ended with an error.
        ended: whether its usage was reported. Nothing can be added any more.
    """

    def __init__(self, key: str, step_id: str | None) -> None:
        self.key = key
        self.step_id = step_id
        self.failed = False
        self.ended = False
        self._lock = threading.Lock()
        self._counted: list[_Counted] = []

    def add(self, call: ModelCall, source: str) -> ModelCall | None:
        """Count a call, unless another source has reported it.

        Two reports are of the same call when they have the same response id, or when one of them
        has none, their token counts agree and each source has reported the call only once. Where no
        token count is known, or the call is a step's, the names of the model have to agree, too.

        Args:
            call: the call, priced.
            source: who reports it.

        Returns:
            What it adds: the call, or None when it was counted already.
        """
        with self._lock:
            if self._merge(call, source):
                return None
            self._counted.append(_Counted(call, {source}))
            return call

    def mark_counted_by_step(self, call: ModelCall) -> None:
        """Remember a call that a step has counted, so that a second report counts nothing."""
        with self._lock:
            self._counted.append(_Counted(call, in_step=True))

    def is_of_step(self, call: ModelCall, source: str) -> bool:
        """Return whether a report is of a call that a step has counted."""
        with self._lock:
            return self._merge(call, source, only_of_steps=True)

    def _merge(self, call: ModelCall, source: str, *, only_of_steps: bool = False) -> bool:
        """Add a report to the call that it is of, if there is one. The caller holds the lock."""
        for counted in self._counted:
            if only_of_steps and not counted.in_step:
                continue
            if _is_same(counted, call, source):
                counted.sources.add(source)
                counted.call = counted.call.filled_from(call)
                return True
        return False

    @property
    def calls(self) -> list[ModelCall]:
        """The calls so far."""
        with self._lock:
            return [counted.call for counted in self._counted if not counted.in_step]

    @property
    def unmeasured(self) -> list[ModelCall]:
        """The calls that no instrumentation has seen."""
        with self._lock:
            return [
                counted.call
                for counted in self._counted
                if not counted.in_step
                and not any(source.startswith(SPAN) for source in counted.sources)
            ]

    def usage(self) -> ModelUsage:
        """Return the sum of the calls so far."""
        total = sum((call.as_usage() for call in self.calls), ModelUsage())
        return as_failed(total) if self.failed else total


def as_failed(usage: ModelUsage) -> ModelUsage:
    """Return the figures as those of a failed attempt."""
    return usage + ModelUsage(
        failed_calls=usage.calls - usage.failed_calls,
        failed_tokens=usage.tokens - usage.failed_tokens,
        failed_cost_usd=Decimal(usage.cost_usd - usage.failed_cost_usd),
    )


def _is_same(counted: _Counted, call: ModelCall, source: str) -> bool:
    known = counted.call
    if known.response_id is not None and call.response_id is not None:
        return known.response_id == call.response_id
    if source in counted.sources:
        return False
    # A span has no attribute for a count of zero.
    if (known.input_tokens, known.output_tokens or 0) != (
        call.input_tokens,
        call.output_tokens or 0,
    ):
        return False
    is_certain = call.input_tokens is not None and not counted.in_step
    return is_certain or not _names(known).isdisjoint(_names(call))


def _names(call: ModelCall) -> set[str | None]:
    return {call.model, call.response_model} - {None}
