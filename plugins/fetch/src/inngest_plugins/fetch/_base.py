"""The base of the async and the sync transport."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

import httpx
import inngest

from inngest_plugins.core import ArgumentError

from ._diagnosis import remember
from ._errors import FetchError, failed_error
from ._options import MAX_BYTES, RetryOn, Where, check_options
from ._plan import Plan, retry_error
from ._stored import Stored, StoredBody, stored_error

TransportT = TypeVar("TransportT")


class DurableBase(Generic[TransportT]):
    """The options of a transport, and the transport that sends its requests."""

    _inner_type: ClassVar[type[object]]
    _default_type: ClassVar[type[Any]]

    def __init__(
        self,
        transport: TransportT | None = None,
        *,
        where: Where = "app",
        retry_on: RetryOn | None = None,
        max_bytes: int = MAX_BYTES,
        engine_may_see: Collection[str] = (),
        may_store: Collection[str] = (),
        credential_headers: Collection[str] = (),
        idempotency_header: str | None = "Idempotency-Key",
    ) -> None:
        owner = type(self).__name__
        if transport is not None and not isinstance(transport, self._inner_type):
            raise ArgumentError(
                f"{owner}(transport) is an httpx.{self._inner_type.__name__}, not "
                f"{type(transport).__name__}"
            )
        self._options = check_options(
            owner,
            where=where,
            retry_on=retry_on,
            max_bytes=max_bytes,
            engine_may_see=engine_may_see,
            may_store=may_store,
            credential_headers=credential_headers,
            idempotency_header=idempotency_header,
        )
        remember(self, self._options)
        self._given_transport: TransportT | None = transport
        self._own_transport: Any = None

    @property
    def _inner(self) -> TransportT:
        if self._given_transport is not None:
            return self._given_transport
        if self._own_transport is None:
            # Made on first use: it loads certificates, and a replay sends nothing.
            self._own_transport = self._default_type()
        made: TransportT = self._own_transport
        return made

    def _begin(self, response: httpx.Response, made: Plan) -> StoredBody:
        """Check the status of a response, and prepare to read its body.

        Raises:
            Exception: an error with which the engine tries again.
        """
        error = retry_error(response, self._options, made)
        if error is not None:
            raise error
        return StoredBody(response, self._options.max_bytes, is_head=made.given.method == "HEAD")

    def _stored_or_raised(self, error: Exception) -> Stored:
        """Return the stored form of an error, or raise it: the engine tries again."""
        if isinstance(error, (FetchError, inngest.RetryAfterError, *self._options.errors)):
            raise error
        return stored_error(error)


@contextmanager
def as_httpx_errors(made: Plan) -> Iterator[None]:
    """Raise the step's errors as the errors that users of httpx expect."""
    try:
        yield
    except inngest.StepError as err:
        raise failed_error(err.name, err.message, made.step_id) from err
    except inngest.RetryAfterError as err:
        # A library that catches every exception would repeat the request: this ends it anyway.
        made.call.failure = err
        raise
