"""Connections to the server's realtime API: server-sent events, or a WebSocket where it has none.

Server-sent events from `GET /v1/realtime/sse` need nothing but an HTTP client. Servers older than
that endpoint (January 2026) have the WebSocket at `/v1/realtime/connect` alone; for those the
`websockets` package is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol
from urllib.parse import urljoin

import httpx

from .errors import ConnectionLostError, NoEventStreamError, RealtimeError
from .tokens import RealtimeToken, describe

_CONNECT_SECONDS: Final = 10.0
# The server sends a comment every 30 s; a connection that is silent for longer than this is dead.
_SILENCE_SECONDS: Final = 75.0
_NO_ENDPOINT: Final = frozenset(
    {httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED}
)


class Transport(Protocol):
    """Opens a connection; entering it means that the server knows the subscription."""

    def __call__(
        self, origin: str, token: RealtimeToken
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Open a connection.

        Args:
            origin: the API's origin.
            token: names the topics.

        Raises:
            NoEventStreamError: the server has no such endpoint.
            ConnectionLostError: the connection could not be opened, or broke.
            RealtimeError: the server refused it.
        """
        ...


@contextlib.asynccontextmanager
async def server_sent_events(
    origin: str, token: RealtimeToken
) -> AsyncIterator[AsyncIterator[str]]:
    """Open a stream of server-sent events and yield the data of each (WHATWG HTML, 9.2)."""
    timeout = httpx.Timeout(_CONNECT_SECONDS, read=_SILENCE_SECONDS)
    headers = {"Authorization": f"Bearer {token.jwt}", "Accept": "text/event-stream"}
    try:
        async with (
            httpx.AsyncClient(timeout=timeout) as http,
            http.stream("GET", urljoin(origin, "/v1/realtime/sse"), headers=headers) as response,
        ):
            if response.status_code in _NO_ENDPOINT:
                raise NoEventStreamError
            if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                raise ConnectionLostError(f"the engine answered {response.status_code}")
            if response.status_code != httpx.codes.OK:
                raise RealtimeError(
                    f"the engine refused the subscription with {response.status_code}: "
                    f"{describe(token.topics)}",
                    status=response.status_code,
                )
            yield _event_data(response)
    except httpx.TransportError as err:
        raise ConnectionLostError(type(err).__name__) from err


async def _event_data(response: httpx.Response) -> AsyncIterator[str]:
    data: list[str] = []
    async for line in response.aiter_lines():
        if not line and data:
            yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


@contextlib.asynccontextmanager
async def websocket(origin: str, token: RealtimeToken) -> AsyncIterator[AsyncIterator[str]]:
    """Open a WebSocket and yield its text messages."""
    try:
        import websockets
    except ImportError as err:
        raise RealtimeError(
            "this server has no server-sent events, and its WebSocket needs the websockets "
            "package: pip install websockets"
        ) from err
    http = httpx.URL(urljoin(origin, "/v1/realtime/connect"))
    url = http.copy_with(scheme="wss" if http.scheme == "https" else "ws")
    try:
        async with websockets.connect(str(url.copy_set_param("token", token.jwt))) as connection:

            async def texts() -> AsyncIterator[str]:
                async for message in connection:
                    if isinstance(message, str):
                        yield message

            yield texts()
    except (OSError, websockets.WebSocketException) as err:
        raise ConnectionLostError(type(err).__name__) from err
