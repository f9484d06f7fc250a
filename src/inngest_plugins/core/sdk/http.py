"""HTTP as the SDK does it: its headers, its keys, and who answers in place of the engine."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import httpx
import inngest
from inngest._internal import net


def send_authenticated(
    client: inngest.Inngest, method: str, url: str, *, timeout: float, **options: Any
) -> httpx.Response:
    """Send a request as the SDK does: its headers, its signing keys, the fallback key on a 401.

    Raises:
        httpx.HTTPError: no answer came.
    """
    http = client._http_client
    headers = net.create_headers(env=client.env, framework=None, server_kind=None)
    headers.update({name.lower(): value for name, value in options.pop("headers").items()})
    request = http.build_httpx_request(
        method, _parsed(url), headers=headers, timeout=timeout, **options
    )
    response = net.fetch_with_auth_fallback_sync(
        http._http_client_sync,
        request,
        signing_key=client.signing_key,
        signing_key_fallback=client.signing_key_fallback,
    )
    if isinstance(response, Exception):
        # The SDK wraps what httpx raised in a plain Exception.
        cause = response.__cause__
        raise cause if isinstance(cause, httpx.HTTPError) else response
    return response


async def send_authenticated_async(
    client: inngest.Inngest, method: str, url: str, *, timeout: float, json: Any
) -> httpx.Response | None:
    """Send a request without leaving the event loop, where the client's async connections allow.

    Returns:
        The answer; None when they belong to another loop, which has ended.

    Raises:
        httpx.HTTPError: no answer came.
    """
    http = client._http_client
    headers = net.create_headers(env=client.env, framework=None, server_kind=None)
    request = http.build_httpx_request(
        method, _parsed(url), headers=headers, timeout=timeout, json=json
    )
    response = await net.fetch_with_auth_fallback(
        http._http_client,
        http._http_client_sync,
        request,
        signing_key=client.signing_key,
        signing_key_fallback=client.signing_key_fallback,
    )
    if isinstance(response, Exception):
        cause = response.__cause__
        if isinstance(cause, RuntimeError):
            return None
        raise cause if isinstance(cause, httpx.HTTPError) else response
    return response


# A request checkpoints at the same place after each step, and parsing costs half of a call.
_parsed = functools.lru_cache(maxsize=128)(httpx.URL)


@contextlib.contextmanager
def transport_swapped(
    client: inngest.Inngest,
    transport: httpx.AsyncBaseTransport,
    transport_sync: httpx.BaseTransport,
) -> Iterator[None]:
    """Answer everything that a client sends from these transports while the context is open.

    Covers events, registration and state fetches, async and sync, and `EngineApi`.
    """
    http = client._http_client
    kept = http._http_client, http._http_client_sync
    replacement = type(kept[0])(transport=transport).initialize()
    # The SDK sends through the sync client when called from another thread than the one that
    # made the async client; both end at the same place here.
    http._http_client, http._http_client_sync = replacement, httpx.Client(transport=transport_sync)
    try:
        yield
    finally:
        http._http_client, http._http_client_sync = kept
