"""One life of a worker with all plugins, killed and started again by its test.

Run as a script: `composition_worker.py DIRECTORY RUNS`. Keys come from a file, runs go to a
journal, and every step that runs is noted in a log. Prints what the runs came to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import inngest
import sentry_sdk
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.composition.composition_secrets import secret
from tests.composition.composition_uses import MODEL, PRICE, make_judge, use_in_body, use_in_step

from inngest_plugins.ai import AIPlugin
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.defer import DeferPlugin
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine, VirtualClock
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

SCHEMA = {"type": "object", "required": ["number", "encrypted"]}


async def live(directory: Path, runs: int) -> None:
    """Start the runs (their events have ids, so they start once), and finish them."""
    # Those that enable themselves import every library of theirs that is installed, for seconds.
    sentry_sdk.init(auto_enabling_integrations=False)
    keys = KeyRing.from_file(directory / "keys")
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    encryption = EncryptionPlugin(keys)
    client = inngest.Inngest(
        app_id="crash",
        is_production=False,
        middleware=[
            MetadataPlugin(),
            AIPlugin(prices={MODEL: PRICE}),
            DeferPlugin(),
            CheckpointPlugin(),
            ValidationPlugin(events={"crash/work": SCHEMA}),
            encryption,
            OpenTelemetryPlugin(tracer_provider=provider),
            SentryPlugin(),
        ],
    )

    judge = make_judge(client, is_async=True)
    assert judge.function is not None

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="crash/work"))
    async def work(ctx: inngest.Context) -> list[Any]:
        number = ctx.event.data["number"]

        async def noted(name: str) -> str:
            use_in_step(name)
            with (directory / "log").open("a") as log:
                log.write(f"{ctx.run_id} {name}\n")
            await asyncio.sleep(0.005)
            return f"{name} {number} {secret(name)}"

        use_in_body(judge, str(number))
        first = await ctx.step.run("first", noted, "first")
        await ctx.step.sleep("nap", 60_000)
        second, third = await ctx.group.parallel(
            (
                lambda: ctx.step.run("second", noted, "second"),
                lambda: ctx.step.run("third", noted, "third"),
            )
        )
        last = await ctx.step.run("last", noted, "last")
        return [first, second, third, last, metadata.get("steps")]

    events: list[inngest.Event] = [
        inngest.Event(
            name="crash/work", id=f"event-{n}", data={"number": n, "encrypted": secret("event")}
        )
        for n in range(runs)
    ]
    engine = LocalEngine(client, [work, judge.function], directory / "journal", VirtualClock(0))
    async with engine:
        await engine.send(events)
        await engine.settle()
        ended = [run for run in engine.runs if run.function_id == "crash-work"]
        outputs = sorted(encryption.decrypt(run.output) for run in ended)
        stored = [run.metadata.get("run", {}) for run in ended]
        judged = [encryption.decrypt(run.output) for run in engine.deferred]
    print(json.dumps({"outputs": outputs, "metadata": stored, "judged": judged}))


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
