"""The transports: each request of a function's body is a step."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import Any, cast

import httpx
import inngest

from ._base import DurableBase, as_httpx_errors
from ._plan import Plan, gateway_opts, plan
from ._stored import Stored, response_of, stored_response


class DurableTransport(DurableBase[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport):
    """Makes each request of an async function's body a step; for `httpx.AsyncClient(transport=)`.

    A request that was answered is never sent again: its response is stored, and given back on every
    replay. Inside of a step, in hooks and outside of a run requests pass through.

    The step's id is made of method, host and path; `extensions={"inngest_step_id": ...}` of a
    request gives it another one. Ids that are used again are counted.

    Args:
        transport: sends the requests; by default an `httpx.AsyncHTTPTransport` that is made at the
            first request.
        where: "app": the app makes the request inside of a step. "engine": the engine makes it,
            while the app may sleep; it sees URL, headers and body, sends JSON bodies only, and
            gives back text.
        retry_on: statuses and classes of exceptions that make the engine try the request again. By
            default transport errors, 502, 503, 504, and 429 when the server says when. Other
            responses are data, and at the last attempt every response is.
        max_bytes: the largest response body in bytes, compressed as it came.
        engine_may_see: names of headers with credentials that the engine may see with
            `where="engine"`, and "payloads" where a plugin keeps payloads secret.
        may_store: names of response headers with credentials that are stored all the same.
        credential_headers: further names of headers that carry credentials, besides authorization,
            cookie, proxy-authorization, set-cookie and x-api-key.
        idempotency_header: the header in which requests with unsafe methods get a key that is the
            same whenever the step is tried, unless they have one; None for none.

    Raises:
        TypeError: an option is of the wrong type.
        ValueError: an option that cannot be meant, or one that has no effect with this `where`.

    Example:
        ```python
        async with httpx.AsyncClient(transport=DurableTransport()) as http:
            response = await http.get("https://api.example.com/weather")
        ```
    """

    _inner_type = httpx.AsyncBaseTransport
    _default_type = httpx.AsyncHTTPTransport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, or return its stored response."""
        made = plan(request, is_async=True)
        if made is None:
            return await self._inner.handle_async_request(request)
        with as_httpx_errors(made):
            if self._options.where == "engine":
                stored = await self._at_the_engine(made)
            else:
                ctx = cast("inngest.Context", made.call.ctx)
                stored = await ctx.step.run(made.step_id, self._send, made)
        return response_of(stored, self._options, made.step_id)

    async def _send(self, made: Plan) -> Stored:
        """The step's handler."""
        try:
            response = await self._inner.handle_async_request(made.request(self._options))
            try:
                body = self._begin(response, made)
                if not body.is_too_large:
                    async for part in cast("AsyncIterable[bytes]", response.stream):
                        body.add(part)
                        if body.is_too_large:
                            break
            finally:
                await response.aclose()
        except Exception as err:
            return self._stored_or_raised(err)
        return stored_response(response, body, self._options)

    async def _at_the_engine(self, made: Plan) -> Any:
        request = made.request(self._options)
        body = [part async for part in cast("AsyncIterable[bytes]", request.stream)]
        opts = gateway_opts(made, request, b"".join(body), self._options)
        return await made.call.engine.run_op(made.step_id, op="Gateway", opts=opts)

    async def __aenter__(self) -> DurableTransport:
        if self._given_transport is not None:
            await self._given_transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._given_transport is not None:
            await self._given_transport.__aexit__(exc_type, exc_value, traceback)
        await self._close_made()

    async def aclose(self) -> None:
        """Close the transport that sends the requests."""
        if self._given_transport is not None:
            await self._given_transport.aclose()
        await self._close_made()

    async def _close_made(self) -> None:
        made, self._own_transport = self._own_transport, None
        if made is not None:
            await made.aclose()


class DurableTransportSync(DurableBase[httpx.BaseTransport], httpx.BaseTransport):
    """Makes each request of a sync function's body a step; for `httpx.Client(transport=)`.

    It has the arguments of `DurableTransport`; `transport` is a sync one.

    Example:
        ```python
        with httpx.Client(transport=DurableTransportSync()) as http:
            response = http.get("https://api.example.com/weather")
        ```
    """

    _inner_type = httpx.BaseTransport
    _default_type = httpx.HTTPTransport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, or return its stored response."""
        made = plan(request, is_async=False)
        if made is None:
            return self._inner.handle_request(request)
        with as_httpx_errors(made):
            if self._options.where == "engine":
                stored = self._at_the_engine(made)
            else:
                ctx = cast("inngest.ContextSync", made.call.ctx)
                stored = ctx.step.run(made.step_id, self._send, made)
        return response_of(stored, self._options, made.step_id)

    def _send(self, made: Plan) -> Stored:
        """The step's handler."""
        try:
            response = self._inner.handle_request(made.request(self._options))
            try:
                body = self._begin(response, made)
                if not body.is_too_large:
                    for part in cast("Iterable[bytes]", response.stream):
                        body.add(part)
                        if body.is_too_large:
                            break
            finally:
                response.close()
        except Exception as err:
            return self._stored_or_raised(err)
        return stored_response(response, body, self._options)

    def _at_the_engine(self, made: Plan) -> Any:
        request = made.request(self._options)
        body = b"".join(cast("Iterable[bytes]", request.stream))
        opts = gateway_opts(made, request, body, self._options)
        return made.call.engine.run_op_sync(made.step_id, op="Gateway", opts=opts)

    def __enter__(self) -> DurableTransportSync:
        if self._given_transport is not None:
            self._given_transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._given_transport is not None:
            self._given_transport.__exit__(exc_type, exc_value, traceback)
        self._close_made()

    def close(self) -> None:
        """Close the transport that sends the requests."""
        if self._given_transport is not None:
            self._given_transport.close()
        self._close_made()

    def _close_made(self) -> None:
        made, self._own_transport = self._own_transport, None
        if made is not None:
            made.close()
