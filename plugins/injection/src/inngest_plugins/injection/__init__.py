"""Services for functions: opened only where code runs, always closed, never serialised."""

from inngest_plugins.core import require_calls

from ._errors import (
    AsyncServiceError,
    InjectedValueError,
    InjectionContextError,
    InjectionError,
    ScopeEndedError,
    UnregisteredServiceError,
)
from ._get import aget, get
from ._plugin import InjectionPlugin

# An app that forgot the plugin gets an error that says so, also when it has no other plugin.
require_calls("inngest_plugins.injection")

__all__ = [
    "AsyncServiceError",
    "InjectedValueError",
    "InjectionContextError",
    "InjectionError",
    "InjectionPlugin",
    "ScopeEndedError",
    "UnregisteredServiceError",
    "aget",
    "get",
]
