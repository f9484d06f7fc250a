"""The errors the core raises, all under one base class."""

from __future__ import annotations

import sys
from typing import Final

_INDEX: Final = "https://inngest-plugins.github.io/inngest-plugins/errors/"


class PluginsError(Exception):
    """Base of every error that `inngest_plugins` itself raises."""

    @classmethod
    def docs_url(cls) -> str:
        """Return where the documentation says what this error means, and what to do."""
        return f"{_INDEX}#{next(filter(_is_in_the_index, cls.__mro__)).__name__.lower()}"


def _is_in_the_index(kind: type) -> bool:
    if not kind.__module__.startswith("inngest_plugins.") or kind.__name__.startswith("_"):
        return False
    # A class that was made while the program ran is in none of its modules.
    return getattr(sys.modules[kind.__module__], kind.__name__, None) is kind


class ArgumentError(PluginsError, TypeError, ValueError):
    """An argument is none that the function, class or option takes.

    Raised at the line that gives it, where the package has no error of its own for that. It is a
    `TypeError` and a `ValueError`, as Python's own functions raise them.
    """


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
    """A `Call` was used after its request had ended."""


class EngineError(PluginsError):
    """The engine did not do what a request asked for."""


class StaleDispatchError(EngineError):
    """The engine has given this job to another request, which goes on with it (HTTP 409)."""


class RunEndedError(EngineError):
    """The run has ended or was cancelled, or the engine does not know it."""


class OpTooLargeError(EngineError):
    """A step's output, or the run's state with it, is larger than the engine stores (HTTP 413)."""


class EngineApiError(EngineError):
    """The engine's REST API could not be reached, or kept failing.

    Attributes:
        status: the last HTTP status, or None when no answer came at all.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MissingExtraError(PluginsError, ImportError):
    """A plugin was imported although its extra is not installed."""
