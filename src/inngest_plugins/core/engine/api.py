"""The small REST client by which plugins reach the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

import httpx
import inngest

from inngest_plugins.core.base.errors import EngineApiError
from inngest_plugins.core.base.sync_async import in_thread
from inngest_plugins.core.sdk import http

_MAX_WAIT_SECONDS = 2.0


class EngineApi:
    """Calls the engine's REST API as the SDK does: same origin, credentials and environment.

    Under the embedded engine the same requests are answered in process.

    Args:
        client: the client whose `api_origin` and signing key are used.
        timeout: seconds that one attempt may take.
        attempts: how often to try when the engine cannot be reached or answers 5xx or 429.
    """

    def __init__(self, client: inngest.Inngest, *, timeout: float = 5.0, attempts: int = 3) -> None:
        self._client = client
        self._timeout = timeout
        self._attempts = attempts

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request from async code; see `request_sync` for the arguments.

        It runs in a worker thread, so that neither the event loop that made the client nor the one
        that calls matters.
        """

        def send() -> httpx.Response:
            return self.request_sync(
                method, path, params=params, json=json, content=content, headers=headers
            )

        return await in_thread(send)

    def request_sync(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request and return the answer.

        Args:
            method: "GET", "POST", ...
            path: such as "/v1/runs/<run id>/metadata"; it is relative to the API origin.
            params: query parameters.
            json: body, sent as JSON.
            content: body, sent as it is.
            headers: further headers.

        Returns:
            The response, also when its status is 4xx: that is the caller's to read.

        Raises:
            EngineApiError: the engine could not be reached, or kept answering 5xx or 429.
        """
        # Imported when it is used: it is a quarter of what importing the core would cost.
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=_MAX_WAIT_SECONDS),
            retry=tenacity.retry_if_exception_type(EngineApiError),
            reraise=True,
        )
        return retrying(
            self._send_once,
            method,
            urljoin(self._client.api_origin, path),
            {"params": params, "json": json, "content": content, "headers": dict(headers or {})},
        )

    async def post_once(self, path: str, json: Any) -> httpx.Response:
        """Send a request from async code once, without a thread where that is possible.

        For requests that may be sent twice: connections of an event loop that has ended are only
        found out in use, and the request is then sent from a thread.

        Args:
            path: as for `request_sync`.
            json: body, sent as JSON.

        Raises:
            EngineApiError: the engine could not be reached, or answered 5xx or 429.
        """
        url = urljoin(self._client.api_origin, path)
        try:
            response = await http.send_authenticated_async(
                self._client, "POST", url, timeout=self._timeout, json=json
            )
        except httpx.HTTPError as err:
            raise _unreachable("POST", url, err) from err
        if response is None:
            return await self.request("POST", path, json=json)
        return _answered("POST", url, response)

    def _send_once(self, method: str, url: str, options: dict[str, Any]) -> httpx.Response:
        try:
            response = http.send_authenticated(
                self._client, method, url, timeout=self._timeout, **options
            )
        except httpx.HTTPError as err:
            raise _unreachable(method, url, err) from err
        return _answered(method, url, response)


def _unreachable(method: str, url: str, err: httpx.HTTPError) -> EngineApiError:
    return EngineApiError(
        f"{method} {url} failed: {type(err).__name__}. Is the engine running, and is "
        "api_base_url of the client right?"
    )


def _answered(method: str, url: str, response: httpx.Response) -> httpx.Response:
    status = response.status_code
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS:
        raise EngineApiError(f"{method} {url} answered {status}", status=status)
    return response


@contextlib.contextmanager
def answered_by(
    client: inngest.Inngest,
    transport: httpx.AsyncBaseTransport,
    transport_sync: httpx.BaseTransport,
) -> Iterator[None]:
    """Answer everything a client sends to the engine from these transports while open.

    For engines in process: events, registration, state fetches and `EngineApi`. The client is left
    as it was.

    Args:
        client: the client.
        transport: serves the client's async requests.
        transport_sync: serves its sync ones, from any thread.
    """
    with http.transport_swapped(client, transport, transport_sync):
        yield
