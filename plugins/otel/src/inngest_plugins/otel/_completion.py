"""The engine's order of step completion, read off the raw request."""

from __future__ import annotations

import json
from typing import Any

from inngest_plugins.core import Call

from ._territory import Completion


def completion_of(call: Call) -> Completion | None:
    """Return in which order the run's steps were completed, and which led to this request.

    The SDK does not hand on `ctx.stack` of the request body, so that the body is read again; only
    functions with a RACE group need it.

    Args:
        call: the request.

    Returns:
        None when the framework does not give the body any more.
    """
    try:
        stack = json.loads(_body(call.raw_request))["ctx"]["stack"]
        current = int(stack["current"])
        order = stack["stack"] or []
    except Exception:
        return None
    return Completion(
        {hashed: place for place, hashed in enumerate(order)}, current - 1 if current > 0 else None
    )


def _body(request: Any) -> bytes:
    """Return the body of a request that has been read already."""
    payload = getattr(request, "request_payload", None)
    if isinstance(payload, bytes):
        return payload  # a `connect` worker's message
    get_data = getattr(request, "get_data", None)
    if get_data is not None:
        data: bytes = get_data()  # Flask keeps what was read
        return data
    body = request.body
    if not callable(body):
        content: bytes = body  # Django, Tornado
        return content
    # Starlette keeps the body, so that its coroutine function returns without waiting.
    reading: Any = body()
    try:
        reading.send(None)
    except StopIteration as done:
        read: bytes = done.value
        return read
    reading.close()
    raise LookupError("the body has not been read yet")
