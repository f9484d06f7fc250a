"""What the async and the sync transport have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

import httpx
import inngest

from ._diagnosis import note
from ._errors import FetchError, failed
from ._options import MAX_BYTES, RetryOn, Where, check_options
from ._plan import Plan, retried
from ._stored import Stored, StoredBody, stored_error

TransportT = TypeVar("TransportT")


class Configured(Generic[TransportT]):
    """The options of a transport, and the transport that sends its requests."""

    _takes: ClassVar[type[object]]
    _sender: ClassVar[type[Any]]

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
        if transport is not None and not isinstance(transport, self._takes):
            raise TypeError(
                f"{owner}(transport) is an httpx.{self._takes.__name__}, not "
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
        note(self, self._options)
        self._given: TransportT | None = transport
        self._made: Any = None

    @property
    def _inner(self) -> TransportT:
        if self._given is not None:
            return self._given
        if self._made is None:
            # Not before: it loads certificates, and a replay sends nothing.
            self._made = self._sender()
        made: TransportT = self._made
        return made

    def _begin(self, response: httpx.Response, made: Plan) -> StoredBody:
        """Look at a response whose body has not been read.

        Raises:
            Exception: what makes the engine try again.
        """
        error = retried(response, self._options, made)
        if error is not None:
            raise error
        return StoredBody(response, self._options.max_bytes, is_head=made.given.method == "HEAD")

    def _judge(self, error: Exception) -> Stored:
        """Return the stored form of an error, or raise it: the engine tries again."""
        if isinstance(error, (FetchError, *self._options.errors)):
            raise error
        return stored_error(error)


@contextmanager
def as_httpx_errors(made: Plan) -> Iterator[None]:
    """Turn the step's result into what users of httpx expect."""
    try:
        yield
    except inngest.StepError as err:
        raise failed(err.name, err.message, made.step_id) from err
    except inngest.RetryAfterError as err:
        # A library that catches everything would take it for its own, and repeat the request.
        made.call.failure = err
        raise
