"""Replay-safe OpenTelemetry for Inngest: a run is one trace, and every span is in it once."""

from . import _extra as _extra
from .exporter import InngestSpanExporter
from .logs import RunLogFilter
from .plugin import OpenTelemetryPlugin
from .replay.provider import (
    ReplaySafeIdGenerator,
    ReplaySafeSpanProcessor,
    make_replay_safe,
    replay_safe_provider,
)
from .requests.carrier import CARRIER_KEY

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
