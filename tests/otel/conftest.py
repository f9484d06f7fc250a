"""A real tracing SDK with everything kept in memory, and runs on the embedded engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import inngest
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, Tracer

from inngest_plugins.core import StackEntry
from inngest_plugins.local import LocalEngine, Run
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider

PLUGIN_SCOPE = "inngest_plugins.otel"


@dataclass(frozen=True)
class Exported:
    """An exported span, with what the tests look at."""

    raw: ReadableSpan

    @property
    def name(self) -> str:
        """Its name."""
        return self.raw.name

    @property
    def context(self) -> SpanContext:
        """Its ids."""
        context: SpanContext | None = self.raw.get_span_context()
        assert context is not None
        return context

    @property
    def id(self) -> int:
        """Its span id."""
        return self.context.span_id

    @property
    def trace_id(self) -> int:
        """Its trace id."""
        return self.context.trace_id

    @property
    def parent(self) -> SpanContext | None:
        """Its parent's ids, None for a root."""
        return self.raw.parent

    @property
    def parent_id(self) -> int:
        """Its parent's span id, 0 for a root."""
        return 0 if self.raw.parent is None else self.raw.parent.span_id

    @property
    def start(self) -> int:
        """When it began, in nanoseconds."""
        assert self.raw.start_time is not None
        return self.raw.start_time

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes."""
        return dict(self.raw.attributes or {})

    @property
    def status(self) -> str:
        """UNSET, OK or ERROR."""
        return self.raw.status.status_code.name

    @property
    def scope(self) -> str:
        """Name of the library that made it."""
        assert self.raw.instrumentation_scope is not None
        return self.raw.instrumentation_scope.name


@dataclass
class Telemetry:
    """A replay-safe provider whose spans stay in memory, and apps that report to it."""

    provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    meters: MeterProvider
    apps: list[inngest.Inngest] = field(default_factory=list)

    @property
    def tracer(self) -> Tracer:
        """A tracer as user code or an instrumentation library would get it."""
        return self.provider.get_tracer("user")

    def client(self, *others: StackEntry, app_id: str = "shop", **options: Any) -> inngest.Inngest:
        """An app with the plugin."""
        plugin = OpenTelemetryPlugin(
            tracer_provider=self.provider, meter_provider=self.meters, **options
        )
        return inngest.Inngest(app_id=app_id, is_production=False, middleware=[plugin, *others])

    @property
    def spans(self) -> Sequence[Exported]:
        """Everything exported so far."""
        return [Exported(span) for span in self.exporter.get_finished_spans()]

    def named(self, name: str) -> list[Exported]:
        """The exported spans of a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Exported:
        """The one exported span of a name."""
        (span,) = self.named(name)
        return span

    def users(self) -> list[Exported]:
        """The exported spans of user code."""
        return [span for span in self.spans if span.scope != PLUGIN_SCOPE]

    def tree(
        self,
        *,
        label: Callable[[Exported], str] = lambda span: span.name,
        leave_out: Sequence[str] = ("memoization", "send "),
        only: Callable[[Exported], bool] = lambda span: True,
    ) -> list[str]:
        """The spans as an indented list, siblings in the order in which they began.

        Spans whose parent is not among them are at the top.
        """
        shown = [
            span for span in self.spans if not span.name.startswith(tuple(leave_out)) and only(span)
        ]
        ids = {span.id for span in shown}
        children: dict[int, list[Exported]] = {}
        for span in shown:
            children.setdefault(span.parent_id if span.parent_id in ids else 0, []).append(span)

        def lines(parent: int, depth: int) -> Iterator[str]:
            for span in sorted(children.get(parent, ()), key=lambda s: s.start):
                yield "  " * depth + label(span)
                yield from lines(span.id, depth + 1)

        return list(lines(0, 0))

    def tree_of_code(self) -> list[str]:
        """The tree below the requests: spans of user code and of steps."""
        return self.tree(only=lambda span: not span.name.startswith("run "))

    async def run(
        self,
        client: inngest.Inngest,
        *functions: inngest.Function[Any],
        data: dict[str, Any] | None = None,
        events: list[inngest.Event] | None = None,
    ) -> Run:
        """Run the first function with an event `shop/order`, until nothing is left to do."""
        async with LocalEngine(client, list(functions)) as engine:
            run = await engine.run(
                events or inngest.Event(name="shop/order", data=data or {}), function=functions[0]
            )
            await engine.settle()
            return run

    def check_exactly_once(self, *, orphans: Sequence[str] = ()) -> None:
        """No span id is exported twice, and every parent in this process is exported.

        Args:
            orphans: names of spans whose parent nobody came to end.
        """
        ids = [span.id for span in self.spans]
        assert len(ids) == len(set(ids)), [s.name for s in self.spans if ids.count(s.id) > 1]
        for span in self.spans:
            if span.parent is not None and not span.parent.is_remote:
                hangs = span.parent_id in ids
                assert hangs != (span.name in orphans), f"{span.name} hangs from nothing"

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else [])
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def histogram(self, metric: str, **attributes: object) -> HistogramDataPoint:
        """The one data point of a histogram that has these attributes (`_` for `.`)."""
        (found,) = [
            point
            for point in self.points(metric)
            if all(point.attributes.get(k.replace("_", ".")) == v for k, v in attributes.items())
        ]
        assert isinstance(found, HistogramDataPoint)
        return found


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Tracing and metrics in memory."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = replay_safe_provider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    yield Telemetry(provider, exporter, reader, meters)
    provider.shutdown()
    meters.shutdown()


@pytest.fixture(autouse=True)
def hook_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which the plugin raised, which the core would only log."""
    yield
    for record in (*caplog.get_records("setup"), *caplog.get_records("call")):
        message = record.getMessage()
        assert "which was ignored" not in message, message
        assert "Failed to detach context" not in message
