"""What can go wrong with realtime channels."""

from __future__ import annotations

from inngest_plugins.core.base.errors import PluginsError


class RealtimeError(PluginsError):
    """The engine did not take a message, refused a subscription, or could not be reached.

    Attributes:
        status: the HTTP status that the engine answered, or None when no answer came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class EmbeddedEngineError(RealtimeError):
    """The client is driven by an engine in this process, which has no socket to connect to."""


class NoEventStreamError(Exception):
    """The server has no endpoint for server-sent events. Never leaves this package."""


class ConnectionLostError(Exception):
    """A connection could not be opened, or broke. Never leaves this package."""
