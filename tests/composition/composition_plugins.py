"""Makes all plugins, with everything they export kept in memory or in a folder of the test's."""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sentry_sdk
import svcs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk import scope as sentry_scope
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from tests.composition import composition_app as the_app
from tests.composition.composition_uses import MODEL, PRICE, Till

from inngest_plugins.ai import AIPlugin
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import StackEntry
from inngest_plugins.defer import DeferPlugin
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.injection import InjectionPlugin
from inngest_plugins.metadata import MetadataPlugin
from inngest_plugins.mirror import MirrorPlugin, Page, RunDetail, Scope, SQLAlchemyStore
from inngest_plugins.mirror.store.reads import MAX_LIMIT, Filters, read_page, read_run
from inngest_plugins.mirror.web.documents import detail_document
from inngest_plugins.mirror.web.page import list_page, run_page
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.realtime import RealtimePlugin
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

NAMES = (
    "sentry",
    "otel",
    "mirror",
    "encryption",
    "validation",
    "metadata",
    "ai",
    "injection",
    "defer",
    "realtime",
)
"""Every plugin that leaves requests as they are; "checkpoint" comes beside them."""


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


class PluginMaker:
    """Makes plugins, and keeps what they export.

    Args:
        event_fields: what the encryption plugin encrypts of events.
        encryption: further options of that plugin.
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
        self.opened, self.closed = 0, 0
        self._registry = svcs.Registry()
        self._registry.register_factory(Till, self._open_till)
        self._folder = tempfile.TemporaryDirectory(prefix="composition-")
        self._database = Path(self._folder.name) / "mirror.db"

    def _open_till(self) -> Iterator[Till]:
        self.opened += 1
        yield Till()
        self.closed += 1

    def make(self, name: str) -> StackEntry:
        """A new plugin of one of the kinds."""
        if name == "otel":
            return OpenTelemetryPlugin(
                tracer_provider=self.provider,
                meter_provider=self.meters,
                inngest_traces=True,
                capture_payloads=True,
            )
        if name == "encryption":
            return EncryptionPlugin(KeyRing(self.key), **self._encryption)
        if name == "validation":
            return ValidationPlugin(
                events={
                    the_app.EVENT: the_app.ORDER_SCHEMA,
                    "shop/child": the_app.CHILD_SCHEMA,
                    "shop/answered": the_app.ANSWER_SCHEMA,
                }
            )
        if name == "mirror":
            # A busy machine is no database that is down.
            return MirrorPlugin(self.store, timeout=60)
        if name == "metadata":
            return MetadataPlugin(realtime=True)
        if name == "ai":
            return AIPlugin(prices={MODEL: PRICE})
        if name == "injection":
            return InjectionPlugin(self._registry)
        kinds: dict[str, type[StackEntry]] = {
            "sentry": SentryPlugin,
            "defer": DeferPlugin,
            "realtime": RealtimePlugin,
            "checkpoint": CheckpointPlugin,
        }
        return kinds[name]()

    @functools.cached_property
    def store(self) -> SQLAlchemyStore:
        """The mirror's database, whose tables are there."""
        self._database.write_bytes(_empty_mirror())
        return SQLAlchemyStore(f"sqlite:///{self._database}")

    def mirrored(self) -> Mapping[str, str]:
        """The status of each run in the mirror, by run id."""
        with contextlib.closing(sqlite3.connect(self._database)) as connection:
            return dict(connection.execute("SELECT run_id, status FROM inngest_runs"))

    def exported(self) -> Iterator[tuple[str, bytes | str]]:
        """Everything that the plugins sent or wrote elsewhere than to the engine, with its name."""
        for envelope in self.transport.envelopes:
            yield "sentry", envelope.serialize()
        for span in self.spans.get_finished_spans():
            yield f"span {span.name}", str(span.to_json())
        metrics = self.reader.get_metrics_data()
        if metrics is not None:
            yield "metrics", str(metrics.to_json())
        for file in sorted(Path(self._folder.name).iterdir()):
            yield file.name, file.read_bytes()
        if "store" in self.__dict__:
            yield from self._pages()

    def _pages(self) -> Iterator[tuple[str, bytes | str]]:
        """What the mirror's page and API show of all runs."""
        everyone = Scope.of_everything()

        async def read() -> tuple[Page, list[RunDetail]]:
            async with self.store.begin(writes=False) as connection:
                page = await read_page(connection, everyone, Filters(), MAX_LIMIT)
                found = [await read_run(connection, everyone, run.run_id) for run in page.runs]
                return page, [detail for detail in found if detail is not None]

        page, details = self.store.ask_sync(read)
        yield "mirror's list", bytes(list_page(page, {}, is_first=True).body)
        for detail in details:
            yield "mirror's page", bytes(run_page(detail, can_steer=True).body)
            yield "mirror's document", json.dumps(detail_document(detail))

    def close(self) -> None:
        """Let go of what is process-wide."""
        self.provider.shutdown()
        self.meters.shutdown()
        sentry_sdk.get_client().close()
        sentry_scope._global_scope = None
        sentry_scope._isolation_scope.set(None)
        sentry_scope._current_scope.set(None)
        if "store" in self.__dict__:
            self.store.close_sync()
        self._folder.cleanup()


@functools.cache
def _empty_mirror() -> bytes:
    """A database with the mirror's tables: they are made once for all tests."""
    with tempfile.TemporaryDirectory(prefix="composition-") as folder:
        file = Path(folder) / "mirror.db"
        store = SQLAlchemyStore(f"sqlite:///{file}")
        store.upgrade_sync()
        store.close_sync()
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()
