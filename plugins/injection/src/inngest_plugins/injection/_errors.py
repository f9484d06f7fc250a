"""The errors of this plugin."""

from __future__ import annotations

import inngest

from inngest_plugins.core import PluginsError


class InjectionError(PluginsError):
    """Base of everything this plugin raises."""


class InjectionContextError(InjectionError, RuntimeError):
    """A service was requested outside of a run, or where no `InjectionPlugin` is registered."""


class ScopeEndedError(InjectionError, RuntimeError):
    """A service was requested after its step or its request had ended: nothing would close it."""


class UnregisteredServiceError(InjectionError, LookupError):
    """The registry knows no factory for the type."""


class AsyncServiceError(InjectionError, TypeError):
    """The type's factory is async, and the code that asks is not."""


class InjectedValueError(InjectionError, inngest.NonRetriableError):
    """An injected object was about to be serialised, as a result or as an invoke's data."""
