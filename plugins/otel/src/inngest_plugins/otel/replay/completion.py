"""The engine's order of step completion, read off the body of the request."""

from __future__ import annotations

import json

from inngest_plugins.core import Call
from inngest_plugins.otel.replay.boundary import Completion


def completion_of(call: Call) -> Completion | None:
    """Return in which order the run's steps were completed, and which led to this request.

    The SDK does not hand on `ctx.stack` of the request body, so that the body is read again; only
    functions with a RACE group need it.

    Args:
        call: the request.

    Returns:
        None when the body does not say.
    """
    body = call.engine.request_body
    if body is None:
        return None
    try:
        stack = json.loads(body)["ctx"]["stack"]
        current = int(stack["current"])
        order = stack["stack"] or []
    except (ValueError, TypeError, LookupError):
        return None
    return Completion(
        {hashed: place for place, hashed in enumerate(order)}, current - 1 if current > 0 else None
    )
