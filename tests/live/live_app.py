"""The full stack as a worker process of its own (see test_live_composition.py).

Finds the server in INNGEST_DEV_URL, its port in PORT, its keys in LIVE_KEYS, the canary in
LIVE_CANARY, and writes everything that it would export into the folder LIVE_OUT.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import sentry_sdk
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from tests.live.live_client import client_options

from inngest_plugins.core import Call, Hooks
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.metadata import MetadataPlugin, metadata
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

PORT = os.environ.get("PORT", "0")
OUT = Path(os.environ.get("LIVE_OUT", "."))
CANARY = os.environ.get("LIVE_CANARY", "")
APP = "live-composition"
ORDER = {"type": "object", "required": ["order", "encrypted"]}


class FileTransport(Transport):
    """Writes Sentry's envelopes to a file."""

    def capture_envelope(self, envelope: Envelope) -> None:
        with (OUT / f"sentry-{PORT}").open("ab") as file:
            file.write(envelope.serialize() + b"\n")


def exported() -> Any:
    """Write spans to a file."""
    provider = replay_safe_provider()
    spans = (OUT / f"spans-{PORT}").open("w")
    exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(None) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def noted(name: str, value: Any) -> Any:
    """A step's handler that notes which process ran it."""

    async def handler() -> Any:
        metadata.set(name, "done")
        with (OUT / "steps").open("a") as steps:
            steps.write(f"{name} {os.getpid()}\n")
        return value

    return handler


async def slow() -> str:
    """Takes ten minutes the first time: long enough to be killed, on a slow machine, too."""
    begun = OUT / "slow-began"
    if not begun.exists():
        begun.write_text(str(os.getpid()))
        await asyncio.sleep(600)
    return f"{CANARY} slow"


logging.basicConfig(filename=OUT / f"log-{PORT}", level=logging.DEBUG)
sentry_sdk.init(
    dsn="https://key@sentry.invalid/1", transport=FileTransport(), traces_sample_rate=1.0
)
custom = Hooks("custom")


@custom.before_response
def count(call: Call) -> None:
    """Note each request."""
    with (OUT / "requests").open("a") as requests:
        requests.write(f"{call.function_id} {os.getpid()}\n")


client = inngest.Inngest(
    app_id=APP,
    **client_options(),
    logger=logging.getLogger("live"),
    middleware=[
        custom,
        MetadataPlugin(),
        ValidationPlugin(events={"live-composition/order": ORDER}),
        EncryptionPlugin(KeyRing.from_env("LIVE_KEYS")),
        OpenTelemetryPlugin(tracer_provider=exported(), inngest_traces=True),
        SentryPlugin(),
    ],
)


@client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event=f"{APP}/child"))
async def child(ctx: inngest.Context) -> Any:
    """Gives back what it was given."""
    return {"child": ctx.event.data["encrypted"]}


@client.create_function(fn_id="answer", trigger=inngest.TriggerEvent(event=f"{APP}/asked"))
async def answer(ctx: inngest.Context) -> None:
    """Answers a question with an event."""
    data: Any = {"order": ctx.event.data["order"], "encrypted": f"{CANARY} answer"}
    await ctx.step.send_event("reply", inngest.Event(name=f"{APP}/answered", data=data))


async def failed(ctx: inngest.Context) -> Any:
    """Runs when the main function has failed for good."""
    data: Any = ctx.event.data
    card = data["event"]["data"]["encrypted"]["card"]
    return await ctx.step.run("tell", noted("tell", [card, data["error"]["message"]]))


@client.create_function(
    fn_id="fulfil",
    trigger=inngest.TriggerEvent(event=f"{APP}/order"),
    retries=4,
    on_failure=failed,
)
async def fulfil(ctx: inngest.Context) -> Any:
    """Uses every tool, and fails at its end when the event says so."""
    data: Any = ctx.event.data
    step = ctx.step
    first = await step.run("first", noted("first", f"{CANARY} first"))
    if data.get("slow"):
        first = [first, await step.run("slow", slow)]
    await step.sleep("nap", 1000)
    sides = await ctx.group.parallel(
        (
            lambda: step.run("left", noted("left", f"{CANARY} left")),
            lambda: step.run("right", noted("right", f"{CANARY} right")),
        )
    )
    children = await ctx.group.parallel(
        (
            lambda: step.invoke("one", function=child, data={"encrypted": f"{CANARY} one"}),
            lambda: step.invoke("two", function=child, data={"encrypted": f"{CANARY} two"}),
        )
    )
    question: Any = {"order": data["order"], "encrypted": f"{CANARY} question"}
    answers: Any = await ctx.group.parallel(
        (
            lambda: step.send_event("ask", inngest.Event(name=f"{APP}/asked", data=question)),
            lambda: step.wait_for_event(
                "answer",
                event=f"{APP}/answered",
                if_exp="event.data.order == async.data.order",
                timeout=120_000,
            ),
        )
    )
    answered: inngest.Event | None = answers[1]
    if data.get("fails"):
        raise inngest.NonRetriableError(f"{CANARY} failure of {data['encrypted']['card']}")
    return {
        "card": data["encrypted"]["card"],
        "first": first,
        "sides": list(sides),
        "children": list(children),
        "answered": None if answered is None else answered.data["encrypted"],
    }


app = fastapi.FastAPI()
inngest.fast_api.serve(
    app, client, [fulfil, child, answer], serve_origin=f"http://127.0.0.1:{PORT}"
)
