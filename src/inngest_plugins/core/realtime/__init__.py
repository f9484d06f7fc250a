"""The engine's realtime channels: one way to publish to them and one way to listen."""

from .connection import RealtimeConnection
from .errors import EmbeddedEngineError, RealtimeError
from .messages import (
    MissedMessages,
    RealtimeEvent,
    RealtimeMessage,
    RealtimeTopic,
    RunEnded,
)
from .source import MessageSource, embed_engine, embedded_engine
from .subscription import RealtimeTiming
from .tokens import RealtimeToken

__all__ = [
    "EmbeddedEngineError",
    "MessageSource",
    "MissedMessages",
    "RealtimeConnection",
    "RealtimeError",
    "RealtimeEvent",
    "RealtimeMessage",
    "RealtimeTiming",
    "RealtimeToken",
    "RealtimeTopic",
    "RunEnded",
    "embed_engine",
    "embedded_engine",
]
