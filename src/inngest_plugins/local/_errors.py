"""What can go wrong with the engine itself (runs that fail do not raise, they have a status)."""

from __future__ import annotations


class LocalEngineError(Exception):
    """The engine cannot do what it was asked to do. The message says what to change."""


class JournalError(LocalEngineError):
    """The journal file cannot be used: another process has it, or it is not ours."""
