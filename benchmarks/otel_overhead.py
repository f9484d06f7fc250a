"""What the OpenTelemetry plugin costs: nothing configured, a request, and a span of user code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
from figures import figure
from harness import Variant, hashed, measure, request_body, requester, table
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind

from inngest_plugins.core import Call, CallKey, Plugin, Step
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

SPANS = 200
ROUNDS = 60


class Nothing(Plugin):
    """Overrides no hook: what the core costs by itself."""


class Unkept(SpanExporter):
    """Takes spans and lets them go."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


OPEN: CallKey[tuple[Span, Any, float]] = CallKey("bench.open")


class ByHand(Plugin):
    """The telemetry that the plugin makes of a request with one new step, made by hand.

    As many spans, measurements and attributes, and nothing that makes them safe under replays:
    what is left is the price of OpenTelemetry itself.
    """

    def __init__(self, provider: TracerProvider, meters: MeterProvider) -> None:
        self.tracer = provider.get_tracer("bench")
        meter = meters.get_meter("bench")
        bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]
        self.common = {"app": "bench", "function": "bench-fn", "handler": "main"}
        outcome, direction = {"outcome": "completed"}, {"direction": "output"}
        of_steps = {"op": "StepRun", "outcome": "completed"}
        nothing: dict[str, str] = {}
        labels = (nothing, outcome, direction, of_steps, of_steps, direction)
        self.measured = [
            (
                meter.create_histogram(f"h{n}", explicit_bucket_boundaries_advisory=bounds),
                {**self.common, **attributes},
            )
            for n, attributes in enumerate(labels)
        ]

    def transform_input(self, call: Call) -> None:
        span = self.tracer.start_span(
            "run",
            kind=SpanKind.CONSUMER,
            attributes={
                **{f"constant.{n}": "some value" for n in range(7)},
                **self.common,
                "event": call.event.name,
                "message": "01",
                "run": call.run_id,
                "invocation": call.run_id,
                "trigger": "pubsub",
                "attempt": call.attempt,
                "memos": call.memo_count,
            },
        )
        token = context_api.attach(trace.set_span_in_context(span))
        call[OPEN] = span, token, time.perf_counter()

    def after_memoization(self, call: Call) -> None:
        if call.memo_count:
            self.tracer.start_span("memoization", start_time=time.time_ns()).end()

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        attributes: dict[str, str | int] = {
            "run": call.run_id,
            "function": call.function_id,
            "id": step.id,
            "hash": step.hashed_id,
            "op": step.op,
            "attempt": call.attempt,
        }
        with self.tracer.start_as_current_span(f"step {step.id}", attributes=attributes) as span:
            yield
            span.set_attribute("outcome", "completed")

    def before_response(self, call: Call) -> None:
        span, token, started = call[OPEN]
        taken = time.perf_counter() - started
        # The last one is the size of the event data, which only a run's first request measures.
        for histogram, attributes in self.measured[: 5 if call.memo_count else 6]:
            histogram.record(taken, attributes)
        span.set_attribute("outcome", "completed")
        span.end()
        context_api.detach(token)


def everything_recorded() -> None:
    """Compare a request that is traced and measured to the same telemetry made by hand."""
    base = "a plugin that overrides nothing"
    for memos in (0, 50):

        def recorded(make: Callable[..., TracerProvider]) -> tuple[TracerProvider, MeterProvider]:
            provider = make(shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(Unkept()))
            return provider, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)

        safe, meters = recorded(replay_safe_provider)
        plugin = OpenTelemetryPlugin(tracer_provider=safe, meter_provider=meters)
        plugins: dict[str, list[Plugin]] = {
            base: [Nothing()],
            "the same telemetry by hand": [ByHand(*recorded(TracerProvider))],
            "OpenTelemetryPlugin": [plugin],
        }
        variants = [Variant(name, requester(given, memos)) for name, given in plugins.items()]
        medians = measure(variants, rounds=100, calls=20)
        table(f"one request, {memos} memos, traced and measured in memory", medians, base=base)
        added = {name: seconds - medians[base] for name, seconds in medians.items()}
        ratio = added["OpenTelemetryPlugin"] / added["the same telemetry by hand"]
        print(f"  what the plugin adds / what telemetry by hand adds: x{ratio:.3f}")
        what = f"{memos} memoized steps: what the plugin adds / the same telemetry by hand"
        figure(what, ratio, at_most=1.15)


def served(middleware: list[Any], memos: int) -> Callable[[], Awaitable[Any]]:
    """Return a callable that sends one request through FastAPI, as the engine does."""
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=middleware)

    async def value() -> dict[str, int]:
        return {"n": 1}

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="bench/event"))
    async def function(ctx: inngest.Context) -> None:
        for number in range(memos + 1):
            await ctx.step.run(f"s{number}", value)

    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, [function])
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")
    body = request_body(memos)

    async def call() -> Any:
        response = await http.post("/api/inngest?fnId=bench-fn&stepId=step", content=body)
        assert response.status_code == httpx.codes.PARTIAL_CONTENT, response.text

    return call


def nothing_configured() -> None:
    """Compare a request with the plugin, and no provider, to one without."""
    for memos in (0, 20, 500):
        base = "a plugin that overrides nothing"
        for how, make in (("through FastAPI", served), ("no web framework", requester)):
            medians = measure(
                [
                    Variant(base, make([Nothing()], memos)),
                    Variant(
                        "OpenTelemetryPlugin, no provider", make([OpenTelemetryPlugin()], memos)
                    ),
                ],
                rounds=150 if memos < 100 else 30,
                calls=8,
            )
            table(f"one request, {memos} memos, {how}", medians, base=base)


def seconds_per_span(where: str, *, safe: bool) -> Callable[[], Awaitable[float]]:
    """Return a callable that makes spans in a run, and returns how long one took.

    What is timed is making the spans and all of the rest of the request, minus a request without
    spans, so that work put off to the end of the request counts.
    """
    exporter = InMemorySpanExporter()
    provider = replay_safe_provider() if safe else TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    # By hand: the same plugin around the run, and the spans from a provider that it knows not of.
    plugin = OpenTelemetryPlugin(tracer_provider=provider if safe else replay_safe_provider())
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=[plugin])
    count = SPANS

    def spans() -> None:
        for number in range(count):
            with tracer.start_as_current_span("work", attributes={"number": number}):
                pass

    async def step() -> None:
        if where == "step":
            spans()

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="bench/event"))
    async def function(ctx: inngest.Context) -> None:
        if where == "body":
            spans()
        await ctx.step.run("s0", step)

    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, [function])
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")
    body = request_body(0)

    async def once(wanted: int) -> float:
        nonlocal count
        count = wanted
        exporter.clear()
        started = time.perf_counter()
        await http.post("/api/inngest?fnId=bench-fn&stepId=step", content=body)
        taken = time.perf_counter() - started
        made = [s for s in exporter.get_finished_spans() if s.name == "work"]
        assert len(made) == wanted
        return taken

    async def call() -> float:
        empty = await once(0)
        return (await once(SPANS) - empty) / SPANS

    return call


async def recording() -> None:
    """Compare spans made under the plugin to the same spans made by hand."""
    for where in ("step", "body"):
        ways = {
            "by hand": seconds_per_span(where, safe=False),
            "replay-safe": seconds_per_span(where, safe=True),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, call in ways.items():
                gc.collect()
                gc.disable()
                times[name].append(await call())
                gc.enable()
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        table(f"one span in a {where}, in-memory exporter", medians, base="by hand")
        ratio = medians["replay-safe"] / medians["by hand"]
        figure(f"a span in a {where}: replay-safe / plain", ratio)


async def replays() -> None:
    """Count the spans that a run of twenty steps exports, and what the run takes."""
    from inngest_plugins.local import LocalEngine

    for safe in (False, True):
        exporter = InMemorySpanExporter()
        provider = replay_safe_provider() if safe else TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("bench")
        client = inngest.Inngest(
            app_id="bench",
            is_production=False,
            middleware=[OpenTelemetryPlugin(tracer_provider=provider)] if safe else [],
        )

        async def step(tracer: Any = tracer) -> None:
            with tracer.start_as_current_span("inside"):
                pass

        @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="bench/event"))
        async def function(ctx: inngest.Context, tracer: Any = tracer, step: Any = step) -> None:
            with tracer.start_as_current_span("whole"):
                with tracer.start_as_current_span("first"):
                    pass
                for number in range(20):
                    with tracer.start_as_current_span("around"):
                        await ctx.step.run(f"s{number}", step)
                    with tracer.start_as_current_span("between"):
                        pass
                with tracer.start_as_current_span("last"):
                    pass

        async with LocalEngine(client, [function]) as engine:
            await engine.run(inngest.Event(name="bench/event"))
        made = [
            span
            for span in exporter.get_finished_spans()
            if span.instrumentation_scope is not None and span.instrumentation_scope.name == "bench"
        ]
        who = "with the plugin" if safe else "bare SDK"
        print(f"  {who:<44} {len(made):>6} spans of user code for 63, 20 steps")
        if safe:
            figure("a run of 20 steps: spans of 63", len(made), "spans", at_most=63)


def main() -> None:
    """Print the tables."""
    assert hashed("s0")
    print("\nspans exported by one run of 20 steps")
    asyncio.run(replays())
    asyncio.run(recording())
    everything_recorded()
    nothing_configured()


if __name__ == "__main__":
    main()
