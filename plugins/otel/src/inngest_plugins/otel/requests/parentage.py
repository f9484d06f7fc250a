"""Decides which trace a request belongs to, and which span is its parent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from inngest_plugins.core import Call
from inngest_plugins.otel.base.ids import derived_span_id, derived_trace_id
from inngest_plugins.otel.requests.carrier import (
    Carrier,
    baggage_into,
    headers_context,
    span_context_in,
    with_remote_parent,
)


class Parentage(NamedTuple):
    """The place of a request's span.

    Attributes:
        context: the context to start it in.
        links: what it links to.
        trace_id: the trace to start when `context` holds no span; None when it does.
    """

    context: Context
    links: Sequence[Link]
    trace_id: int | None


def parentage_of(
    call: Call,
    carriers: Sequence[Carrier],
    *,
    continue_traces: bool,
    assume_parent: bool,
    sampler: Sampler | None,
) -> Parentage:
    """Decide where a request's span goes.

    The run's trace is, in this order: the producer's (if that is to be continued and there is but
    one), the one that the engine's `traceparent` names, or one that every request of the run
    derives from the run id alike. A span that is current already, such as the web framework's, is
    the parent if it is in that trace, and linked to if it is not.

    Args:
        call: the request.
        carriers: the carriers of the triggering events.
        continue_traces: whether a triggered run continues its producer's trace.
        assume_parent: whether the provider cannot start a trace with a given id, so that the trace
            needs an invented parent span.
        sampler: decides whether such a trace is sampled; None: it is.
    """
    producers = [found for found in map(span_context_in, carriers) if found is not None]
    links = [] if producers else _links_to_deferral(call)
    context = context_api.get_current()
    current = trace.get_current_span(context).get_span_context()
    remote: SpanContext | None = None
    if continue_traces and len(producers) == 1:
        remote = producers[0]
        producers = []
    if remote is None:
        remote = headers_context(call.trace_headers)
    trace_id = None
    if remote is None:
        run_id = _failed_run(call) or call.run_id
        trace_id = derived_trace_id("run", run_id)
        if current.is_valid and current.trace_id != trace_id:
            links.append(Link(current))
        context = trace.set_span_in_context(trace.INVALID_SPAN, context)
        if assume_parent:
            context = with_remote_parent(_assumed_parent(run_id, trace_id, sampler))
    elif current.is_valid and current.trace_id == remote.trace_id:
        pass
    else:
        if current.is_valid:
            links.append(Link(current))
        context = with_remote_parent(remote)
    if call.memo_count == 0 and call.target is None:
        # Said once, by the first request, and not by all.
        links.extend(Link(producer) for producer in producers)
    if len(carriers) == 1:
        context = baggage_into(carriers[0], context)
    return Parentage(context, links, trace_id)


def _links_to_deferral(call: Call) -> list[Link]:
    """Return links to the span that deferred this run, for the run's first request.

    They are for deferrals of an app without this plugin: only the engine has a span of those.
    """
    by = call.deferred_by
    if by is None or by.traceparent is None or call.memo_count or call.target is not None:
        return []
    span = headers_context({"traceparent": by.traceparent})
    return [] if span is None else [Link(span)]


def _failed_run(call: Call) -> str | None:
    """Return the run whose failure this run handles."""
    if call.handler_kind != "on_failure":
        return None
    run_id = call.event.data.get("run_id")
    return run_id if isinstance(run_id, str) else None


def _assumed_parent(run_id: str, trace_id: int, sampler: Sampler | None) -> SpanContext:
    """Return an invented parent for a run whose trace id cannot be set in another way."""
    sampled = True
    if sampler is not None:
        result = sampler.should_sample(Context(), trace_id, "run", SpanKind.CONSUMER, {}, [])
        sampled = result.decision is Decision.RECORD_AND_SAMPLE
    return SpanContext(
        trace_id,
        derived_span_id("run", run_id),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT),
    )
