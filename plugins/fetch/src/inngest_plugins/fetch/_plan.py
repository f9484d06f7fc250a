"""Decides what a request becomes: a step of the app, a step of the engine, or no step."""

from __future__ import annotations

import datetime
import email.utils
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import httpx

from inngest_plugins.core import ArgumentError, Call, CallKey

from ._errors import (
    CredentialsRefusedError,
    FetchUsageError,
    RetryLaterError,
    StatusRetriedError,
)
from ._options import PAYLOADS, Options

STEP_ID: Final = "inngest_step_id"
"""The request extension that names the step."""

_COUNTS: Final = CallKey[dict[str, int]]("fetch.counts")
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
_NOT_FOR_THE_ENGINE: Final = frozenset(
    ("accept-encoding", "connection", "content-length", "host", "transfer-encoding")
)
"""The engine's connection sets these itself; without `accept-encoding` it decodes the body."""


@dataclass(frozen=True)
class Plan:
    """A request that is a step.

    Attributes:
        call: the request of the run that it is made in.
        step_id: the step.
        count: how often the function has reached a request with this id, this time included.
        given: the request as the client made it.
    """

    call: Call
    step_id: str
    count: int
    given: httpx.Request

    def request(self, options: Options) -> httpx.Request:
        """Return a copy to send: a caller who sends the request again must not repeat its key."""
        given = self.given
        headers = httpx.Headers(given.headers)
        name = options.idempotency_header
        if name is not None and given.method not in _SAFE and name not in headers:
            place = f"{self.call.run_id}\n{self.step_id}\n{self.count}"
            headers[name] = f"inngest-{hashlib.sha256(place.encode()).hexdigest()[:40]}"
        extensions = {key: value for key, value in given.extensions.items() if key != STEP_ID}
        return httpx.Request(
            given.method, given.url, headers=headers, stream=given.stream, extensions=extensions
        )


def plan(request: httpx.Request, *, is_async: bool) -> Plan | None:
    """Decide what a request becomes.

    Returns:
        None when it passes through: inside of a step, in a hook, and outside of a run.

    Raises:
        FetchUsageError: the transport cannot work in this function.
        ArgumentError: the step's id is not a text.
    """
    call = Call.current()
    if call is None or not call.in_body:
        return None
    if call.is_async is not is_async:
        raise FetchUsageError(
            "DurableTransport was used in the sync function "
            f"{call.local_id!r}: use httpx.Client(transport=DurableTransportSync()) there"
            if is_async
            else "DurableTransportSync was used in the async function "
            f"{call.local_id!r}: use httpx.AsyncClient(transport=DurableTransport()) there, "
            "or make the request inside of a step"
        )
    step_id = _step_id(request)
    counts = call.get(_COUNTS)
    if counts is None:
        counts = call[_COUNTS] = {}
    count = counts[step_id] = counts.get(step_id, 0) + 1
    return Plan(call, step_id, count, request)


def _step_id(request: httpx.Request) -> str:
    if STEP_ID in request.extensions:
        step_id = request.extensions[STEP_ID]
        if not isinstance(step_id, str) or not step_id:
            raise ArgumentError(
                f'extensions={{"{STEP_ID}": ...}} is the id of a step, a text, not '
                f"{type(step_id).__name__ if not isinstance(step_id, str) else 'an empty one'}"
            )
        return step_id
    url = request.url
    port = "" if url.port is None else f":{url.port}"
    return f"{request.method} {url.host}{port}{url.path}"


# ---------------------------------------------------------------- in the app


def retry_error(response: httpx.Response, options: Options, made: Plan) -> Exception | None:
    """Return the error that makes the engine try again, or None: the response is data.

    At the last attempt every response is data.
    """
    status = response.status_code
    after = _retry_after(response)
    is_retried = status in options.statuses or (
        status in options.statuses_with_retry_after and after is not None
    )
    if not is_retried or made.call.is_final_attempt:
        return None
    text = f"the request of step {made.step_id!r} was answered with status {status}"
    if after is None:
        return StatusRetriedError(f"{text}: it is tried again")
    return RetryLaterError(f"{text}: it is tried again when the server said", after)


def _retry_after(response: httpx.Response) -> datetime.timedelta | None:
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        # A longer delay would overflow a date.
        return datetime.timedelta(seconds=min(int(value[:9]), 86_400 * 365))
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.timezone.utc)
    now = datetime.datetime.now(datetime.timezone.utc)
    return max(date - now, datetime.timedelta())


# ---------------------------------------------------------------- at the engine


def gateway_opts(
    made: Plan, request: httpx.Request, body: bytes, options: Options
) -> dict[str, Any]:
    """Return the arguments of the engine's operation.

    Raises:
        CredentialsRefusedError: the engine would see what it must not see.
        FetchUsageError: the body is one that the engine does not send as it is.
    """
    where = f"step {made.step_id!r} of function {made.call.local_id!r}"
    if made.call.stack.secret_payloads and PAYLOADS not in options.engine_may_see:
        raise CredentialsRefusedError(
            f'{where}: with where="engine" the engine sees the whole request and its response, and '
            'a plugin of this function keeps payloads secret from it. Use where="app", or allow '
            f'it by name: engine_may_see=["{PAYLOADS}"]'
        )
    secret = options.credential_headers - options.engine_may_see
    refused = sorted({name for name in request.headers if name in secret})
    if request.url.userinfo and "authorization" in secret:
        refused.append("user and password in the URL")
    if refused:
        raise CredentialsRefusedError(
            f'{where}: with where="engine" the engine would see {", ".join(refused)}. Use '
            'where="app", or allow headers by name: engine_may_see=[...]'
        )
    try:
        text = body.decode()
        if text:
            json.loads(text)
    except ValueError:
        raise FetchUsageError(
            f'{where}: with where="engine" bodies are JSON: any other text the engine sends as a '
            'JSON string, and no bytes at all. Use where="app"'
        ) from None
    headers = {
        name: value for name, value in request.headers.items() if name not in _NOT_FOR_THE_ENGINE
    }
    return {"url": str(request.url), "method": request.method, "headers": headers, "body": text}
