"""The raw body of a request: the SDK's own model keeps only a part of it."""

from __future__ import annotations

from typing import Any, Final

from inngest._internal import server_lib

_KEPT: Final = "_inngest_plugins_body"
_request: Final = server_lib.ServerRequest


def keep_raw_bodies() -> None:
    """Have the SDK keep each request's body along with what it reads from it.

    Every way into the SDK (each HTTP framework, `connect`) reads the body through this one method.
    What a framework calls a request differs: Flask's is a proxy that pool threads cannot read,
    Starlette's can only be awaited, and serverless ones are plain dicts.
    """
    if "from_raw" in _request.__dict__:
        return
    original = _request.from_raw.__func__  # type: ignore[attr-defined]

    def from_raw(cls: type[Any], raw: object) -> Any:
        request = original(cls, raw)
        if isinstance(request, _request) and isinstance(raw, (bytes, str)):
            # Past the model's own setattr, which allows its fields only.
            object.__setattr__(request, _KEPT, raw)
        return request

    _request.from_raw = classmethod(from_raw)  # type: ignore[method-assign, assignment]


def forget_raw_bodies() -> None:
    """Undo `keep_raw_bodies`."""
    if "from_raw" in _request.__dict__:
        del _request.from_raw


def raw_body_of(ctx: Any) -> bytes | str | None:
    """Return the body of the request that a context belongs to; None where there was no text."""
    body: bytes | str | None = getattr(ctx.step._execution._request, _KEPT, None)
    return body
