"""The options of the transports, checked where they are given."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import httpx

from inngest_plugins.core import ArgumentError

Where: TypeAlias = Literal["app", "engine"]
RetryOn: TypeAlias = Collection[int | type[Exception]]

PAYLOADS: Final = "payloads"
"""The name in `engine_may_see` that allows requests where a plugin keeps payloads secret."""

MAX_BYTES: Final = 2_000_000
"""This many bytes fit into the 4 MB of a step's result, also as base64 and encrypted."""

CREDENTIAL_HEADERS: Final = frozenset(
    ("authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key")
)

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token (RFC 9110, section 5.6.2): anything else fails only when the request is sent."""

_WITH_RETRY_AFTER: Final = frozenset((429,))
_RETRIED_STATUSES: Final = frozenset((502, 503, 504))


@dataclass(frozen=True)
class Options:
    """The options of a transport; see `DurableTransport`.

    Attributes:
        where: who makes the request.
        statuses: those that make the engine try again.
        statuses_with_retry_after: those that do so when the server says when.
        errors: classes of exceptions that make the engine try again.
        max_bytes: the largest response body.
        engine_may_see: names of headers, lower case, and `PAYLOADS`.
        may_store: names of response headers with credentials that are stored all the same.
        credential_headers: names of headers that carry credentials, lower case.
        idempotency_header: the name of that header; None for none.
    """

    where: Where
    statuses: frozenset[int]
    statuses_with_retry_after: frozenset[int]
    errors: tuple[type[Exception], ...]
    max_bytes: int
    engine_may_see: frozenset[str] = field(default_factory=frozenset)
    may_store: frozenset[str] = field(default_factory=frozenset)
    credential_headers: frozenset[str] = CREDENTIAL_HEADERS
    idempotency_header: str | None = "Idempotency-Key"


def check_options(
    owner: str,
    *,
    where: object,
    retry_on: object,
    max_bytes: object,
    engine_may_see: object,
    may_store: object,
    credential_headers: object,
    idempotency_header: object,
) -> Options:
    """Check the options of a transport.

    Raises:
        ArgumentError: an option is of the wrong type, or of the right one and cannot be meant.
    """
    if where not in ("app", "engine"):
        raise ArgumentError(f'{owner}(where=...) is "app" or "engine", not {where!r}')
    if where == "engine" and retry_on is not None:
        raise ArgumentError(
            f'{owner}(retry_on=...) goes with where="app": with where="engine" the engine makes '
            "the request, and repeats it when it gets no response"
        )
    if where == "app" and engine_may_see:
        raise ArgumentError(f'{owner}(engine_may_see=...) goes with where="engine"')
    if not isinstance(max_bytes, int) or isinstance(max_bytes, bool):
        raise ArgumentError(f"{owner}(max_bytes=...) is a number, not {type(max_bytes).__name__}")
    if max_bytes < 0:
        raise ArgumentError(f"{owner}(max_bytes=...) is 0 or more, not {max_bytes}")
    if idempotency_header is not None and not (
        isinstance(idempotency_header, str) and _HEADER_NAME.fullmatch(idempotency_header)
    ):
        raise ArgumentError(f"{owner}(idempotency_header=...) is the name of a header, or None")
    statuses, later, errors = _retried(owner, retry_on)
    return Options(
        where=where,
        statuses=statuses,
        statuses_with_retry_after=later,
        errors=errors,
        max_bytes=max_bytes,
        engine_may_see=_names(owner, "engine_may_see", engine_may_see),
        may_store=_names(owner, "may_store", may_store),
        credential_headers=CREDENTIAL_HEADERS
        | _names(owner, "credential_headers", credential_headers),
        idempotency_header=idempotency_header,
    )


def _names(owner: str, option: str, given: object) -> frozenset[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        raise ArgumentError(f'{owner}({option}=...) is a list of names, such as ["cookie"]')
    names: Collection[Any] = given
    if not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(f'{owner}({option}=...) is a list of names, such as ["cookie"]')
    return frozenset(name.lower() for name in names)


def _retried(
    owner: str, given: object
) -> tuple[frozenset[int], frozenset[int], tuple[type[Exception], ...]]:
    if given is None:
        return _RETRIED_STATUSES, _WITH_RETRY_AFTER, (httpx.TransportError,)
    wanted = f"{owner}(retry_on=...) is a list of statuses and classes of exceptions"
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        raise ArgumentError(wanted)
    statuses: set[int] = set()
    errors: list[type[Exception]] = []
    items: Collection[Any] = given
    for item in items:
        if isinstance(item, type) and issubclass(item, Exception):
            errors.append(item)
        elif isinstance(item, int) and not isinstance(item, bool):
            if not 100 <= item <= 599:
                raise ArgumentError(f"{wanted}; {item} is not a status")
            statuses.add(item)
        else:
            raise ArgumentError(f"{wanted}; it has a {type(item).__name__}")
    return frozenset(statuses), frozenset(), tuple(errors)
