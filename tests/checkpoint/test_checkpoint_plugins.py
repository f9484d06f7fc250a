"""Checkpointing beside the other plugins: each step seen once, stored as they want it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import inngest
import pytest
import sentry_sdk
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.checkpoint.checkpoint_rig import play

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("buffer", [1, 5])
async def test_encryption(setting: str, buffer: int) -> None:
    """The engine gets ciphertext, the function what it returned."""

    async def body(ctx: Any) -> Any:
        first = await ctx.step.run("first", lambda: {"card": "4242-4242"})
        return [first, await ctx.step.run("second", lambda: (first["card"], 1.0))]

    encryption = EncryptionPlugin(KeyRing(Key.generate()))
    played = await play(setting, body, CheckpointPlugin(buffer=buffer), encryption)
    assert played.requests == 1
    assert encryption.decrypt(played.run.output) == [{"card": "4242-4242"}, ["4242-4242", 1]]
    assert "4242-4242" not in json.dumps([step.memo for step in played.run.steps.values()])


async def test_metadata_is_counted_once(setting: str) -> None:
    """What a step recorded in this request is there once, as after a replay."""

    async def body(ctx: Any) -> Any:
        def count() -> None:
            metadata.increment("count", 1)

        seen = []
        for number in range(4):
            await ctx.step.run(f"s{number}", count)
            seen.append(metadata.get("count"))
        return seen

    bare = await play(setting, body, MetadataPlugin())
    played = await play(setting, body, MetadataPlugin(), CheckpointPlugin())
    assert bare.run.output == [1, 2, 3, 4]
    assert played.run.output == bare.run.output
    assert played.run.metadata == bare.run.metadata
    assert played.requests == 1


async def test_spans_of_steps(setting: str) -> None:
    """One span for each step and one for the request."""

    async def body(ctx: Any) -> None:
        for number in range(3):
            await ctx.step.run(f"s{number}", lambda: 1)

    def names(exporter: InMemorySpanExporter) -> Counter[str]:
        return Counter(span.name for span in exporter.get_finished_spans())

    def plugin() -> tuple[OpenTelemetryPlugin, InMemorySpanExporter]:
        exporter = InMemorySpanExporter()
        provider = replay_safe_provider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return OpenTelemetryPlugin(tracer_provider=provider), exporter

    bare_plugin, bare = plugin()
    await play(setting, body, bare_plugin)
    checkpointed_plugin, checkpointed = plugin()
    await play(setting, body, checkpointed_plugin, CheckpointPlugin())
    steps = {name: count for name, count in names(bare).items() if "s0" in name or "s2" in name}
    assert steps
    found = names(checkpointed)
    assert {name: found[name] for name in steps} == steps
    contexts = [span.context for span in checkpointed.get_finished_spans()]
    ids = [context.span_id for context in contexts if context is not None]
    assert len(ids) == len(set(ids))


async def test_all_five(setting: str) -> None:
    """The whole stack: one request, the same output, every outcome once."""
    sentry_sdk.init(dsn=None)

    async def body(ctx: Any) -> Any:
        total = 0
        for number in range(5):
            total += await ctx.step.run(f"s{number}", lambda n=number: n)
            metadata.set("total", total)
        return {"total": total}

    key = Key.generate()

    def plugins() -> list[Any]:
        return [
            SentryPlugin(),
            OpenTelemetryPlugin(tracer_provider=replay_safe_provider(shutdown_on_exit=False)),
            EncryptionPlugin(KeyRing(key)),
            ValidationPlugin(events={"shop/test": {"type": "object"}}),
            MetadataPlugin(),
        ]

    bare = await play(setting, body, *plugins())
    played = await play(setting, body, *plugins(), CheckpointPlugin())
    opened = EncryptionPlugin(KeyRing(key)).decrypt
    assert (bare.requests, played.requests) == (6, 1)
    assert opened(played.run.output) == opened(bare.run.output) == {"total": 10}
    assert played.recorder.outcomes == bare.recorder.outcomes
    assert played.run.metadata == bare.run.metadata


async def test_an_official_middleware_beside_it(setting: str) -> None:
    """What stands beside the stack sees each result as it does in an answer."""

    class Doubling(inngest.MiddlewareSync):
        def transform_output(self, result: inngest.TransformOutputResult) -> None:
            if result.step is not None and isinstance(result.output, int):
                result.output = result.output * 2

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run("a", lambda: 1), await ctx.step.run("b", lambda: 2)]

    bare = await play(setting, body, Doubling)
    played = await play(setting, body, Doubling, CheckpointPlugin())
    assert (played.requests, played.run.output) == (1, [2, 4])
    assert bare.run.output == played.run.output
