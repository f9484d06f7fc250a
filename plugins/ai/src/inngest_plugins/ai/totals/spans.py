"""The spans of one request: which of them are counted, and which only repeat a step's call."""

from __future__ import annotations

import threading


class Spans:
    """What one request knows of its spans, by their ids. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: set[int] = set()
        self._around_steps: set[int] = set()
        self._of_steps: set[int] = set()

    def is_new(self, span_id: int) -> bool:
        """Return whether a span is not counted yet, and count it: there may be two processors."""
        with self._lock:
            is_new = span_id not in self._counted
            self._counted.add(span_id)
            return is_new

    def step_reached(self) -> None:
        """Remember that the current span stands around a step."""
        self._add_open(self._around_steps)

    def step_counted(self) -> None:
        """Remember that the current span repeats a call that a step has counted."""
        self._add_open(self._of_steps)

    def is_around_step(self, span_id: int | None) -> bool:
        """Return whether a span stands around a step: without figures it is no model call.

        Such a span ends when the step ends the request, before the body has the answer.
        """
        return span_id in self._around_steps

    def is_of_step(self, span_id: int) -> bool:
        """Return whether a span repeats a call that a step has counted."""
        return span_id in self._of_steps

    def _add_open(self, spans: set[int]) -> None:
        try:
            from opentelemetry import trace
        except ImportError:
            return
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            with self._lock:
                spans.add(context.span_id)
