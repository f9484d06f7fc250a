"""HTTP requests as durable steps: a request that was answered is never sent again."""

from inngest_plugins.core import require_calls

from ._errors import (
    CredentialsRefusedError,
    FetchError,
    FetchUsageError,
    RequestFailedError,
    ResponseTooLargeError,
    RetryLaterError,
    StatusRetriedError,
)
from ._fetch import durable_fetch, durable_fetch_sync
from ._transports import DurableTransport, DurableTransportSync

# A transport is not a plugin, and has to work in apps that list none.
require_calls("inngest_plugins.fetch")

__all__ = [
    "CredentialsRefusedError",
    "DurableTransport",
    "DurableTransportSync",
    "FetchError",
    "FetchUsageError",
    "RequestFailedError",
    "ResponseTooLargeError",
    "RetryLaterError",
    "StatusRetriedError",
    "durable_fetch",
    "durable_fetch_sync",
]
