"""Many concurrent runs of one app with all five plugins on the embedded engine.

Prints how long they took, how much memory the process grew by, and whether any result was wrong:
`python benchmarks/load.py --runs 1000`. `tests/composition` runs a smaller number.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inngest
import sentry_sdk
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from inngest_plugins.core import Hooks, StackEntry
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine, VirtualClock
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

EVENT = "load/order"
SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "integer"}, "encrypted": {"type": "string"}},
    "required": ["number", "encrypted"],
}


class Counted(Transport, SpanExporter):
    """Counts envelopes and spans, and lets them go."""

    def __init__(self) -> None:
        Transport.__init__(self, {})
        self.envelopes = self.spans = 0

    def capture_envelope(self, envelope: Envelope) -> None:
        del envelope
        self.envelopes += 1

    def export(self, spans: Any) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


@dataclass(frozen=True)
class Load:
    """What a load came to.

    Attributes:
        runs: how many runs of the main function ended.
        wrong: how many of them have another result than they must.
        requests: requests to the app, of those and of invoked runs.
        seconds: wall-clock time.
        grown: bytes by which the process grew, with the engine still holding all runs.
        left: bytes by which it is bigger when the engine is gone.
        spans: spans exported.
        envelopes: envelopes Sentry got.
    """

    runs: int
    wrong: int
    requests: int
    seconds: float
    grown: int
    left: int
    spans: int
    envelopes: int


def plugins(counted: Counted, key: Key) -> list[StackEntry]:
    """All five and a custom hook; nothing they export is kept."""
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(counted))
    return [
        SentryPlugin(),
        OpenTelemetryPlugin(
            tracer_provider=provider,
            meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        ),
        EncryptionPlugin(KeyRing(key)),
        ValidationPlugin(events={EVENT: SCHEMA}),
        MetadataPlugin(),
        Hooks("custom"),
    ]


def app(stack: list[StackEntry]) -> tuple[inngest.Inngest, list[inngest.Function[Any]]]:
    """A function like the demo's: steps, a failing one, a group, an invoke, a sleep."""
    client = inngest.Inngest(app_id="load", is_production=False, middleware=list(stack))

    @client.create_function(fn_id="half", trigger=inngest.TriggerEvent(event="load/half"))
    async def half(ctx: inngest.Context) -> int:
        number: Any = ctx.event.data["number"]
        return int(number) // 2

    @client.create_function(fn_id="order", trigger=inngest.TriggerEvent(event=EVENT), retries=2)
    async def order(ctx: inngest.Context) -> dict[str, Any]:
        number: Any = ctx.event.data["number"]
        secret: Any = ctx.event.data["encrypted"]

        async def priced() -> int:
            if number % 10 == 3 and ctx.attempt == 0:
                raise ConnectionError("the price list is away")
            metadata.set("number", number)
            return int(number) * 3

        async def length() -> int:
            return len(secret)

        async def shout() -> str:
            return str(secret).upper()

        price = await ctx.step.run("price", priced)
        await ctx.step.sleep("nap", 1000 * 60)
        left, right = await ctx.group.parallel(
            (lambda: ctx.step.run("length", length), lambda: ctx.step.run("shout", shout))
        )
        halved = await ctx.step.invoke("half", function=half, data={"number": number})
        return {"price": price, "length": left, "shout": right, "half": halved}

    return client, [order, half]


def expected(number: int) -> dict[str, Any]:
    """What the run of an order must return."""
    secret = f"secret-{number}"
    return {
        "price": number * 3,
        "length": len(secret),
        "shout": secret.upper(),
        "half": number // 2,
    }


def resident() -> int:
    """Bytes of memory that this process holds; where /proc is missing, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


@dataclass(frozen=True)
class App:
    """The app with its plugins, made once as a worker makes it."""

    counted: Counted
    key: Key
    client: inngest.Inngest
    functions: list[inngest.Function[Any]]


def start() -> App:
    """Initialise Sentry, and make the app."""
    counted, key = Counted(), Key.generate()
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=counted,
        traces_sample_rate=1.0,
        auto_enabling_integrations=False,
    )
    client, functions = app(plugins(counted, key))
    return App(counted, key, client, functions)


async def load(made: App, runs: int) -> Load:
    """Start so many runs at once, and wait for all."""
    counted = made.counted
    spans, envelopes = counted.spans, counted.envelopes
    gc.collect()
    before = resident()
    started = time.perf_counter()
    engine = LocalEngine(made.client, made.functions, clock=VirtualClock(0))
    async with engine:
        await engine.send(
            [
                inngest.Event(name=EVENT, data={"number": n, "encrypted": f"secret-{n}"})
                for n in range(runs)
            ]
        )
        await engine.settle(600)
    seconds = time.perf_counter() - started
    grown = resident() - before
    decrypt = EncryptionPlugin(KeyRing(made.key)).decrypt
    orders = [run for run in engine.runs if run.function_id == "load-order"]
    results = sorted(
        (decrypt(run.output) if run.status == "Completed" else {"price": -1} for run in orders),
        key=lambda result: result["price"],
    )
    wrong = sum(result != expected(n) for n, result in enumerate(results))
    wrong += abs(runs - len(results))
    requests = sum(len(run.requests) for run in engine.runs)
    ended = len(orders)
    del engine, orders, results
    gc.collect()
    left = resident() - before
    exported = counted.spans - spans, counted.envelopes - envelopes
    return Load(ended, wrong, requests, seconds, grown, left, *exported)


def main(runs: int) -> int:
    done = asyncio.run(load(start(), runs))
    mib = 2**20
    print(f"{done.runs} concurrent runs, {done.requests} requests, {done.wrong} wrong results")
    print(f"  {done.seconds:.1f} s, {done.requests / done.seconds:.0f} requests a second")
    print(
        f"  memory: +{done.grown / mib:.1f} MiB ({done.grown / done.runs / 1024:.0f} KiB a run, "
        f"all kept by the engine), +{done.left / mib:.1f} MiB when it is gone"
    )
    print(f"  exported: {done.spans} spans, {done.envelopes} envelopes")
    return bool(done.wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    sys.exit(main(parser.parse_args().runs))
