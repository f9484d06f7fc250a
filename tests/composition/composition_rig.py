"""All plugins with everything they export kept in memory, and what a scenario left where."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import inngest
import sentry_sdk
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk import scope as sentry_scope
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from tests.composition import composition_app as the_app
from tests.composition.composition_secrets import Records, all_leaks

from inngest_plugins.cli._run_json import story_to_json
from inngest_plugins.core import Hooks, Layer, StackEntry
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine, Run, VirtualClock
from inngest_plugins.local._html import render_html
from inngest_plugins.local._telling import tell
from inngest_plugins.metadata import MetadataPlugin
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

NAMES = ("sentry", "otel", "encryption", "validation", "metadata")
PER_CALL = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "after_execution",
    "transform_output",
    "before_response",
)
"""The hooks that a request fires at most once, in this order."""

INWARD = frozenset({"transform_input", "before_memoization", "before_execution", "around_step"})


class MemoryTransport(Transport):
    """Keeps Sentry's envelopes."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The error events, decoded."""
        return [
            item.payload.json
            for envelope in self.envelopes
            for item in envelope.items
            if item.type == "event" and item.payload.json is not None
        ]


@dataclass(frozen=True)
class Fired:
    """One hook of one plugin in one call or send."""

    plugin: str
    hook: str
    subject: object = field(repr=False)


def custom_hooks() -> list[Hooks]:
    """One custom set of hooks for each layer, each with every hook that sees nothing change."""
    made: list[Hooks] = []
    for layer in Layer:
        hooks = Hooks(f"custom-{layer.name.lower()}", layer=layer)
        for name in (*PER_CALL, "before_send_events", "after_send_events", "transform_step_input"):
            getattr(hooks, name)(_two if name in _OF_TWO else _one)
        made.append(hooks)
    return made


_OF_TWO = frozenset({"transform_output", "transform_step_input"})


def _one(subject: object) -> None: ...


def _two(call: object, subject: object) -> None: ...


class Rig:
    """Makes the plugins, and keeps what they export.

    Args:
        event_fields: what the encryption plugin encrypts of events.
        sentry_options: for `sentry_sdk.init`.
    """

    def __init__(
        self,
        *,
        event_fields: str | tuple[str, ...] = ("encrypted",),
        encryption: Mapping[str, Any] | None = None,
        **sentry_options: Any,
    ) -> None:
        self.transport = MemoryTransport()
        sentry_options.setdefault("traces_sample_rate", 1.0)
        sentry_options.setdefault("attach_stacktrace", True)
        sentry_options.setdefault("auto_enabling_integrations", False)
        sentry_sdk.init(
            dsn="https://key@sentry.invalid/1", transport=self.transport, **sentry_options
        )
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = replay_safe_provider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.key = Key.generate()
        self._encryption: dict[str, Any] = {"event_fields": event_fields, **(encryption or {})}
        self.fired: list[Fired] = []
        self.records = Records()

    # ------------------------------------------------------------ plugins

    def plugin(self, name: str) -> StackEntry:
        """A new plugin of one of the five kinds."""
        made: StackEntry
        if name == "sentry":
            made = SentryPlugin()
        elif name == "otel":
            made = OpenTelemetryPlugin(
                tracer_provider=self.provider,
                meter_provider=self.meters,
                inngest_traces=True,
                capture_payloads=True,
            )
        elif name == "encryption":
            made = EncryptionPlugin(KeyRing(self.key), **self._encryption)
        elif name == "validation":
            made = ValidationPlugin(
                events={
                    the_app.EVENT: the_app.ORDER_SCHEMA,
                    "shop/child": the_app.CHILD_SCHEMA,
                    "shop/answered": the_app.ANSWER_SCHEMA,
                }
            )
        else:
            made = MetadataPlugin(realtime=True)
        return self.noting(made)

    def plugins(self, names: Sequence[str] = NAMES) -> list[StackEntry]:
        """New plugins of these kinds, in this order."""
        return [self.plugin(name) for name in names]

    def noting(self, plugin: StackEntry) -> StackEntry:
        """Note every hook of a plugin that fires."""
        original = plugin.hook_functions

        def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            if name == "on_register":
                return function

            @functools.wraps(function)
            def note(*args: Any) -> Any:
                self.fired.append(Fired(plugin.name, name, args[0]))
                return function(*args)

            return note

        def noted() -> dict[str, list[Callable[..., Any]]]:
            return {name: [wrapped(name, f) for f in fs] for name, fs in original().items()}

        plugin.hook_functions = noted  # type: ignore[method-assign]
        return plugin

    # ------------------------------------------------------------ running

    async def play(
        self,
        app: the_app.App,
        events: inngest.Event | list[inngest.Event],
        function: str,
        *,
        journal: str | None = None,
        clock: VirtualClock | None = None,
        during: Callable[[LocalEngine], Any] | None = None,
        **options: Any,
    ) -> Played:
        """Run events to the end of everything they start."""
        root = logging.getLogger()
        assert isinstance(app.client.logger, logging.Logger)
        levels = {logger: logger.level for logger in (root, app.client.logger)}
        root.addHandler(self.records)
        for logger in levels:
            logger.setLevel(logging.DEBUG)
        try:
            async with LocalEngine(
                app.client, app.functions, journal, clock or VirtualClock(0), **options
            ) as engine:
                if during is None:
                    run = await engine.run(events, function=function, timeout=60)
                else:
                    await engine.send(events)
                    await during(engine)
                    (run,) = [run for run in engine.runs if run.function_id == f"shop-{function}"]
                await engine.settle(60)
                traces = [trace.body for trace in engine.userland_traces]
                return Played(run, engine.runs, engine.events, traces)
        finally:
            root.removeHandler(self.records)
            for logger, level in levels.items():
                logger.setLevel(level)

    def contents(self, played: Played) -> Iterator[tuple[str, bytes | str]]:
        """Everything that left the user's code, or was written down about it, with its name."""
        yield from played.contents()
        for line in self.records.lines:
            yield "log", line
        for envelope in self.transport.envelopes:
            yield "sentry", envelope.serialize()
        for span in self.spans.get_finished_spans():
            yield f"span {span.name}", str(span.to_json())
        metrics = self.reader.get_metrics_data()
        if metrics is not None:
            yield "metrics", str(metrics.to_json())

    def check_no_leak(self, played: Played) -> None:
        """The canary is nowhere."""
        found = all_leaks(self.contents(played))
        assert not found, "\n".join(found[:20])

    # ------------------------------------------------------------ the order of hooks

    def check_order(self, stack: Sequence[str]) -> None:
        """Hooks fired at most once a request, in the protocol's order, as an onion.

        Args:
            stack: names of the plugins, outermost first.
        """
        place = {name: index for index, name in enumerate(stack)}
        calls: dict[int, list[Fired]] = {}
        for fired in self.fired:
            calls.setdefault(id(fired.subject), []).append(fired)
        for group in calls.values():
            phases = [fired.hook for fired in group if fired.hook in PER_CALL]
            order = [PER_CALL.index(phase) for phase in phases]
            assert order == sorted(order), phases
            for hook in set(phases) | {"around_step", "before_send_events", "after_send_events"}:
                names = [fired.plugin for fired in group if fired.hook == hook]
                if hook in PER_CALL or hook.endswith("_send_events"):
                    assert len(names) == len(set(names)), (hook, names)
                    positions = [place[name] for name in names]
                    assert positions == sorted(positions, reverse=hook not in INWARD), (hook, names)

    def close(self) -> None:
        """Let go of what is process-wide."""
        self.provider.shutdown()
        self.meters.shutdown()
        sentry_sdk.get_client().close()
        sentry_scope._global_scope = None
        sentry_scope._isolation_scope.set(None)
        sentry_scope._current_scope.set(None)


@dataclass(frozen=True)
class Played:
    """What a scenario came to, at the engine."""

    run: Run
    runs: list[Run]
    events: list[dict[str, Any]]
    traces: list[bytes]

    def contents(self) -> Iterator[tuple[str, bytes | str]]:
        """Everything at the engine: the wire, what it keeps, and what it shows."""
        for run in self.runs:
            for request in run.requests:
                yield f"{run.function_id} request {request.number}", request.request_bytes
                yield f"{run.function_id} response {request.number}", request.response_bytes
                yield "headers", repr((request.request_headers, request.response_headers))
            yield "error", json.dumps(run.error, ensure_ascii=False)
            yield "reason", run.reason
            yield "metadata", json.dumps(run.metadata, ensure_ascii=False)
            yield "timeline", str(run.timeline())
            yield "output", json.dumps(run.output, ensure_ascii=False)
            for step in run.steps.values():
                yield f"step {step.key}", repr(step)
        for event in self.events:
            yield f"event {event['name']}", json.dumps(event, ensure_ascii=False)
        for trace in self.traces:
            yield "userland trace", trace
        story = tell(self.runs)
        yield "html", render_html(story)
        yield "json report", json.dumps(story_to_json(story, values=True), ensure_ascii=False)


Decrypt = Callable[[Any], Any]


def as_it_was(played: Played, decrypt: Decrypt | None) -> dict[str, Any]:
    """What every run of a scenario came to, decrypted, without what differs each time.

    This is what must be the same with and without plugins.
    """
    opened = decrypt or (lambda value: value)
    runs: dict[str, list[Any]] = {}
    for run in played.runs:
        error = run.error or {}
        told = (
            run.status,
            opened(run.output),
            error.get("name"),
            opened(error.get("message")),
            {key: (step.op, step.status, step.attempts) for key, step in run.steps.items()},
        )
        runs.setdefault(run.function_id, []).append(told)
    for several in runs.values():
        several.sort(key=lambda told: json.dumps(told, default=str))
    names = sorted(event["name"] for event in played.events)
    return {"runs": runs, "events": names}


def opener(key: Key) -> Decrypt:
    """Opens what is encrypted with a key: values, and the texts of errors."""
    decrypt = EncryptionPlugin(KeyRing(key)).decrypt

    def opened(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("{"):
            value = json.loads(value)
        return decrypt(value)

    return opened


def names_of(plugins: Iterable[StackEntry]) -> list[str]:
    """The plugins' names."""
    return [plugin.name for plugin in plugins]
