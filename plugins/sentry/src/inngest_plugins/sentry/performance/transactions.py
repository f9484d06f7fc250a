"""The transaction of a request, and its place in the run's trace."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import sentry_sdk
from sentry_sdk.client import BaseClient
from sentry_sdk.tracing import Span, Transaction
from sentry_sdk.tracing_utils import has_tracing_enabled

from inngest_plugins.core import Call, Step
from inngest_plugins.sentry.base.trace import Carrier, RunTrace
from inngest_plugins.sentry.performance.queues import ORIGIN, SYSTEM, body_size, destination_of

_ENGINE_EVENTS = "inngest/"
_HTTP_SERVER = "http.server"
_MADE_BY_HAND = "manual"  # Sentry's default origin; integrations give their own


def records_transactions(client: BaseClient) -> bool:
    """Return whether Sentry's tracing is on, in the mode that knows transactions.

    Span streaming (`trace_lifecycle="stream"`) has none; there the plugin leaves tracing alone.
    """
    options = client.options
    if not has_tracing_enabled(options):
        return False
    experiments = options.get("_experiments") or {}
    return (options.get("trace_lifecycle") or experiments.get("trace_lifecycle")) != "stream"


def is_first_request(call: Call) -> bool:
    """Return whether this is the request with which the run begins."""
    return call.attempt == 0 and call.memo_count == 0 and call.target is None


def join_trace(scope: sentry_sdk.Scope, call: Call, carrier: Carrier | None) -> RunTrace:
    """Make everything that is captured in the scope part of the run's trace.

    Args:
        scope: the call's own isolation scope.
        call: the request.
        carrier: the sender's headers, or None. Sentry refuses those of another organisation.

    Returns:
        The trace that the run is part of.
    """
    if carrier is not None:
        scope.generate_propagation_context(carrier.headers())
        if scope.get_active_propagation_context().trace_id != carrier.trace_id:
            carrier = None
    trace = RunTrace.of(call.run_id, call.trace_headers, carrier)
    if carrier is None:
        scope.set_new_propagation_context()
        scope.get_active_propagation_context().trace_id = trace.trace_id
    return trace


class RequestTrace:
    """The spans of one request: none for what is replayed.

    Args:
        call: the request.
        scope: the call's own isolation scope, after `join_trace`.
        trace: what `join_trace` returned.
        name: name of the transaction.
    """

    def __init__(self, call: Call, scope: sentry_sdk.Scope, trace: RunTrace, name: str) -> None:
        self._replay: Span | None = None
        first = is_first_request(call)
        named: dict[str, Any] = {
            "op": "queue.process",
            "name": name,
            "source": "task",
            "origin": ORIGIN,
        }
        if trace.carrier is not None:
            # Knows the sender's sampling decision, and its span as the parent.
            begun = scope.continue_trace(trace.carrier.headers(), **named)
        else:
            begun = Transaction(trace_id=trace.trace_id, **named)
        if first:
            begun.span_id = trace.root_span_id
        else:
            begun.parent_span_id = trace.root_span_id
        _drop_http_transaction()
        self.transaction = sentry_sdk.start_transaction(
            begun,
            custom_sampling_context={
                "inngest": {
                    "app_id": call.app_id,
                    "function_id": call.function_id,
                    "event_name": call.event.name,
                    "run_id": call.run_id,
                }
            },
        )
        if self.transaction.sampled:
            self._describe(call, first=first)

    def open(self) -> None:
        """Make the transaction the active one until `close`."""
        self.transaction.__enter__()

    def begin_replay(self, call: Call) -> None:
        """Begin the span of the replay, if anything is memoized."""
        if call.memo_count and self.transaction.sampled:
            self._replay = self.transaction.start_child(
                op="inngest.memoization", name="memoization", origin=ORIGIN
            )
            self._replay.set_data("inngest.memoized_steps", call.memo_count)

    def end_replay(self) -> None:
        """End the span of the replay."""
        if self._replay is not None:
            self._replay.finish()
            self._replay = None

    @property
    def is_recorded(self) -> bool:
        """Whether the run was sampled."""
        return bool(self.transaction.sampled)

    def step(self, call: Call, step: Step) -> AbstractContextManager[Any]:
        """Return the span of a step that really runs."""
        span = sentry_sdk.start_span(op="inngest.step", name=step.id, origin=ORIGIN)
        span.set_data("inngest.step.op", step.op)
        span.set_data("inngest.attempt", call.attempt)
        return span

    def close(self, status: str) -> None:
        """End the transaction with the request's status."""
        self.end_replay()
        self.transaction.set_status(status)
        self.transaction.__exit__(None, None, None)

    def _describe(self, call: Call, *, first: bool) -> None:
        event, data = call.event, self.transaction.set_data
        internal = event.name.startswith(_ENGINE_EVENTS)
        names = [call.function_id] if internal else [one.name for one in call.events]
        data("messaging.system", SYSTEM)
        data("messaging.destination.name", destination_of(names))
        data("messaging.message.id", event.id)
        data("messaging.message.retry.count", call.attempt)
        data("messaging.batch.message_count", len(call.events))
        data("inngest.run.id", call.run_id)
        if not first:
            # Latency and size belong to the first request only: the event arrived once.
            return
        size = body_size(call.events)
        if size is not None:
            data("messaging.message.body.size", size)
        if event.ts:
            data("messaging.message.receive.latency", max(0.0, time.time() * 1000 - event.ts))


def _drop_http_transaction() -> None:
    """Drop the web framework's transaction of this request, which would double ours.

    It is named after the endpoint that serves all functions, and has a trace of its own. One that
    user code began is not the framework's: it stands around an engine in the same process.
    """
    ambient = sentry_sdk.get_current_scope().transaction
    if ambient is not None and ambient.op == _HTTP_SERVER and ambient.origin != _MADE_BY_HAND:
        ambient.sampled = False
