"""`instrument`: a model client that reports its calls and keeps to the budgets."""

from __future__ import annotations

import functools
import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, TypeVar

from inngest_plugins.core import ArgumentError, class_name

from .exchange import Exchange

ClientT = TypeVar("ClientT")


def instrument(client: ClientT) -> ClientT:
    """Return a copy of a model client whose calls are counted and kept within the budgets.

    Inside of a run each call is counted when its answer, or its stream, ends, also a stream that
    is broken off. Outside of a run the copy does what the client does. Only token counts, the
    model's name and the answer's id are taken from an answer.

    The copy is made by the client's own `with_options(http_client=...)`; its requests go through
    the client's own HTTP client, with its proxies and limits. Closing either closes both.

    Args:
        client: an `OpenAI`, `AsyncOpenAI`, `Anthropic` or `AsyncAnthropic`, or another client of
            the same build; or an `httpx.Client` or `httpx.AsyncClient`, for a client that takes
            one.

    Returns:
        The copy.

    Raises:
        ArgumentError: the client is none of these.
    """
    any_client: Any = client
    inner = any_client if _library_of(any_client) else getattr(any_client, "_client", None)
    library = _library_of(inner)
    if library is None or (inner is not client and not hasattr(client, "with_options")):
        raise ArgumentError(
            f"instrument(...) takes a client of OpenAI or Anthropic or an HTTP client of httpx, "
            f"not {class_name(client)}. Use usage.record_response(response) with others"
        )
    outer = _outer(library, inner)
    if inner is client:
        return outer  # type: ignore[no-any-return]
    return any_client.with_options(http_client=outer)  # type: ignore[no-any-return]


def _library_of(client: object) -> str | None:
    """Return the name of the HTTP library: newer model clients use `httpx2`."""
    for base in type(client).__mro__:
        if base.__name__ in ("Client", "AsyncClient"):
            name = base.__module__.partition(".")[0]
            if name in ("httpx", "httpx2"):
                return name
    return None


def _outer(library: str, inner: Any) -> Any:
    module: Any = importlib.import_module(library)
    sync_transport, async_transport, _ = _classes(library)
    options = {
        "base_url": inner.base_url,
        "timeout": inner.timeout,
        "headers": inner.headers,
        "params": inner.params,
        "cookies": inner.cookies,
        "trust_env": False,
        "follow_redirects": False,
    }
    if isinstance(inner, module.AsyncClient):
        return module.AsyncClient(transport=async_transport(inner), **options)
    return module.Client(transport=sync_transport(inner), **options)


class _ForwardingTransport:
    """Sends requests through another client and watches the answers to those of a run."""

    library: Any

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def handle_request(self, request: Any) -> Any:
        exchange = Exchange.begin(request.method, request.url.host)
        held = ExitStack()
        try:
            if exchange is not None:
                held.enter_context(exchange.enforcement.call_sync())
                held.callback(exchange.ended)
            response = self._inner.send(request, stream=True)
            return _watched(self.library, response, exchange, held)
        except BaseException:
            held.close()
            raise

    def close(self) -> None:
        self._inner.close()


class _AsyncForwardingTransport:
    """The same for an async client."""

    library: Any

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def handle_async_request(self, request: Any) -> Any:
        exchange = Exchange.begin(request.method, request.url.host)
        held = AsyncExitStack()
        try:
            if exchange is not None:
                await held.enter_async_context(exchange.enforcement.call())
                held.callback(exchange.ended)
            response = await self._inner.send(request, stream=True)
            return _watched(self.library, response, exchange, held)
        except BaseException:
            await held.aclose()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body:
    """The body of another client's response, watched as it passes by."""

    def __init__(self, response: Any, exchange: Exchange | None, held: Any) -> None:
        self._response = response
        self._watch = _ignore if exchange is None else exchange.passed
        self._held = held

    def __iter__(self) -> Iterator[bytes]:
        for data in self._response.iter_bytes():
            self._watch(data)
            yield data

    def close(self) -> None:
        try:
            self._response.close()
        finally:
            self._held.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._response.aiter_bytes():
            self._watch(data)
            yield data

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        finally:
            await self._held.aclose()


def _ignore(_data: bytes) -> None:
    """Outside of a run."""


@functools.cache
def _classes(library: str) -> tuple[Any, Any, Any]:
    """Return the transports and the body as an HTTP library's own classes."""
    http: Any = importlib.import_module(library)
    own = {"library": http}
    return (
        type("UsageTransport", (_ForwardingTransport, http.BaseTransport), own),
        type("AsyncUsageTransport", (_AsyncForwardingTransport, http.AsyncBaseTransport), own),
        type("UsageBody", (_Body, http.SyncByteStream, http.AsyncByteStream), own),
    )


_BODY_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _watched(http: Any, response: Any, exchange: Exchange | None, held: Any) -> Any:
    """Return a copy of a response; the other client has decoded its body already."""
    if exchange is not None:
        exchange.answered(response.status_code, response.headers.get("content-type", ""))
    headers = response.headers.multi_items()
    plain = [(name, value) for name, value in headers if name.lower() not in _BODY_HEADERS]
    body = _classes(http.__name__)[2](response, exchange, held)
    return http.Response(
        response.status_code, headers=plain, stream=body, extensions=response.extensions
    )
