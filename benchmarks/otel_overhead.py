"""What the OpenTelemetry plugin costs: nothing configured, and by span when spans are recorded."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
from harness import Variant, hashed, measure, request_body, requester, table
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inngest_plugins.core import Plugin
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

SPANS = 200
ROUNDS = 60


class Nothing(Plugin):
    """Overrides no hook: what the core costs by itself."""


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


def main() -> None:
    """Print the tables."""
    assert hashed("s0")
    print("\nspans exported by one run of 20 steps")
    asyncio.run(replays())
    asyncio.run(recording())
    nothing_configured()


if __name__ == "__main__":
    main()
