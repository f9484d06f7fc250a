"""Draw the README's `trace.svg` from a real run: `python plugins/otel/draw_trace.py`.

The run is made on the embedded engine; what is drawn are the spans as they were exported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import inngest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

ROW, LEFT, WIDTH, TOP = 22, 250, 620, 34
COLORS = {"run ": "#6b7280", "step ": "#2563eb", "memoization": "#cbd5e1", "send ": "#a855f7"}
USER_CODE, FAILED = "#059669", "#dc2626"


async def traced_run() -> Sequence[ReadableSpan]:
    """Run a function with two branches and a step that needs two attempts; return its spans."""
    exporter = InMemorySpanExporter()
    provider = replay_safe_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop")
    client = inngest.Inngest(
        app_id="shop",
        is_production=False,
        middleware=[OpenTelemetryPlugin(tracer_provider=provider)],
    )
    tries: list[int] = []

    async def charge() -> None:
        with tracer.start_as_current_span("POST bank/charges"):
            await asyncio.sleep(0.012)
            tries.append(1)
            if len(tries) == 1:
                raise TimeoutError("the bank did not answer")

    async def pack() -> None:
        with tracer.start_as_current_span("INSERT parcels"):
            await asyncio.sleep(0.008)

    async def notify() -> None:
        await asyncio.sleep(0.005)

    @client.create_function(
        fn_id="fulfil", trigger=inngest.TriggerEvent(event="shop/order.placed"), retries=2
    )
    async def fulfil(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("fulfil order"):
            with tracer.start_as_current_span("price order"):
                await asyncio.sleep(0.004)
            await ctx.step.run("charge", charge)
            with tracer.start_as_current_span("deliver"):
                await ctx.group.parallel(
                    (
                        lambda: ctx.step.run("pack", pack),
                        lambda: ctx.step.run("notify", notify),
                    )
                )

    async with LocalEngine(client, [fulfil]) as engine:
        run = await engine.run(inngest.Event(name="shop/order.placed", data={}))
    if run.status != "Completed":
        raise SystemExit(f"the run is {run.status}: {run.reason}")
    spans = exporter.get_finished_spans()
    return [span for span in spans if not span.name.startswith("send ")]


def rows(spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, ReadableSpan]]:
    """Yield the spans as a tree, with their depth."""
    ids = {span.context.span_id for span in spans if span.context is not None}
    children: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        parent = span.parent.span_id if span.parent is not None else 0
        children.setdefault(parent if parent in ids else 0, []).append(span)

    def below(parent: int, depth: int) -> Iterator[tuple[int, ReadableSpan]]:
        for span in sorted(children.get(parent, ()), key=lambda s: s.start_time or 0):
            yield depth, span
            if span.context is not None:
                yield from below(span.context.span_id, depth + 1)

    return below(0, 0)


def color_of(span: ReadableSpan) -> str:
    """Return a span's colour: by who made it, or that of a failure."""
    if span.status.status_code.name == "ERROR":
        return FAILED
    return next((c for start, c in COLORS.items() if span.name.startswith(start)), USER_CODE)


def svg(spans: Sequence[ReadableSpan]) -> str:
    """Return the picture."""
    first = min(span.start_time or 0 for span in spans)
    length = max(span.end_time or 0 for span in spans) - first
    tree = list(rows(spans))
    height = TOP + ROW * len(tree) + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{height}"',
        ' font-family="ui-monospace, Menlo, monospace" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="12" y="21" font-weight="bold" fill="#111827">one run, {len(tree)} spans</text>',
    ]
    for x, (text, color) in zip(
        (LEFT, LEFT + 90, LEFT + 170, LEFT + 290, LEFT + 400),
        [
            ("request", COLORS["run "]),
            ("step", COLORS["step "]),
            ("your code", USER_CODE),
            ("replay", COLORS["memoization"]),
            ("failed", FAILED),
        ],
        strict=True,
    ):
        out.append(f'<rect x="{x}" y="12" width="10" height="10" rx="2" fill="{color}"/>')
        out.append(f'<text x="{x + 15}" y="21" fill="#374151">{text}</text>')
    for number, (depth, span) in enumerate(tree):
        y = TOP + ROW * number
        start = LEFT + WIDTH * ((span.start_time or 0) - first) / length
        taken = (span.end_time or 0) - (span.start_time or 0)
        width = max(2.0, WIDTH * taken / length)
        if number % 2:
            out.append(f'<rect y="{y}" width="100%" height="{ROW}" fill="#f9fafb"/>')
        out.append(
            f'<text x="{12 + 14 * depth}" y="{y + 15}" fill="#111827">{escape(span.name)}</text>'
            f'<rect x="{start:.1f}" y="{y + 5}" width="{width:.1f}" height="12" rx="3" '
            f'fill="{color_of(span)}"/>'
            f'<text x="{start + width + 5:.1f}" y="{y + 15}" fill="#6b7280">'
            f"{taken / 1e6:.1f} ms</text>"
        )
    return "\n".join([*out, "</svg>\n"])


def main() -> None:
    """Draw the picture beside this file."""
    Path(__file__).with_name("trace.svg").write_text(svg(asyncio.run(traced_run())))


if __name__ == "__main__":
    main()
