"""Publishing beside all the other plugins, in any order of the list."""

from __future__ import annotations

import itertools
from typing import Any

import inngest
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.realtime.realtime_rig import ORDER, App

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.defer import DeferPlugin
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin, make_replay_safe
from inngest_plugins.realtime import publish, publish_sync
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

pytestmark = pytest.mark.anyio


def _plugins() -> list[Any]:
    return [
        SentryPlugin(),
        OpenTelemetryPlugin(tracer_provider=make_replay_safe(TracerProvider())),
        EncryptionPlugin(KeyRing(Key("k", bytes(32))), event_fields="*"),
        ValidationPlugin(),
        MetadataPlugin(),
        DeferPlugin(),
        CheckpointPlugin(),
    ]


@pytest.mark.parametrize("rotation", range(0, 7, 2))
async def test_beside_all_plugins(kind: str, rotation: int) -> None:
    """Each message leaves once and in order, in the clear where its topic says so."""
    plugins = list(itertools.islice(itertools.cycle(_plugins()), rotation, rotation + 7))
    app = App(kind, *plugins)

    async def body(ctx: inngest.Context) -> None:
        await publish(ORDER.clear, "begin")

        async def step() -> str:
            metadata.set("progress", 1)
            await publish(ORDER.clear, "step")
            return "x"

        await ctx.step.run("one", step)
        await publish(ORDER.clear, "durable", durable=True)
        await ctx.step.sleep("nap", 1000)
        await publish(ORDER.clear, "end")

    def body_sync(ctx: inngest.ContextSync) -> None:
        publish_sync(ORDER.clear, "begin")

        def step() -> str:
            metadata.set("progress", 1)
            publish_sync(ORDER.clear, "step")
            return "x"

        ctx.step.run("one", step)
        publish_sync(ORDER.clear, "durable", durable=True)
        ctx.step.sleep("nap", 1000)
        publish_sync(ORDER.clear, "end")

    run, messages = await app.play(body, body_sync)
    assert run.status == "Completed", run.error
    assert [data for _, data in messages] == ["begin", "step", "durable", "end"]
