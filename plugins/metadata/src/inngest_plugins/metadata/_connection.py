"""A connection to the server's realtime API, as a sequence of messages.

Server-sent events from `GET /v1/realtime/sse` need nothing but an HTTP client. Servers older than
that endpoint (January 2026) only have the WebSocket at `/v1/realtime/connect`, which the TypeScript
SDK uses; for those the `websockets` package is needed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import urljoin

import httpx
import inngest

from ._errors import MetadataSendError

_CONNECT_SECONDS: Final = 10.0
# The server sends a comment every 15 s; a connection silent for longer than this is dead.
_SILENCE_SECONDS: Final = 60.0
_MISSING: Final = frozenset(
    {httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED}
)


class NoEventStreamError(Exception):
    """The server has no endpoint for server-sent events."""


class ConnectionLostError(Exception):
    """A WebSocket could not be opened, or broke."""


async def server_sent_events(client: inngest.Inngest, token: str) -> AsyncGenerator[str, None]:
    """Yield the data of each server-sent event (WHATWG HTML, section 9.2).

    Args:
        client: whose engine.
        token: names the topics.

    Raises:
        NoEventStreamError: the server has no such endpoint.
        MetadataSendError: it refused the token.
        httpx.TransportError: the connection was lost.
    """
    timeout = httpx.Timeout(_CONNECT_SECONDS, read=_SILENCE_SECONDS)
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    url = urljoin(client.api_origin, "/v1/realtime/sse")
    async with (
        httpx.AsyncClient(timeout=timeout) as http,
        http.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code in _MISSING:
            raise NoEventStreamError
        if response.status_code != httpx.codes.OK:
            raise MetadataSendError(
                f"the engine refused the subscription with {response.status_code}"
            )
        data: list[str] = []
        async for line in response.aiter_lines():
            if not line and data:
                yield "\n".join(data)
                data = []
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))


async def websocket_messages(client: inngest.Inngest, token: str) -> AsyncGenerator[str, None]:
    """Yield the messages of a WebSocket; the arguments are those of `server_sent_events`.

    Raises:
        MetadataSendError: the `websockets` package is not installed.
        ConnectionLostError: the connection could not be opened, or broke.
    """
    try:
        import websockets
    except ImportError as err:
        raise MetadataSendError(
            "this server has no server-sent events, and following a run over its WebSocket needs "
            "the websockets package: pip install websockets"
        ) from err
    http = httpx.URL(urljoin(client.api_origin, "/v1/realtime/connect"))
    url = http.copy_with(scheme="wss" if http.scheme == "https" else "ws")
    try:
        async with websockets.connect(str(url.copy_set_param("token", token))) as connection:
            async for message in connection:
                if isinstance(message, str):
                    yield message
    except (OSError, websockets.WebSocketException) as err:
        raise ConnectionLostError(type(err).__name__) from err
