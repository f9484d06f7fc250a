"""Deferred functions: work that starts when the run has ended, and is never lost."""

from ._defer import Deferral, defer
from ._errors import (
    DeferConflictError,
    DeferContextError,
    DeferDataError,
    DeferDefinitionError,
    DeferError,
    DeferLimitError,
    DeferSendError,
    DeferUsageError,
    UnknownFunctionError,
)
from ._function import (
    DeferredFunction,
    DeferredTarget,
    deferred_function,
    deferred_function_by_id,
)
from ._plugin import DeferPlugin

__all__ = [
    "DeferConflictError",
    "DeferContextError",
    "DeferDataError",
    "DeferDefinitionError",
    "DeferError",
    "DeferLimitError",
    "DeferPlugin",
    "DeferSendError",
    "DeferUsageError",
    "Deferral",
    "DeferredFunction",
    "DeferredTarget",
    "UnknownFunctionError",
    "defer",
    "deferred_function",
    "deferred_function_by_id",
]
