"""Tracer providers that export each span of a replayed function once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import (
    ReadableSpan,
    Span,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from inngest_plugins.core import ArgumentError, class_name
from inngest_plugins.otel.base.rewrite import context_of, without_messages
from inngest_plugins.otel.base.start_times import StartTimes
from inngest_plugins.otel.replay.ledger import current_ledger
from inngest_plugins.otel.replay.origins import Origin, SpanId, origin_of

P = TypeVar("P", bound=trace.TracerProvider)


class _Starting(threading.local):
    """The span that this thread is starting, as the sampler saw it.

    A tracer calls the sampler and directly after it the id generator. Only the sampler gets the
    span's name and context.
    """

    name: str = ""
    context: Context | None = None


class _Assigned(threading.local):
    """The ids for the next span of this thread.

    This is thread-local and not a context variable: no task switch comes in between, and a
    generator that the garbage collector closes meanwhile may start and end spans of its own.
    """

    ids: tuple[SpanId, int | None] | None = None


_assigned = _Assigned()


class AssignedIds:
    """While it is open, spans get these ids if their provider is replay-safe.

    Args:
        span_id: the span's id.
        trace_id: the id of its trace, should it have no parent.
    """

    __slots__ = ("_before", "_ids")

    def __init__(self, span_id: SpanId, trace_id: int | None = None) -> None:
        self._ids = span_id, trace_id

    def __enter__(self) -> None:
        self._before, _assigned.ids = _assigned.ids, self._ids

    def __exit__(self, *_: object) -> None:
        _assigned.ids = self._before


class ReplaySafeIdGenerator(IdGenerator):
    """Gives spans of a run ids that are the same in every request of the run.

    Outside of runs, ids come from the generator it wraps.

    Args:
        inner: the generator to wrap; random ids by default.
    """

    def __init__(self, inner: IdGenerator | None = None) -> None:
        self._inner = inner or RandomIdGenerator()
        self._starting = _Starting()

    def generate_span_id(self) -> int:
        """Return the id for the span that is being started."""
        starting = self._starting
        name, context = starting.name, starting.context
        starting.name, starting.context = "", None
        assigned = _assigned.ids
        if assigned is not None:
            return assigned[0]
        current = current_ledger()
        if current is None:
            return self._inner.generate_span_id()
        ledger, step = current
        parent = trace.get_current_span(context).get_span_context()
        return ledger.next_span_id(name, int(parent.span_id), step=step)

    def generate_trace_id(self) -> int:
        """Return the id for the trace that is being started."""
        assigned = _assigned.ids
        if assigned is not None and assigned[1] is not None:
            return assigned[1]
        current = current_ledger()
        if current is None or current[1] is not None:
            return self._inner.generate_trace_id()
        return current[0].next_trace_id()

    def is_trace_id_random(self) -> bool:
        """Return what the wrapped generator returns; derived ids are spread as evenly."""
        # Absent before opentelemetry-sdk 1.37.
        tell = getattr(self._inner, "is_trace_id_random", None)
        return tell is not None and bool(tell())

    def sampler(self, inner: Sampler) -> Sampler:
        """Return a sampler that decides like `inner`, and passes the span's name to this generator.

        Without it, ids are derived from the order of the spans alone, so that a span which is there
        in one request and not in the next shifts the ids of its siblings.
        """
        return _NameTellingSampler(inner, self._starting)


class _NameTellingSampler(Sampler):
    def __init__(self, inner: Sampler, starting: _Starting) -> None:
        self.inner = inner
        self._starting = starting

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self._starting.name = name
        self._starting.context = parent_context
        if trace_state is not None:
            return self.inner.should_sample(
                parent_context, trace_id, name, kind, attributes, links, trace_state
            )
        return self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return self.inner.get_description()


class ReplaySafeSpanProcessor(SpanProcessor):
    """Holds back the spans of replayed code, and passes on all others.

    A span of a run's body is passed on when its request ends, and only by the request in which its
    end was new code. Spans of steps and of code outside of runs are passed on when they end.

    Args:
        inner: the processor that exports, or a `SynchronousMultiSpanProcessor` of several. It sees
            `on_start` of every span, also of those whose `on_end` it will not see.

    Raises:
        ArgumentError: the inner processor is none.
    """

    def __init__(self, inner: SpanProcessor) -> None:
        given: object = inner
        if not callable(getattr(given, "on_end", None)):
            raise ArgumentError(
                f"ReplaySafeSpanProcessor takes a span processor, not {class_name(given)}"
            )
        self._inner = inner
        self._forward = inner.on_end
        # Experimental in OpenTelemetry, so processors may lack it.
        self._ending: Any = getattr(inner, "_on_ending", None)
        self.starts = StartTimes()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass the start on to the inner processor."""
        self._inner.on_start(span, parent_context=parent_context)

    def _on_ending(self, span: Span) -> None:
        if self._ending is not None:
            self._ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass the span on now, at the end of its request, or never."""
        origin = origin_of(context_of(span).span_id)
        if isinstance(origin, Origin):
            origin.ledger.ended(span, origin, self.starts, self._forward)
        elif origin is None or origin.keep_messages:
            self._forward(span)
        else:
            self._forward(without_messages(span))

    def shutdown(self) -> None:
        """Shut the inner processor down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner processor; spans of requests that still run are not there yet."""
        return self._inner.force_flush(timeout_millis)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor behind this one; what `TracerProvider.add_span_processor` calls.

        Raises:
            ArgumentError: the inner processor takes no further ones.
        """
        add = getattr(self._inner, "add_span_processor", None)
        if add is None:
            raise ArgumentError(
                f"{type(self._inner).__name__} takes no further processors: wrap a "
                "SynchronousMultiSpanProcessor to add some later"
            )
        add(span_processor)


def replay_safe_provider(**kwargs: Any) -> TracerProvider:
    """Return a tracer provider for an app that has none yet.

    Args:
        **kwargs: what `opentelemetry.sdk.trace.TracerProvider` takes.

    Example:
        ```python
        provider = replay_safe_provider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        ```
    """
    generator = ReplaySafeIdGenerator(kwargs.pop("id_generator", None))
    inner = kwargs.pop("active_span_processor", None) or _several()
    provider = TracerProvider(
        **kwargs,
        id_generator=generator,
        # The declared type names two concrete classes, of which only this interface is used.
        active_span_processor=ReplaySafeSpanProcessor(inner),  # type: ignore[arg-type]
    )
    provider.sampler = generator.sampler(provider.sampler)
    return provider


_PROCESSOR: Final = "_active_span_processor"
_TRACERS: Final = "_tracers"


def _several() -> SpanProcessor:
    make: Any = SynchronousMultiSpanProcessor  # its constructor has no annotations
    processor: SpanProcessor = make()
    return processor


def make_replay_safe(provider: P) -> P:
    """Make an existing tracer provider replay-safe, and return it.

    Replaces its sampler, id generator and span processor by ones that wrap them, also in the
    tracers that it has handed out, so that instrumentation set up earlier is covered too. Doing it
    again changes nothing.

    A span processor alone is not enough: when a span ends, its children and other services have had
    its id for long, so the id must be the same in every request from the start.

    Args:
        provider: a `TracerProvider` of `opentelemetry-sdk`, such as the one that
            `opentelemetry-instrument` has set, or one that wraps it, as Logfire's does.

    Raises:
        ArgumentError: it is neither, or no provider was set yet.
    """
    if isinstance(provider, trace.ProxyTracerProvider):
        raise ArgumentError(
            "make_replay_safe was called before a tracer provider was set: call "
            "trace.set_tracer_provider(...) first, or set replay_safe_provider()"
        )
    found = sdk_providers(provider)
    if not found:
        raise ArgumentError(
            f"make_replay_safe needs a TracerProvider of opentelemetry-sdk, or one that wraps it, "
            f"and got {type(provider).__module__}.{type(provider).__qualname__}, which makes its "
            "spans by itself: build one with replay_safe_provider(), add an exporter to your "
            "backend (Datadog's Agent takes OTLP), give it to "
            "OpenTelemetryPlugin(tracer_provider=...) and take your own tracers from it"
        )
    for wrapped in found:
        _make_sdk_provider_safe(wrapped)
    return provider


def _make_sdk_provider_safe(provider: TracerProvider) -> None:
    if _is_safe(provider):
        return
    generator = ReplaySafeIdGenerator(provider.id_generator)
    guard = ReplaySafeSpanProcessor(getattr(provider, _PROCESSOR))
    # Declared as what the SDK's own constructor makes by default.
    provider.id_generator = generator  # type: ignore[assignment]
    provider.sampler = generator.sampler(provider.sampler)
    setattr(provider, _PROCESSOR, guard)
    for tracer in _tracers_of(provider):
        tracer.id_generator = generator
        tracer.sampler = provider.sampler
        tracer.span_processor = guard


def sdk_providers(provider: object) -> list[TracerProvider]:
    """Return the SDK's providers that a provider is or wraps, however often it is wrapped."""
    found: list[TracerProvider] = []
    seen: set[int] = set()
    pending: list[object] = [provider]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, TracerProvider):
            found.append(current)
        elif isinstance(current, trace.TracerProvider):
            held: dict[str, object] = getattr(current, "__dict__", {})
            pending += [value for value in held.values() if isinstance(value, trace.TracerProvider)]
    return found


def is_replay_safe(provider: object) -> bool:
    """Return whether spans of this provider come with their origin."""
    if isinstance(provider, TracerProvider):
        return _is_safe(provider)
    found = sdk_providers(provider)
    return bool(found) and all(map(_is_safe, found))


def sampler_of(provider: object) -> Sampler | None:
    """Return what decides whether a provider's traces are sampled, None if that is not known."""
    found = sdk_providers(provider)
    return found[0].sampler if found else None


def _is_safe(provider: TracerProvider) -> bool:
    return isinstance(provider.id_generator, ReplaySafeIdGenerator)


def _tracers_of(provider: TracerProvider) -> list[Any]:
    """Return the tracers that the provider has given out. Older SDKs keep no list of them."""
    return list(getattr(provider, _TRACERS, {}).values())
