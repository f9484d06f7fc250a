"""Draw the pictures of the front page anew, each from a run of the product: `make pictures`.

| picture | what runs |
|---|---|
| `docs/run.svg` | the example shop, by `inngest-plugins run --svg` |
| `docs/pictures/before.svg`, `after.svg` | twenty steps without and with `CheckpointPlugin` |
| `docs/pictures/trace.svg` | the spans of a run with a retry, a sleep and an invoke |
| `docs/pictures/sealed.svg` | one result: as the app knows it, and as the engine stores it |
| `docs/pictures/agent.svg` | the example agent, killed in the middle and started again |
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import inngest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree

from inngest_plugins.cli import main as inngest_plugins
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine
from inngest_plugins.local.report.picture import as_picture
from inngest_plugins.otel import OpenTelemetryPlugin, make_replay_safe

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 92

TWENTY_STEPS = """
import time

import inngest
from inngest_plugins.checkpoint import CheckpointPlugin

client = inngest.Inngest(app_id="shop", is_production=False, middleware=[{plugins}])


def page(number: int) -> int:
    time.sleep(0.01)
    return number


@client.create_function(fn_id="import", trigger=inngest.TriggerEvent(event="shop/import"))
def import_pages(ctx: inngest.ContextSync) -> int:
    return sum(ctx.step.run(f"page-{{n}}", page, n) for n in range(1, 21))
"""


def draw_course(name: str, plugins: str) -> None:
    """Draw a run of twenty steps."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(TWENTY_STEPS.format(plugins=plugins))
        event = json.dumps({"name": "shop/import", "data": {}})
        run("run", str(app), "--event", event, "--svg", str(PICTURES / name))


def run(*arguments: str) -> None:
    """Run `inngest-plugins`, which has to succeed."""
    code = inngest_plugins(list(arguments))
    if code:
        raise SystemExit(f"inngest-plugins {' '.join(arguments)} ended with {code}")


async def draw_trace() -> None:
    """Draw the spans of a run which calls another function."""
    exporter = InMemorySpanExporter()
    provider = make_replay_safe(TracerProvider())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("app")
    client = inngest.Inngest(
        app_id="shop",
        is_production=False,
        middleware=[OpenTelemetryPlugin(tracer_provider=provider)],
    )
    failures = iter([True])

    @client.create_function(fn_id="invoice", trigger=inngest.TriggerEvent(event="shop/invoice"))
    async def invoice(ctx: inngest.Context) -> str:
        return await ctx.step.run("write", write)

    async def write() -> str:
        with tracer.start_as_current_span("render pdf"):
            return "invoice.pdf"

    async def validate() -> str:
        return "ok"

    async def charge() -> str:
        with tracer.start_as_current_span("POST payments"):
            if next(failures, False):
                raise ConnectionError
            return "paid"

    @client.create_function(fn_id="fulfil", trigger=inngest.TriggerEvent(event="shop/order"))
    async def fulfil(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("check the order"):
            await ctx.step.run("validate", validate)
        await ctx.step.run("charge", charge)
        await ctx.step.sleep("until-packed", 60_000)
        await ctx.step.invoke("invoice", function=invoice)

    async with LocalEngine(client, [fulfil, invoice]) as engine:
        await engine.run(inngest.Event(name="shop/order"))
    provider.shutdown()
    finished = exporter.get_finished_spans()
    (trace,) = {span.context.trace_id for span in finished if span.name.startswith("run ")}
    spans = [span for span in finished if span.context.trace_id == trace]
    heading = Text(f"one trace, {len(spans)} spans, each once\n", "bold")
    view = Group(heading, tree_of(spans))
    save("trace.svg", "A run with a retry, a sleep and an invoked function", view)


def tree_of(spans: Sequence[ReadableSpan]) -> Tree:
    """Draw spans below their parents, in the order in which they started."""
    nodes: dict[int | None, Tree] = {}
    top = Tree("", hide_root=True)
    known = {span.context.span_id for span in spans}
    waiting = sorted(spans, key=lambda span: span.start_time or 0)
    while waiting:
        for span in waiting:
            parent = span.parent.span_id if span.parent else None
            if parent in known and parent not in nodes:
                continue
            failed = not span.status.is_ok and span.status.description is not None
            label = Text(span.name, "red" if failed else "")
            label.append(f"  {((span.end_time or 0) - (span.start_time or 0)) / 1e6:.1f} ms", "dim")
            nodes[span.context.span_id] = nodes.get(parent, top).add(label)
            waiting.remove(span)
            break
    return top


async def draw_sealed() -> None:
    """Draw a result on both sides."""
    client = inngest.Inngest(
        app_id="clinic", is_production=False, middleware=[EncryptionPlugin(KeyRing.generate())]
    )
    trigger = inngest.TriggerEvent(event="clinic/visit")

    @client.create_function(fn_id="diagnose", trigger=trigger)
    async def diagnose(_: inngest.Context) -> dict[str, Any]:
        return {"patient": "Ada Lovelace", "finding": "a broken ankle", "days off": 21}

    async with LocalEngine(client, [diagnose]) as engine:
        finished = await engine.run(inngest.Event(name="clinic/visit"))
    known = Text(json.dumps(finished.result, indent=2))
    stored = Text(json.dumps(finished.output, indent=2), "dim")
    save(
        "sealed.svg",
        "One result, on both sides",
        Group(
            Panel(known, title="what your app knows", title_align="left"),
            Panel(stored, title="what the engine stores and shows", title_align="left"),
        ),
    )


def draw_agent() -> None:
    """Kill the example agent after its first tool calls, and start it again on its journal."""
    agent = ROOT / "examples" / "agent"
    program = [sys.executable, "-m", "inngest_plugins.cli", "run", str(agent / "app.py")]
    environment = {**os.environ, "COLUMNS": str(WIDTH)}
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "runs.db")
        started = subprocess.Popen(
            [*program, "--event", f"@{agent / 'question.json'}", "--journal", journal],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        assert started.stderr is not None
        before: list[str] = []
        for line in started.stderr:
            before.append(line.rstrip())
            if "model.request:1 done" in line:
                started.send_signal(signal.SIGKILL)
                break
        started.wait()
        resumed = subprocess.run(
            [*program, "--journal", journal],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            check=True,
        )
    command = "$ inngest-plugins run examples/agent/app.py"
    save(
        "agent.svg",
        "An agent that survives kill -9",
        Group(
            Text(f"{command} --event @question.json --journal runs.db", "bold"),
            *(Text(line) for line in before),
            Text("Killed\n", "bold red"),
            Text(f"{command} --journal runs.db", "bold"),
            Text(resumed.stdout.partition("\n\n")[0]),
        ),
    )


def save(name: str, title: str, view: RenderableType) -> None:
    """Write a picture."""
    (PICTURES / name).write_text(as_picture(view, title, columns=WIDTH), "utf-8")


def main() -> int:
    """Draw all pictures."""
    PICTURES.mkdir(exist_ok=True)
    shop = ROOT / "examples" / "shop"
    event = f"@{shop / 'order.json'}"
    run("run", str(shop / "app.py"), "--event", event, "--svg", str(ROOT / "docs" / "run.svg"))
    draw_course("before.svg", "")
    draw_course("after.svg", "CheckpointPlugin()")
    asyncio.run(draw_trace())
    asyncio.run(draw_sealed())
    draw_agent()
    return 0


if __name__ == "__main__":
    sys.exit(main())
