"""Durable fetch: the HTTP requests that ``Gateway`` ops ask the engine to make."""

from __future__ import annotations

import json
import urllib.parse

import anyio.to_thread
import httpx

from inngest_plugins.core import class_name
from inngest_plugins.local._foreign_code import CrashedError, isolated
from inngest_plugins.local.journal.records import Json

GatewayTransport = httpx.AsyncBaseTransport | httpx.BaseTransport
"""Makes requests: ``httpx.AsyncHTTPTransport()`` for the network, ``httpx.MockTransport`` or an
ASGI or WSGI transport for tests."""

_HINT = (
    "LocalEngine makes no requests by itself: pass gateway=httpx.AsyncHTTPTransport() for the "
    "network, or a transport of your own"
)


_TIMEOUT = 7200.0


class GatewayError(Exception):
    """There was no answer. HTTP statuses of 400 and above are answers."""


async def fetch(transport: GatewayTransport | None, opts: dict[str, Json]) -> dict[str, Json]:
    """Make the request of a ``Gateway`` op.

    Args:
        transport: Makes the request; None refuses it.
        opts: ``url``, and optionally ``method``, ``headers`` and ``body`` (a text).

    Returns:
        ``url``, ``headers``, ``body`` and ``status_code``, as they are stored.

    Raises:
        GatewayError: There was no answer.
        TypeError: The opts are malformed.
    """
    if transport is None:
        raise GatewayError(_HINT)
    request = _request(opts)
    try:
        response = await isolated(_send(transport, request))
    except CrashedError as error:
        if isinstance(error.cause, httpx.ConnectError):
            raise GatewayError("Unable to reach SDK URL") from error
        raise GatewayError(f"error performing request: {class_name(error.cause)}") from error
    return {
        "url": str(opts["url"]),
        "headers": _headers(response),
        "body": response.content.decode("utf-8", "replace"),
        "status_code": response.status_code,
    }


def _request(opts: dict[str, Json]) -> httpx.Request:
    url, method = str(opts["url"]), str(opts.get("method") or "POST")
    headers = {str(name): str(value) for name, value in (opts.get("headers") or {}).items()}
    content = _content(opts.get("body"))
    try:
        parsed = httpx.URL(url)
        request = httpx.Request(
            method, parsed, headers={"user-agent": "Inngest", **headers}, content=content
        )
    except (httpx.InvalidURL, UnicodeError) as error:
        raise GatewayError(f"error performing request: {error}") from None
    if parsed.scheme in ("http", "https"):
        return request
    quoted = urllib.parse.quote(url, safe="/:?&=%")
    raise GatewayError(
        f'error performing request: {method.title()} "{quoted}": '
        f'unsupported protocol scheme "{parsed.scheme}"'
    )


async def _send(transport: GatewayTransport, request: httpx.Request) -> httpx.Response:
    if isinstance(transport, httpx.AsyncBaseTransport):
        # The client is not closed: that would close the transport, which is the user's.
        client = httpx.AsyncClient(transport=transport, timeout=_TIMEOUT, follow_redirects=True)
        return await client.send(request)
    sync_client = httpx.Client(transport=transport, timeout=_TIMEOUT, follow_redirects=True)
    return await anyio.to_thread.run_sync(sync_client.send, request, abandon_on_cancel=True)


def _content(body: Json) -> bytes:
    """The body as the server sends it: JSON as it came, any other text as a JSON string."""
    if not body:
        return b""
    if not isinstance(body, str):
        raise TypeError("the body of a Gateway op must be a text")
    text: str = body
    try:
        json.loads(text)
    except ValueError:
        text = json.dumps(text, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _headers(response: httpx.Response) -> dict[str, str]:
    """Headers as Go names them, those of several lines joined, those of the transfer left out."""
    is_encoded = "content-encoding" in response.headers
    dropped = ("content-encoding", "content-length") if is_encoded else ()
    lines: dict[str, list[str]] = {}
    for name, value in response.headers.multi_items():
        if name not in dropped:
            lines.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(
                value
            )
    return {name: ",".join(values) for name, values in lines.items()}
