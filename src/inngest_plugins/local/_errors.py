"""The errors of the engine itself (a run that fails does not raise, it has a status)."""

from __future__ import annotations

from inngest_plugins.core import PluginsError


class LocalEngineError(PluginsError):
    """The engine cannot do what a caller wants. The message says what to change."""


class JournalError(LocalEngineError):
    """The journal file cannot be used: another process has it, or it is not ours."""
