"""In-process HTTP from the SDK and plugins to the engine's API."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from inngest_plugins.local._errors import LocalEngineError

from .http import ApiRequest, ApiResponse

if typing.TYPE_CHECKING:
    import inngest


class EngineTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An httpx transport that ends in the engine's API instead of a socket.

    Works from any thread and any event loop: the API runs on the engine's own loop thread, and
    whoever calls from elsewhere waits for it. It answers for every host; whoever uses it decides
    which requests go through it.

    Args:
        handle: The API. Never waits.
        loop: The engine's event loop.
    """

    def __init__(
        self, handle: Callable[[ApiRequest], ApiResponse], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._handle = handle
        self._loop = loop
        self._thread = threading.get_ident()
        self._closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of a sync client."""
        body = request.read()
        if threading.get_ident() == self._thread:
            return self._answer(request, body)
        return self._submit(request, body).result()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of an async client."""
        body = await request.aread()
        if threading.get_ident() == self._thread:
            return self._answer(request, body)
        return await asyncio.wrap_future(self._submit(request, body))

    def shut(self) -> None:
        """Answer no more: the engine has gone."""
        self._closed = True

    def _submit(
        self, request: httpx.Request, body: bytes
    ) -> concurrent.futures.Future[httpx.Response]:
        future: concurrent.futures.Future[httpx.Response] = concurrent.futures.Future()

        def answer() -> None:
            try:
                future.set_result(self._answer(request, body, from_thread=True))
            except BaseException as error:
                future.set_exception(error)

        if self._closed:
            raise httpx.ConnectError("the LocalEngine has been closed", request=request)
        # The caller's context says on whose behalf it calls.
        self._loop.call_soon_threadsafe(answer, context=contextvars.copy_context())
        return future

    def _answer(
        self, request: httpx.Request, body: bytes, *, from_thread: bool = False
    ) -> httpx.Response:
        if self._closed:
            raise httpx.ConnectError("the LocalEngine has been closed", request=request)
        response = self._handle(
            ApiRequest(
                method=request.method,
                path=request.url.path,
                query=dict(request.url.params),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=body,
                from_thread=from_thread,
            )
        )
        return httpx.Response(
            response.status,
            headers={"content-type": response.content_type, "x-inngest-server-kind": "dev"},
            content=response.body,
            request=request,
        )


@contextmanager
def redirected(client: inngest.Inngest, transport: EngineTransport) -> Iterator[None]:
    """Send the client's HTTP to the engine: registration, events, ``use_api``, realtime.

    The SDK has no public argument for its HTTP clients. They are found by their type, wherever
    the client keeps them, and only their public ``send`` is replaced, on the instance, for
    requests to the client's API origins; everything else goes where it went. On exit they are as
    they were.

    Raises:
        LocalEngineError: Another engine drives the client, or it holds no HTTP clients.
    """
    sync_clients, async_clients = http_clients(client)
    if not sync_clients or not async_clients:
        raise LocalEngineError("this inngest.Inngest client holds no httpx clients to redirect")
    origins = {httpx.URL(origin).netloc for origin in (client.api_origin, client.event_api_origin)}
    sync_engine = httpx.Client(transport=transport)
    async_engine = httpx.AsyncClient(transport=transport)

    def wrap_sync(original: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
        def send(request: httpx.Request, **options: typing.Any) -> httpx.Response:
            is_ours = request.url.netloc in origins
            return (sync_engine.send if is_ours else original)(request, **options)

        return send

    def wrap_async(
        original: Callable[..., typing.Awaitable[httpx.Response]],
    ) -> Callable[..., typing.Awaitable[httpx.Response]]:
        async def send(request: httpx.Request, **options: typing.Any) -> httpx.Response:
            is_ours = request.url.netloc in origins
            return await (async_engine.send if is_ours else original)(request, **options)

        return send

    every: list[typing.Any] = [*sync_clients, *async_clients]
    if any("send" in vars(http_client) for http_client in every):
        raise LocalEngineError(
            f"another LocalEngine drives the client of app {client.app_id!r}; close it first"
        )
    for sync_client in sync_clients:
        vars(sync_client)["send"] = wrap_sync(sync_client.send)
    for async_client in async_clients:
        vars(async_client)["send"] = wrap_async(async_client.send)
    try:
        yield
    finally:
        for http_client in every:
            vars(http_client).pop("send", None)


def http_clients(
    client: inngest.Inngest,
) -> tuple[list[httpx.Client], list[httpx.AsyncClient]]:
    """Every httpx client that the client holds, directly or in one of its attributes."""
    held: list[typing.Any] = list(vars(client).values())
    for value in list(held):
        # One level down is enough: the SDK wraps its httpx clients in one object of its own.
        if type(value).__module__.partition(".")[0] == "inngest" and hasattr(value, "__dict__"):
            held.extend(vars(value).values())
    return (
        [value for value in held if isinstance(value, httpx.Client)],
        [value for value in held if isinstance(value, httpx.AsyncClient)],
    )
