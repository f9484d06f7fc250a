"""Structured metadata of runs and steps, updated while the run runs."""

from typing import TYPE_CHECKING

import inngest_plugins.core

from ._client import MetadataClient, PendingMetadata
from ._current import Metadata, OtherMetadata, ScopeMetadata, metadata
from ._errors import (
    MetadataContextError,
    MetadataError,
    MetadataKeyError,
    MetadataLimitError,
    MetadataSendError,
    MetadataTargetError,
    MetadataValueError,
)
from ._live import Snapshot, subscribe, subscribe_stream
from ._plugin import MetadataPlugin
from ._typed import TypedView
from ._values import Limits

if TYPE_CHECKING:
    from inngest_plugins.core import MessageSource

__all__ = [
    "Limits",
    "MessageSource",
    "Metadata",
    "MetadataClient",
    "MetadataContextError",
    "MetadataError",
    "MetadataKeyError",
    "MetadataLimitError",
    "MetadataPlugin",
    "MetadataSendError",
    "MetadataTargetError",
    "MetadataValueError",
    "OtherMetadata",
    "PendingMetadata",
    "ScopeMetadata",
    "Snapshot",
    "TypedView",
    "metadata",
    "subscribe",
    "subscribe_stream",
]


def __getattr__(name: str) -> object:
    # Imported on first use: only subscribers need realtime, which is a third of the import time.
    if name == "MessageSource":
        return inngest_plugins.core.MessageSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
