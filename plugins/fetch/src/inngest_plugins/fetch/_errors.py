"""The errors of this package, and how they are httpx errors too, which libraries catch."""

from __future__ import annotations

import functools
from typing import cast

import httpx
import inngest

from inngest_plugins.core import PluginsError


class FetchError(PluginsError):
    """Base of everything that this package raises."""


class FetchUsageError(FetchError, inngest.NonRetriableError):
    """The transport does not fit the function, or a request cannot be made durable."""


class CredentialsRefusedError(FetchUsageError):
    """With `where="engine"` the engine would see what it must not see."""


class ResponseTooLargeError(FetchError, inngest.NonRetriableError):
    """A response has more than `max_bytes` bytes. It is not stored; the request is not repeated."""


class StatusRetriedError(FetchError):
    """The response's status makes the engine try the request again."""


class RetryLaterError(FetchError, inngest.RetryAfterError):
    """The server said when the engine shall try the request again."""


class RequestFailedError(FetchError, inngest.StepError):
    """A request failed for good: the engine has no attempt left, or none would help.

    What is raised is also an `httpx.TransportError`, of the class that the request failed with, so
    that code and libraries find what they look for (`except httpx.ConnectError`).
    """


def failed_error(name: str, message: str, step_id: str) -> Exception:
    """Make the error of a request that failed for good.

    Args:
        name: the name of the class of the transport's error.
        message: its text.
        step_id: the step of the request.
    """
    kind = getattr(httpx, name, None)
    if not (isinstance(kind, type) and issubclass(kind, httpx.TransportError)):
        kind = httpx.TransportError
        message = f"{name}: {message}" if message else name
    return _class_of(kind)(f"request of step {step_id!r} failed: {message}", name, None)


@functools.cache
def _class_of(kind: type[httpx.TransportError]) -> type[RequestFailedError]:
    def __init__(self: RequestFailedError, message: str, name: str, stack: str | None) -> None:  # noqa: N807
        httpx.TransportError.__init__(cast("httpx.TransportError", self), message)
        inngest.StepError.__init__(self, message, name, stack)

    made = type(kind.__name__, (RequestFailedError, kind), {"__init__": __init__})
    return cast("type[RequestFailedError]", made)
