"""Counts model calls by the OpenTelemetry spans that instrumentations make of them.

```python
provider = TracerProvider()
provider.add_span_processor(UsageSpanProcessor())
```
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inngest_plugins.core import Call, require_extra

from .calls.attempt import SPAN, Attempt
from .sources.span_attributes import is_summary, read_span
from .totals.run_usage import RUN_USAGE, RunUsage

require_extra("otel", "opentelemetry.sdk")

from opentelemetry.context import Context  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor  # noqa: E402
from opentelemetry.trace import StatusCode  # noqa: E402

__all__ = ["UsageSpanProcessor"]


@dataclass
class _Open:
    """A span that was started in a run and has not ended."""

    state: RunUsage
    attempt: Attempt
    has_counted: bool = False


class UsageSpanProcessor(SpanProcessor):
    """Counts the model calls of spans when they end, in the run in which they began.

    It reads `gen_ai.*` attributes of the current and the previous semantic conventions, and
    OpenInference's `llm.*`. Of spans inside one another the innermost with token counts is the
    call: an agent's or a chain's span repeats what its calls used. No text is read. Spans outside
    of a run, and of functions without an `AIPlugin`, are left alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember which attempt a span began in."""
        call = Call.current()
        state = None if call is None else call.get(RUN_USAGE)
        context = span.get_span_context()
        if state is not None and context is not None:
            with self._lock:
                self._open[context.span_id] = _Open(state, state.current())

    def on_end(self, span: ReadableSpan) -> None:
        """Count the span's call."""
        with self._lock:
            opened = None if span.context is None else self._open.pop(span.context.span_id, None)
        if opened is None:
            return
        attributes: Mapping[str, Any] = span.attributes or {}
        if span.context is not None and opened.state.spans.is_of_step(span.context.span_id):
            opened.has_counted = True
        if not opened.has_counted:
            opened.has_counted = self._count(span, attributes, opened)
        if opened.has_counted and span.parent is not None:
            with self._lock:
                around = self._open.get(span.parent.span_id)
                if around is not None:
                    around.has_counted = True

    def _count(self, span: ReadableSpan, attributes: Mapping[str, Any], opened: _Open) -> bool:
        call = read_span(attributes)
        if call is None:
            return False
        is_known = call.input_tokens is not None or call.output_tokens is not None
        failed = span.status.status_code is StatusCode.ERROR
        span_id = None if span.context is None else span.context.span_id
        if not is_known and (
            failed or is_summary(attributes) or opened.state.spans.is_around_step(span_id)
        ):
            return False
        if span_id is not None and not opened.state.spans.is_new(span_id):
            return is_known
        scope = span.instrumentation_scope
        source = f"{SPAN}{'' if scope is None else scope.name}"
        opened.state.record_automatic(call, source, opened.attempt)
        return is_known
