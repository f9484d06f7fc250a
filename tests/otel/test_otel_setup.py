"""Setting up: providers that exist, pieces by hand, workers that share nothing, no provider."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from tests.otel.test_otel_traces import RUN_ID, body, post

from inngest_plugins.core import Stack
from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import (
    OpenTelemetryPlugin,
    ReplaySafeIdGenerator,
    ReplaySafeSpanProcessor,
    make_replay_safe,
    replay_safe_provider,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Tracer

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
HASH_A = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"
HASH_B = "e9d71f5ee7c92d6dc9e92ffdad17b8bd49418f98"
TRACEPARENT = {"traceparent": "00-a7807b3b92947c3de9b6ca8fa2e35b4b-fc0fa718ec43c866-01"}


async def done() -> str:
    """A step's handler."""
    return "done"


def app(
    provider: trace.TracerProvider, tracer: Tracer | None = None
) -> tuple[inngest.Inngest, inngest.Function[Any]]:
    """An app on a provider, with a span around two steps and others in between."""
    own = tracer or provider.get_tracer("user")
    client = inngest.Inngest(
        app_id="shop",
        is_production=False,
        middleware=[OpenTelemetryPlugin(tracer_provider=provider)],
    )

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        with own.start_as_current_span("whole"):
            with own.start_as_current_span("before"):
                pass
            await ctx.step.run("a", done)
            with own.start_as_current_span("late"):
                await ctx.step.run("b", done)

    return client, function


async def run(client: inngest.Inngest, function: inngest.Function[Any]) -> None:
    """Run a function on the embedded engine."""
    async with LocalEngine(client, [function]) as engine:
        assert (await engine.run(inngest.Event(name="shop/order"))).status == "Completed"


def user_spans(exporter: InMemorySpanExporter) -> list[str]:
    """Names of the exported spans of user code."""
    return sorted(
        s.name for s in exporter.get_finished_spans() if s.name in {"whole", "before", "late"}
    )


async def test_an_existing_provider_is_made_safe_with_what_it_handed_out() -> None:
    """Tracers, processors and samplers from before and after the one line are covered."""
    before, after = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(before))
    tracer = provider.get_tracer("instrumentation")

    assert make_replay_safe(provider) is provider
    provider.add_span_processor(SimpleSpanProcessor(after))
    keeps_list = hasattr(provider, "_tracers")  # newer SDKs only
    client, function = app(provider, tracer if keeps_list else None)
    await run(client, function)

    assert user_spans(before) == user_spans(after) == ["before", "late", "whole"]
    ids = [s.context.span_id for s in before.get_finished_spans() if s.context is not None]
    assert len(ids) == len(set(ids))
    generator, sampler = provider.id_generator, provider.sampler
    make_replay_safe(provider)
    assert provider.id_generator is generator
    assert provider.sampler is sampler
    assert "ParentBased" in sampler.get_description()
    assert provider.force_flush()
    provider.shutdown()


async def test_a_provider_is_built_safe_by_hand() -> None:
    """For other kinds of providers the two pieces do, each processor wrapped by itself."""
    first, second = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(id_generator=ReplaySafeIdGenerator(), shutdown_on_exit=False)
    for exporter in (first, second):
        provider.add_span_processor(ReplaySafeSpanProcessor(SimpleSpanProcessor(exporter)))
    client, function = app(provider)
    await run(client, function)

    assert user_spans(first) == user_spans(second) == ["before", "late", "whole"]
    assert provider.force_flush()
    provider.shutdown()


async def test_a_new_provider_takes_what_the_sdks_does() -> None:
    """Samplers, id generators and processors given to `replay_safe_provider` are used."""

    class Counting(IdGenerator):
        def __init__(self) -> None:
            self.count = 0

        def generate_span_id(self) -> int:
            self.count += 1
            return self.count

        def generate_trace_id(self) -> int:
            return 77

    exporter = InMemorySpanExporter()
    several: Any = SynchronousMultiSpanProcessor
    processor = several()
    processor.add_span_processor(SimpleSpanProcessor(exporter))
    provider = replay_safe_provider(
        id_generator=Counting(), active_span_processor=processor, shutdown_on_exit=False
    )

    with provider.get_tracer("user").start_as_current_span("outside"):
        pass

    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id) == (77, 1)
    provider.shutdown()

    dropping = replay_safe_provider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    dropping.add_span_processor(SimpleSpanProcessor(exporter))
    exporter.clear()
    client, function = app(dropping)
    await post(client, function, {})
    assert not exporter.get_finished_spans()
    dropping.shutdown()


async def test_processors_may_add_attributes_when_a_span_starts() -> None:
    """An inner processor sees every start with its context, and its attributes are exported."""

    class Naming(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            span.set_attribute("named", span.name)

    exporter = InMemorySpanExporter()
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(Naming())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client, function = app(provider)
    await run(client, function)

    for span in exporter.get_finished_spans():
        assert (span.attributes or {})["named"] == span.name
    provider.shutdown()


class Wrapping(trace.TracerProvider):
    """A provider in front of another one that may be replaced, as Logfire's is."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self.provider = provider
        self.owner = self

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return self.provider.get_tracer(*args, **kwargs)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_provider_that_wraps_the_sdks_is_made_safe(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is wrapped, the provider that makes the spans is the one that counts."""
    exporter = InMemorySpanExporter()
    inner = TracerProvider(shutdown_on_exit=False)
    inner.add_span_processor(SimpleSpanProcessor(exporter))
    provider: trace.TracerProvider = inner
    for _ in range(times):
        provider = Wrapping(provider)
    plugin = OpenTelemetryPlugin(tracer_provider=provider)
    (finding,) = plugin.diagnose(Stack(plugin))
    assert "make_replay_safe" in finding

    assert make_replay_safe(provider) is provider
    assert make_replay_safe(provider) is provider
    assert not list(plugin.diagnose(Stack(plugin)))
    client, function = app(provider)
    await run(client, function)

    assert user_spans(exporter) == ["before", "late", "whole"]
    ids = [s.context.span_id for s in exporter.get_finished_spans() if s.context is not None]
    assert len(ids) == len(set(ids))
    assert "replay-safe" not in caplog.text
    inner.shutdown()


async def test_a_wrapped_provider_that_is_not_safe_keeps_its_sampling() -> None:
    """The sampler of the provider within decides, as without a wrapper."""
    exporter = InMemorySpanExporter()
    inner = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    inner.add_span_processor(SimpleSpanProcessor(exporter))
    client, function = app(Wrapping(inner))

    await post(client, function, {})

    assert not exporter.get_finished_spans()
    inner.shutdown()


def test_other_kinds_of_providers_are_refused_with_advice() -> None:
    """What cannot be made safe says so, and how to build it."""
    other: Any = trace.NoOpTracerProvider()
    with pytest.raises(TypeError, match="NoOpTracerProvider, which makes its spans by itself"):
        make_replay_safe(other)
    with pytest.raises(TypeError, match="before a tracer provider was set"):
        make_replay_safe(trace.ProxyTracerProvider())
    with pytest.raises(TypeError, match="SynchronousMultiSpanProcessor"):
        ReplaySafeSpanProcessor(SpanProcessor()).add_span_processor(SpanProcessor())


async def test_a_provider_that_is_not_safe_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The plugin's own spans are right with any provider, and a warning names the missing line."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client, function = app(provider)

    with caplog.at_level(logging.WARNING):
        await run(client, function)
        await post(client, function, {})
        await post(client, function, {})

    warnings = [r for r in caplog.records if "make_replay_safe" in r.getMessage()]
    assert len(warnings) == 1
    spans = exporter.get_finished_spans()
    steps = [span for span in spans if span.name in {"step a", "step b"}]
    assert len(steps) == 4
    # Without a traceparent and a way to set ids, a made-up parent keeps the run in one trace.
    posted = [span for span in spans if span.name == "run shop-f"][-2:]
    assert {s.context.trace_id for s in posted if s.context} == {
        posted[0].parent.trace_id if posted[0].parent else 0
    }
    assert all(span.parent is not None and span.parent.is_remote for span in posted)
    provider.shutdown()


async def test_an_unsafe_provider_keeps_its_sampling_of_runs() -> None:
    """A made-up parent is sampled as the provider's own sampler would have decided."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client, function = app(provider)

    await post(client, function, {})

    assert not exporter.get_finished_spans()
    provider.shutdown()


@pytest.mark.parametrize("workers", [(0, 1, 2), (0, 1, 1)])
async def test_workers_that_share_nothing_make_one_tree(workers: tuple[int, ...]) -> None:
    """Each request on some worker: ids agree, nothing is missing, nothing comes twice."""
    exporter = InMemorySpanExporter()
    providers = [replay_safe_provider(shutdown_on_exit=False) for _ in range(3)]
    for provider in providers:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    memos: dict[str, Any] = {}
    for done_steps, worker in zip(([], [HASH_A], [HASH_A, HASH_B]), workers, strict=True):
        provider = providers[worker]
        client, function = app(provider)
        memos.update({hashed: {"data": "done"} for hashed in done_steps})
        sent = body(stack={"stack": done_steps, "current": len(done_steps)})
        response = await post(client, function, TRACEPARENT, {**sent, "steps": dict(memos)})
        assert response.status_code in {200, 206}

    spans = exporter.get_finished_spans()
    for provider in providers:
        provider.shutdown()
    by_name = {span.name: span for span in spans}
    ids = [span.context.span_id for span in spans if span.context is not None]
    assert len(ids) == len(set(ids)) == 10
    assert parents(spans, "step a", "before", "late") == ["whole"] * 3
    assert parents(spans, "step b") == ["late"]
    # A worker that did not see the start says so: the run's start is the best guess for one span.
    whole, late = by_name["whole"], by_name["late"]
    assert (whole.attributes or {})["inngest.start_estimated"] is True
    assert (late.attributes or {}).get("inngest.start_estimated", False) is (workers[2] == 2)
    assert whole.start_time is not None
    assert late.start_time is not None
    assert whole.start_time < late.start_time


def parents(spans: Sequence[ReadableSpan], *names: str) -> list[str]:
    """Names of the parents of the spans with these names."""
    by_id = {span.context.span_id: span.name for span in spans if span.context is not None}
    return [by_id[s.parent.span_id] for s in spans if s.name in names and s.parent is not None]


def test_doctor_is_told_of_a_provider_that_is_not_safe() -> None:
    """`diagnose` finds what the warning says, before anything runs."""
    unsafe = OpenTelemetryPlugin(tracer_provider=TracerProvider(shutdown_on_exit=False))
    safe = OpenTelemetryPlugin(tracer_provider=replay_safe_provider(shutdown_on_exit=False))
    nothing = OpenTelemetryPlugin()

    (finding,) = unsafe.diagnose(Stack(unsafe))
    assert "make_replay_safe" in finding
    assert not list(safe.diagnose(Stack(safe)))
    (finding,) = nothing.diagnose(Stack(nothing))
    assert "no tracer provider" in finding


async def test_without_a_provider_the_plugin_does_nothing() -> None:
    """With the API's own no-op providers there are no spans, and no context is attached."""
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[OpenTelemetryPlugin()])

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> bool:
        await ctx.step.send_event("tell", inngest.Event(name="shop/told"))
        await ctx.step.invoke("call", function=other)
        return trace.get_current_span() is trace.INVALID_SPAN

    @client.create_function(fn_id="g", trigger=inngest.TriggerEvent(event="shop/call"))
    async def other(ctx: inngest.Context) -> list[str]:
        return sorted(ctx.event.data)

    async with LocalEngine(client, [function, other]) as engine:
        run = await engine.run(inngest.Event(name="shop/order"))
        assert run.output is True
        assert run.events_sent[0]["data"] == {}
        (invoked,) = [found for found in engine.runs if found.function_id == "shop-g"]
        assert invoked.output == ["_inngest"]


async def test_the_global_providers_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin follows the global provider, also one that is set after the plugin was made."""
    plugin = OpenTelemetryPlugin()
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[plugin])

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        return None

    exporter = InMemorySpanExporter()
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await post(client, function, TRACEPARENT)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    await post(client, function, TRACEPARENT)

    # New releases of FastAPI make spans with the global provider; the run hangs from them.
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert [span.name for span in exporter.get_finished_spans()].count("run shop-f") == 1
    parent = spans["run shop-f"].parent
    endpoint = spans.get("fastapi.endpoint")
    above = TRACEPARENT["traceparent"].split("-")[2]
    if endpoint is not None:
        context = endpoint.get_span_context()
        assert context is not None
        above = trace.format_span_id(context.span_id)
    assert parent is not None
    assert trace.format_span_id(parent.span_id) == above
    provider.shutdown()


async def test_span_ids_survive_being_copied_to_another_process() -> None:
    """A span context can be pickled: the id arrives as the plain number it is."""
    exporter = InMemorySpanExporter()
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client, function = app(provider)
    await post(client, function, TRACEPARENT)

    (step,) = [span for span in exporter.get_finished_spans() if span.name == "step a"]
    assert step.context is not None
    copy = pickle.loads(pickle.dumps(step.context.span_id))
    assert type(copy) is int
    assert copy == step.context.span_id
    provider.shutdown()


def test_generated_ids_tell_whether_they_are_random() -> None:
    """The generator says of trace ids what the one that it wraps says."""

    class Old(RandomIdGenerator):
        is_trace_id_random = None  # type: ignore[assignment]

    inner = RandomIdGenerator()
    says = hasattr(inner, "is_trace_id_random")  # newer SDKs only
    assert ReplaySafeIdGenerator(inner).is_trace_id_random() is says
    assert ReplaySafeIdGenerator(Old()).is_trace_id_random() is False


def test_run_ids_are_read_as_times() -> None:
    """The time of a ULID is its first ten characters; anything else has none."""
    from inngest_plugins.otel.base.start_times import started_ns

    assert started_ns("01ARZ3NDEKTSV4RRFFQ69G5FAV") == 1469922850259 * 1_000_000
    assert started_ns(RUN_ID) is not None
    assert started_ns("short") is None
    assert started_ns("U" * 26) is None
