"""`RunLogFilter`: adds the run, trace and span to log records."""

from __future__ import annotations

import logging

from opentelemetry import trace

from inngest_plugins.core import Call, Phase


class RunLogFilter(logging.Filter):
    """Adds trace, span and run to log records, and silences those of replayed code.

    Add it to handlers, not to loggers: a logger's filters do not see the records of its children.

    Records get `trace_id` and `span_id` (hex, empty without a span) and `inngest_run_id`,
    `inngest_function_id` and `inngest_attempt` (empty outside of a run).

    Args:
        silence_replays: drop records that the function's body emits while it is replayed, as
            `ctx.logger` does. Records of steps and of code outside of runs always pass.

    Example:
        ```python
        handler = logging.StreamHandler()
        handler.addFilter(RunLogFilter())
        handler.setFormatter(logging.Formatter("%(trace_id)s %(inngest_run_id)s %(message)s"))
        ```
    """

    def __init__(self, *, silence_replays: bool = True) -> None:
        super().__init__()
        self._silence_replays = silence_replays

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record; return whether it may pass."""
        call = Call.current()
        span = trace.get_current_span().get_span_context()
        record.trace_id = trace.format_trace_id(span.trace_id) if span.is_valid else ""
        record.span_id = trace.format_span_id(span.span_id) if span.is_valid else ""
        record.inngest_run_id = call.run_id if call is not None else ""
        record.inngest_function_id = call.function_id if call is not None else ""
        record.inngest_attempt = call.attempt if call is not None else ""
        if call is None or not self._silence_replays:
            return True
        return call.phase is Phase.EXECUTING or call.step is not None
