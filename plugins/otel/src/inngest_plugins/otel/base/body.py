"""The body of a request, whatever framework it came through."""

from __future__ import annotations

from typing import Any


def body_of(request: object) -> bytes | None:
    """Return the body of a request that has been read, None if the framework gives it no more.

    Args:
        request: what the SDK calls the raw request.
    """
    if request is None:
        return None
    try:
        body = _body(request)
    except Exception:
        # Whatever a framework's request object does, such as Flask's outside of its own thread.
        return None
    return body if isinstance(body, bytes) else None


def _body(request: Any) -> Any:
    payload = getattr(request, "request_payload", None)
    if isinstance(payload, bytes):
        return payload  # a `connect` worker's message
    get_data = getattr(request, "get_data", None)
    if get_data is not None:
        return get_data()  # Flask keeps what was read
    body = request.body
    if not callable(body):
        return body  # Django, Tornado
    # Starlette keeps the body, so that its coroutine function returns without waiting.
    reading: Any = body()
    try:
        reading.send(None)
    except StopIteration as done:
        return done.value
    reading.close()
    return None
