"""The errors of this plugin: at the call of `defer`, and when deferrals are sent."""

from __future__ import annotations

import inngest

from inngest_plugins.core import PluginsError


class DeferError(PluginsError):
    """Base of everything that this package raises."""


class DeferUsageError(DeferError, inngest.NonRetriableError):
    """Something cannot be deferred, and another attempt would not change that."""


class DeferContextError(DeferUsageError, RuntimeError):
    """Used outside of a run, without a `DeferPlugin`, or when the request had been answered."""


class UnknownFunctionError(DeferUsageError, LookupError):
    """What was deferred is not a deferred function, or the app does not serve it."""


class DeferDataError(DeferUsageError, ValueError):
    """The data does not fit the function's schema, or is not a JSON object."""


class DeferConflictError(DeferUsageError, ValueError):
    """An id was used before in the run, for another function or with other data."""


class DeferLimitError(DeferUsageError):
    """The engine would drop it: too many deferrals in one run, or too much data in them."""


class DeferSendError(DeferError):
    """The engine did not take what was deferred: the request fails, and is tried again."""


class DeferDefinitionError(DeferError, TypeError):
    """A deferred function is defined wrongly."""
