"""Replay-safe OpenTelemetry for Inngest: a run is one trace, and every span is in it once."""

from inngest_plugins.core import require_extra

require_extra("otel", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")

from ._carrier import CARRIER_KEY  # noqa: E402 - after the check for the extra
from ._exporter import InngestSpanExporter  # noqa: E402
from ._logs import RunLogFilter  # noqa: E402
from ._plugin import OpenTelemetryPlugin  # noqa: E402
from ._provider import (  # noqa: E402
    ReplaySafeIdGenerator,
    ReplaySafeSpanProcessor,
    make_replay_safe,
    replay_safe_provider,
)

__all__ = [
    "CARRIER_KEY",
    "InngestSpanExporter",
    "OpenTelemetryPlugin",
    "ReplaySafeIdGenerator",
    "ReplaySafeSpanProcessor",
    "RunLogFilter",
    "make_replay_safe",
    "replay_safe_provider",
]
