"""Records the metrics of a request at its end."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.base.start_times import started_ns
from inngest_plugins.otel.requests.instruments import Instruments
from inngest_plugins.otel.requests.request import Request, error_type

_ENCODER: Final = json.JSONEncoder(default=str, separators=(",", ":"), ensure_ascii=False)


class Measures:
    """Records requests on one meter provider.

    Everything is recorded at the end of the request, in the context of its span, so that exemplars
    lead to it.

    Args:
        provider: where to make the instruments.
        scope: name of the instrumentation scope.
        version: its version.
    """

    __slots__ = ("_made",)

    def __init__(self, provider: MeterProvider, scope: str, version: str) -> None:
        self._made = Instruments(provider, scope, version)

    def record(self, request: Request) -> None:
        """Record a request that has ended."""
        made, call, context = self._made, request.call, request.context
        labels = request.profile.labels
        made.request_duration.record(
            time.perf_counter() - request.started, labels(names.OUTCOME, request.result), context
        )
        made.memoized_steps.record(call.memo_count, labels(), context)
        for hook, seconds in request.hook_times:
            made.plugin_duration.record(seconds, labels(names.HOOK, hook), context)
        for direction, size in request.payload_sizes:
            made.payload_size.record(size, labels(names.DIRECTION, direction), context)
        if call.failure is not None:
            made.plugin_failures.add(1, labels(ERROR_TYPE, error_type(call.failure)), context)
        if request.ended is not None:
            self._record_outcome(request)

    def _record_outcome(self, request: Request) -> None:
        made, call, context, ended = self._made, request.call, request.context, request.ended
        assert ended is not None  # noqa: S101
        labels = request.profile.labels
        failure = () if ended.raised is None else (ERROR_TYPE, error_type(ended.raised))
        if ended.op is not None:
            outcome = (names.STEP_OP, ended.op, names.OUTCOME, ended.word)
            if request.step is not None:
                made.step_duration.record(
                    request.step.duration, labels(*outcome, *failure), context
                )
            if not ended.will_retry:
                made.step_attempts.record(call.attempt + 1, labels(*outcome), context)
        elif not ended.will_retry:
            started = started_ns(call.run_id)
            if started is not None:
                made.run_duration.record(
                    max(0.0, time.time() - started / 1e9),
                    labels(names.STATUS, ended.word, *failure),
                    context,
                )


def json_size(payload: Any) -> int:
    """Return how many bytes a payload takes as JSON, in UTF-8."""
    text = _ENCODER.encode(payload)
    return len(text) if text.isascii() else len(text.encode())
