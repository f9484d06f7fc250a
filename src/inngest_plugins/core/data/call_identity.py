"""Which run, function and request a call is of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import inngest

from inngest_plugins.core.sdk.door import handler_of

from .call_contexts import CallContexts

TRACE_HEADERS: Final = ("traceparent", "tracestate")
_HEADERS: Final = (*TRACE_HEADERS, "x-request-id", "x-inngest-job-id")


class CallIdentity(CallContexts):
    """The identity of a call: ids, attempts, and where the request came from."""

    __slots__ = (
        "_headers",
        "client",
        "ctx",
        "function",
        "handler_kind",
        "max_attempts",
        "raw_request",
    )

    client: inngest.Inngest
    ctx: inngest.Context | inngest.ContextSync
    function: inngest.Function[Any]
    handler_kind: Literal["main", "on_failure", "deferred"]
    max_attempts: int
    raw_request: object
    _headers: Mapping[str, str] | None

    @property
    def run_id(self) -> str:
        """ULID of the run."""
        return self.ctx.run_id

    @property
    def attempt(self) -> int:
        """Number of the attempt of the current job, from 0."""
        return self.ctx.attempt

    @property
    def is_final_attempt(self) -> bool:
        """Whether the engine will not try the current job again if it fails now."""
        return self.ctx.attempt + 1 >= self.max_attempts

    @property
    def function_id(self) -> str:
        """The engine's id of the function, `"<app>-<function>"`."""
        return self.function.id

    @property
    def local_id(self) -> str:
        """The id given to `create_function`."""
        return self.function.local_id

    @property
    def function_name(self) -> str:
        """The human-readable name of the function."""
        return self.function.name

    @property
    def handler(self) -> Callable[..., Any]:
        """What the user wrote: the function itself, or its failure handler."""
        return handler_of(self.function, on_failure=self.handler_kind == "on_failure")

    @property
    def request_id(self) -> str | None:
        """The engine's id of this request; None if the SDK does not pass it on."""
        request_id: str | None = getattr(self.ctx, "request_id", None)
        # Releases of the SDK before 0.5.19 do not pass it on.
        return request_id or self._engine_headers().get("x-request-id")

    @property
    def job_id(self) -> str | None:
        """The engine's id of the queue job; None if the SDK does not pass it on."""
        job_id: str | None = getattr(self.ctx, "job_id", None)
        return job_id or self._engine_headers().get("x-inngest-job-id")

    @property
    def trace_headers(self) -> Mapping[str, str]:
        """The W3C headers `traceparent` and `tracestate` that the engine sent, if it did."""
        headers = self._engine_headers()
        return {name: headers[name] for name in TRACE_HEADERS if name in headers}

    def _engine_headers(self) -> Mapping[str, str]:
        if self._headers is None:
            self._headers = engine_headers(self.raw_request)
        return self._headers

    @property
    def is_connect(self) -> bool:
        """Whether the request came over a `connect` worker's connection, not HTTP."""
        return is_connect(self.raw_request)


def engine_headers(raw_request: object) -> dict[str, str]:
    """Read the engine's headers that a call needs from the request of any web framework.

    A `connect` worker gets no HTTP request but a protobuf message, whose `system_trace_ctx` is the
    same headers as a JSON object.
    """
    try:
        carrier = getattr(raw_request, "system_trace_ctx", None)
        headers = getattr(raw_request, "headers", None)
    except RuntimeError:
        # Flask's request is a proxy, which means nothing in the SDK's pool threads.
        return {}
    if isinstance(carrier, bytes):
        return _from_carrier(carrier)
    if headers is None and isinstance(raw_request, Mapping):
        event: Any = raw_request.get("http", raw_request)
        headers = event.get("headers") if isinstance(event, Mapping) else None
    if headers is None or not hasattr(headers, "get"):
        return {}
    found = ((name, headers.get(name)) for name in _HEADERS)
    return {name: value for name, value in found if isinstance(value, str) and value}


def is_connect(raw_request: object) -> bool:
    """Return whether a request came over a `connect` worker's connection."""
    try:
        return isinstance(getattr(raw_request, "system_trace_ctx", None), bytes)
    except RuntimeError:
        # Flask's request, in one of the SDK's pool threads.
        return False


def _from_carrier(carrier: bytes) -> dict[str, str]:
    try:
        parsed = json.loads(carrier or b"{}")
    except ValueError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    lowered = {str(name).lower(): value for name, value in parsed.items()}
    return {n: lowered[n] for n in TRACE_HEADERS if isinstance(lowered.get(n), str)}
