"""All five plugins at once, beside the bare SDK and beside the official middlewares.

One process, interleaved rounds, medians (see `harness.py`). Exporters and Sentry's transport are
in memory. For ours every memo is encrypted in its default format, for the official encryption in
its own; the bare SDK gets the same memos in the clear. Sentry is initialised for every variant,
so that its own share (breadcrumbs of the logging integration) is in all of them.

Run it with `python benchmarks/full_stack.py`; `--profile` prints where the time of ours goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
from collections.abc import Mapping
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
import sentry_sdk
from figures import figure
from harness import Variant, hashed, measure, request_body, requester, table
from inngest.experimental.sentry_middleware import SentryMiddleware
from inngest_encryption import EncryptionMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.metadata import MetadataPlugin
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

SECRET = "bench secret key of the official middleware"
EVENT_SCHEMA = {"type": "object", "properties": {"order": {"type": "integer"}}}


class MemoryTransport(Transport):
    """Takes envelopes and lets them go."""

    def capture_envelope(self, envelope: Envelope) -> None:
        del envelope


class MemoryExporter(SpanExporter):
    """Takes spans and lets them go."""

    def export(self, spans: Any) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def ours(key: Key) -> dict[str, Any]:
    """The five plugins, as an app would make them."""
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(MemoryExporter()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return {
        "sentry": SentryPlugin(),
        "otel": OpenTelemetryPlugin(tracer_provider=provider, meter_provider=meters),
        "encryption": EncryptionPlugin(KeyRing(key)),
        "validation": ValidationPlugin(events={"bench/event": EVENT_SCHEMA}),
        "metadata": MetadataPlugin(),
    }


def body_with(steps: Mapping[str, Any], memos: int) -> bytes:
    """Return a request whose memos are these."""
    body = json.loads(request_body(0, data={"order": 1}))
    body["steps"] = {hashed(f"s{n}"): steps[f"s{n}"] for n in range(memos)}
    return json.dumps(body).encode()


async def written_by(plugin: EncryptionPlugin, memos: int) -> dict[str, Any]:
    """Return memos as the plugin writes them: bound to their step, so each step has to run."""
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=[plugin])
    number = 0

    async def value() -> dict[str, int]:
        return {"n": number}

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="bench/event"))
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run(f"s{number}", value)

    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, [function])
    written: dict[str, Any] = {}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://bench"
    ) as http:
        for number in range(memos):
            answer = await http.post(
                "/api/inngest?fnId=bench-fn&stepId=step", content=request_body(0)
            )
            (op,) = answer.json()
            written[f"s{number}"] = {"data": op["data"]}
    return written


def written_by_official(memos: int) -> dict[str, Any]:
    """Return memos as the official middleware writes them."""
    client = inngest.Inngest(app_id="bench", is_production=False)
    official = EncryptionMiddleware(client, None, SECRET)
    return {f"s{n}": {"data": official._encrypt({"n": n})} for n in range(memos)}


def main(counts: list[int], rounds: int, *, profile: bool) -> None:
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=MemoryTransport(),
        auto_enabling_integrations=False,
    )
    key = Key.generate()
    most = max(counts)
    clear = {f"s{n}": {"data": {"n": n}} for n in range(most)}
    sealed = asyncio.run(written_by(EncryptionPlugin(KeyRing(key)), most))
    official = written_by_official(most)
    for memos in counts:
        plugins = ours(key)
        bodies = {"clear": clear, "sealed": sealed, "official": official}
        sent = {name: body_with(steps, memos) for name, steps in bodies.items()}
        everything = requester(list(plugins.values()), memos, body=sent["sealed"])
        if profile:
            profiled(everything, memos)
            continue
        variants = [
            Variant("bare SDK", requester([], memos, body=sent["clear"])),
            Variant(
                "official encryption + sentry",
                requester(
                    [SentryMiddleware, EncryptionMiddleware.factory(SECRET)],
                    memos,
                    body=sent["official"],
                ),
            ),
            Variant("all five plugins", everything),
            *(
                Variant(
                    f"  {name} alone",
                    requester(
                        [plugin], memos, body=sent["sealed" if name == "encryption" else "clear"]
                    ),
                )
                for name, plugin in ours(key).items()
            ),
        ]
        calls = 20 if memos < 100 else 3
        medians = measure(variants, rounds=rounds, calls=calls)
        table(f"one new step, {memos} memoized", medians, base="bare SDK")
        ratio = medians["all five plugins"] / medians["official encryption + sentry"]
        print(f"  all five / the official two: x{ratio:.3f}")
        bare = medians["all five plugins"] / medians["bare SDK"]
        aim = 1 if memos else 2.6
        figure(f"{memos} memoized steps: five plugins / bare SDK", bare, at_most=aim)
        figure(f"{memos} memoized steps: five plugins / the official two", ratio, at_most=1)


def profiled(request: Any, memos: int) -> None:
    """Print what costs most in requests with all five plugins."""

    async def many(count: int) -> None:
        for _ in range(count):
            await request()

    count = 3000 // (1 + memos // 10)
    asyncio.run(many(count))
    profiler = cProfile.Profile()
    profiler.enable()
    asyncio.run(many(count))
    profiler.disable()
    print(f"\n{count} requests with {memos} memos")
    stats = pstats.Stats(profiler)
    stats.sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memos", type=int, nargs="+", default=[0, 300, 1000])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--profile", action="store_true", help="print a profile instead")
    given = parser.parse_args()
    main(given.memos, given.rounds, profile=given.profile)
