"""When spans and runs began, as far as this process or the run's id says."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan

from inngest_plugins.core import ulid_time
from inngest_plugins.otel.base.rewrite import context_of

Forward = Callable[[ReadableSpan], None]
"""Passes a span to the processors behind the replay-safe one."""


class StartTimes:
    """Start times of spans that a step cut off, for the request that will end them.

    A later request starts such a span again. If it runs in the same process, the true start is
    still here. The oldest entries are dropped when there are too many.

    Args:
        limit: how many spans to remember.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._starts: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, span: ReadableSpan) -> None:
        """Keep the start of a span unless an earlier one is known."""
        if span.start_time is None:
            return
        with self._lock:
            self._starts.setdefault(_key(span), span.start_time)
            if len(self._starts) > self._limit:
                self._starts.popitem(last=False)

    def recall(self, span: ReadableSpan) -> int | None:
        """Return the first start of a span, and forget it."""
        if not self._starts:
            return None
        with self._lock:
            return self._starts.pop(_key(span), None)

    def __len__(self) -> int:
        return len(self._starts)


def started_ns(run_id: str) -> int | None:
    """Return when a run was created, in nanoseconds since the epoch; None if its id is no ULID."""
    milliseconds = ulid_time(run_id)
    return None if milliseconds is None else milliseconds * 1_000_000


def _key(span: ReadableSpan) -> tuple[int, int]:
    context = context_of(span)
    return int(context.trace_id), int(context.span_id)
