"""Requests that the SDK refuses before a run is known, so that no hook sees them."""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import inngest

_ANSWERS_A_RUN = "from_call_result"
_METHODS = ("post", "post_sync")


class RefusedRequest(NamedTuple):
    """A request of the engine, or of somebody else, that the SDK does not let in.

    Attributes:
        app_id: the app that received it.
        path: the path of its URL.
        client: the client of that app.
    """

    app_id: str
    path: str
    client: inngest.Inngest | None = None


def refused_request() -> RefusedRequest | None:
    """Return the request that the SDK is refusing where this is called from, or None.

    For what listens to the SDK's log: it logs the refusal (a wrong signature, an unknown function,
    a body it cannot read) where no hook runs, and says neither the app nor the URL. Both are in the
    frames of the SDK's handler.
    """
    comm_lib = sys.modules.get("inngest._internal.comm_lib")
    if comm_lib is None:
        # Nothing is served yet, so that nothing is refused.
        return None
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == _ANSWERS_A_RUN:
            return None
        found = _handled_in(frame.f_locals, comm_lib)
        if found is not None:
            return found
        frame = frame.f_back
    return None


def _handled_in(local: Any, comm_lib: Any) -> RefusedRequest | None:
    handler, request = local.get("self"), local.get("req")
    if not (
        isinstance(handler, comm_lib.CommHandler) and isinstance(request, comm_lib.CommRequest)
    ):
        return None
    if getattr(local.get("method"), "__name__", None) not in _METHODS:
        return None
    client: inngest.Inngest = handler._client
    return RefusedRequest(client.app_id, urlsplit(request.request_url).path, client)
