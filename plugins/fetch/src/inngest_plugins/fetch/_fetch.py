"""`durable_fetch`: one HTTP request as a step, without a client."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import httpx

from ._options import MAX_BYTES, RetryOn, Where
from ._plan import STEP_ID
from ._transports import DurableTransport, DurableTransportSync


async def durable_fetch(
    url: str | httpx.URL,
    *,
    method: str = "GET",
    step_id: str | None = None,
    where: Where = "app",
    retry_on: RetryOn | None = None,
    max_bytes: int = MAX_BYTES,
    engine_may_see: Collection[str] = (),
    follow_redirects: bool = False,
    timeout: Any = 5.0,
    **options: Any,
) -> httpx.Response:
    """Make one HTTP request, as a step when it is made in an async function's body.

    Args:
        url: the URL.
        method: the HTTP method.
        step_id: the step's id; by default made of method, host and path.
        where: "app" or "engine": who makes the request, see `DurableTransport`.
        retry_on: what makes the engine try again, see `DurableTransport`.
        max_bytes: the largest response body in bytes.
        engine_may_see: headers with credentials that the engine may see.
        follow_redirects: whether to follow them; each is a step of its own.
        timeout: seconds for each part of the request, or an `httpx.Timeout`.
        **options: what `httpx.AsyncClient.request` takes: `params`, `content`, `data`, `files`,
            `json`, `headers`, `cookies`, `auth`, `extensions`.

    Returns:
        The response, read.

    Raises:
        FetchError: the request failed for good, or cannot be made durable.
    """
    transport = DurableTransport(
        where=where, retry_on=retry_on, max_bytes=max_bytes, engine_may_see=engine_may_see
    )
    async with httpx.AsyncClient(
        transport=transport, follow_redirects=follow_redirects, timeout=timeout
    ) as client:
        return await client.request(method, url, **_with_step_id(options, step_id))


def durable_fetch_sync(
    url: str | httpx.URL,
    *,
    method: str = "GET",
    step_id: str | None = None,
    where: Where = "app",
    retry_on: RetryOn | None = None,
    max_bytes: int = MAX_BYTES,
    engine_may_see: Collection[str] = (),
    follow_redirects: bool = False,
    timeout: Any = 5.0,
    **options: Any,
) -> httpx.Response:
    """Make one HTTP request, as a step when it is made in a sync function's body.

    It has the arguments of `durable_fetch`.
    """
    transport = DurableTransportSync(
        where=where, retry_on=retry_on, max_bytes=max_bytes, engine_may_see=engine_may_see
    )
    with httpx.Client(
        transport=transport, follow_redirects=follow_redirects, timeout=timeout
    ) as client:
        return client.request(method, url, **_with_step_id(options, step_id))


def _with_step_id(options: dict[str, Any], step_id: str | None) -> dict[str, Any]:
    if step_id is None:
        return options
    return {**options, "extensions": {**(options.get("extensions") or {}), STEP_ID: step_id}}
