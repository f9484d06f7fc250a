"""The plugins around the shop's functions, and what they export to. All of it is set by variables.

| variable | |
|---|---|
| `SHOP_KEYS` | encryption keys, the one that seals first: `inngest-plugins keys new` |
| `SHOP_DATABASE` | the shop's database, as `postgresql+asyncpg://...` |
| `INNGEST_MIRROR_URL` | the mirror's database |
| `SENTRY_DSN` | where errors go; nowhere without it |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | where traces and metrics go; nowhere without it |
"""

from __future__ import annotations

import os
from typing import Any

import sentry_sdk
import svcs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from inngest_plugins.ai import AIPlugin
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, StackEntry
from inngest_plugins.defer import DeferPlugin
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.injection import InjectionPlugin
from inngest_plugins.metadata import MetadataPlugin
from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore
from inngest_plugins.otel import OpenTelemetryPlugin, replay_safe_provider
from inngest_plugins.realtime import RealtimePlugin
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

from . import events
from .orders import Orders


def branch_of(call: Call) -> str | None:
    """Whose run it is: each branch of the shop sees its own on the mirror's page."""
    data: Any = call.event.data
    if call.event.name == "inngest/function.failed":
        data = data["event"]["data"]
    branch = data.get("branch")
    return branch if isinstance(branch, str) else None


def telemetry() -> OpenTelemetryPlugin:
    """Export traces and metrics over OTLP, if there is a collector."""
    tracers = replay_safe_provider()
    readers: list[PeriodicExportingMetricReader] = []
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    return OpenTelemetryPlugin(tracer_provider=tracers, meter_provider=MeterProvider(readers))


def plugins(orders: Orders, store: SQLAlchemyStore) -> list[StackEntry]:
    """All plugins; layers put them in order. The agent and durable fetch need none."""
    # Sentry takes SENTRY_DSN, SENTRY_RELEASE and SENTRY_ENVIRONMENT from the environment.
    sentry_sdk.init()
    registry = svcs.Registry()
    registry.register_value(Orders, orders, ping=Orders.ping)
    return [
        AIPlugin(),
        # A request ends after five seconds, so that a worker that is replaced can finish it.
        CheckpointPlugin(max_runtime=5),
        DeferPlugin(),
        EncryptionPlugin(KeyRing.from_env("SHOP_KEYS"), event_fields=("customer", "payment")),
        InjectionPlugin(registry),
        MetadataPlugin(),
        MirrorPlugin(store, tenant=branch_of, store_fields=["event.order_id"]),
        telemetry(),
        RealtimePlugin(),
        SentryPlugin(),
        ValidationPlugin(events=events.ALL),
    ]
