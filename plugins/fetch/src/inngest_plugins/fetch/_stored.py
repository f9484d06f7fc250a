"""Responses as the engine stores them: JSON, with binary bodies as base64."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final

import httpx

from inngest_plugins.core import class_name, safe_text

from ._errors import FetchUsageError, ResponseTooLargeError, failed_error
from ._options import Options

Stored = dict[str, Any]

_WITHOUT_BODY: Final = frozenset((204, 304))


class StoredBody:
    """Reads a response's body up to a limit.

    Args:
        response: the response, whose body has not been read.
        limit: bytes.
        is_head: whether it answers a HEAD request.

    Attributes:
        is_too_large: whether there is more. Nothing further needs to be read then.
    """

    def __init__(self, response: httpx.Response, limit: int, *, is_head: bool) -> None:
        self._parts: list[bytes] = []
        self._left = limit
        announced = response.headers.get("content-length", "")
        # An answer to HEAD has the length of the body in its headers, but no body.
        has_body = not (is_head or response.status_code in _WITHOUT_BODY)
        self.is_too_large = has_body and announced.isdecimal() and int(announced) > limit

    def add(self, part: bytes) -> None:
        """Take a part of the body."""
        self._left -= len(part)
        if self._left < 0:
            self.is_too_large = True
        else:
            self._parts.append(part)

    @property
    def body(self) -> bytes:
        """What was read, as it was on the wire: still compressed."""
        return b"".join(self._parts)


def stored_response(response: httpx.Response, read: StoredBody, options: Options) -> Stored:
    """Return the stored form of a response."""
    if read.is_too_large:
        return {"too_large": options.max_bytes}
    stored: Stored = {
        "status": response.status_code,
        "headers": _kept(response.headers.raw, options),
        **_encoded(read.body),
    }
    for name in ("http_version", "reason_phrase"):
        value = response.extensions.get(name)
        if isinstance(value, bytes) and value:
            stored[name] = value.decode("latin-1")
    return stored


def stored_error(error: Exception) -> Stored:
    """Return the stored form of an error that another attempt would not change."""
    return {"error": class_name(error), "message": safe_text(error)}


def response_of(stored: Any, options: Options, step_id: str) -> httpx.Response:
    """Make the response that was stored.

    Raises:
        ResponseTooLargeError: it was too large to store.
        RequestFailedError: there was none.
        FetchUsageError: this is not a stored response.
    """
    if isinstance(stored, dict):
        if "too_large" in stored:
            raise ResponseTooLargeError(
                f"the response to the request of step {step_id!r} has more than "
                f"{stored['too_large']} bytes: make the request inside of a step that stores less, "
                "or raise max_bytes (the engine stores up to 4 MB)"
            )
        if "error" in stored:
            raise failed_error(str(stored["error"]), str(stored.get("message", "")), step_id)
        if "status_code" in stored:
            return _from_gateway(stored, options, step_id)
        if "status" in stored and "headers" in stored:
            return _from_app(stored)
    raise FetchUsageError(
        f"the result of step {step_id!r} is not a response: the id was used for another step "
        'before; give the request an id of its own with extensions={"inngest_step_id": ...}'
    )


def _from_app(stored: Stored) -> httpx.Response:
    extensions: dict[str, Any] = {
        name: str(stored[name]).encode("latin-1")
        for name in ("http_version", "reason_phrase")
        if name in stored
    }
    text = stored.get("text")
    body = base64.b64decode(stored["base64"]) if text is None else str(text).encode()
    headers = [
        (str(name).encode("latin-1"), str(value).encode("latin-1"))
        for name, value in stored["headers"]
    ]
    return _response(int(stored["status"]), headers, body, extensions)


def _from_gateway(stored: Stored, options: Options, step_id: str) -> httpx.Response:
    body = str(stored.get("body") or "").encode()
    if len(body) > options.max_bytes:
        return response_of({"too_large": options.max_bytes}, options, step_id)
    given = stored.get("headers") or {}
    # The stored body is decoded, so these headers no longer fit it.
    gone = {*options.credential_headers - options.may_store, "content-encoding", "content-length"}
    headers = [
        (str(name).encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, values in given.items()
        if str(name).lower() not in gone
        for value in (values if isinstance(values, list) else [values])
    ]
    return _response(int(stored["status_code"]), headers, body, {})


def _response(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, extensions: dict[str, Any]
) -> httpx.Response:
    # Given as a stream, so that every way of reading a response works.
    stream = httpx.ByteStream(body)
    return httpx.Response(status, headers=headers, stream=stream, extensions=extensions)


def _kept(raw: Iterable[tuple[bytes, bytes]], options: Options) -> list[list[str]]:
    secret = options.credential_headers - options.may_store
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
    return [[name, value] for name, value in pairs if name.lower() not in secret]


def _encoded(body: bytes) -> dict[str, str]:
    # Some databases refuse NUL in a text, so it is stored as base64.
    if b"\0" not in body:
        try:
            return {"text": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"base64": base64.b64encode(body).decode()}
