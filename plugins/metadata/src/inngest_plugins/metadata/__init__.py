"""What a run says about itself while it runs: structured metadata of runs and steps."""

from ._client import MetadataClient, PendingMetadata
from ._errors import (
    MetadataContextError,
    MetadataError,
    MetadataKeyError,
    MetadataLimitError,
    MetadataSendError,
    MetadataTargetError,
    MetadataValueError,
)
from ._limits import Limits
from ._plugin import MetadataPlugin
from ._proxy import Metadata, metadata
from ._subscribe import MessageSource, Snapshot, subscribe, subscribe_stream
from ._targets import OtherMetadata, ScopeMetadata
from ._typed import TypedView

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
