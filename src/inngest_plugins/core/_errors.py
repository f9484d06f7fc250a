"""The errors the core raises, all under one base class."""

from __future__ import annotations


class PluginsError(Exception):
    """Base of every error that `inngest_plugins` itself raises."""


class HookDefinitionError(PluginsError, TypeError):
    """A plugin class is written wrongly: a misspelt hook, a wrong signature, an unknown layer.

    Raised when the class is defined (or, for `Hooks`, when the decorator is applied), so that the
    mistake shows at import and not in the middle of a run.
    """


class RegistrationError(PluginsError):
    """Plugins that are each well written cannot work together as they were registered.

    The same plugin object listed twice is the common case.
    """


class CallEndedError(PluginsError, RuntimeError):
    """Something was asked of a `Call` whose request is already over."""


class EngineApiError(PluginsError):
    """The engine's REST API could not be reached, or kept failing.

    Attributes:
        status: the last HTTP status, or None when no answer came at all.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MissingExtraError(PluginsError, ImportError):
    """A plugin was imported although its extra is not installed."""
