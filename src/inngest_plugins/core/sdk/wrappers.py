"""Stands between the SDK and its calls and sends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

import inngest
from inngest._internal import client_lib
from inngest._internal import function as function_lib

from .invoked import invoke, invoke_sync
from .raw_body import forget_raw_bodies, keep_raw_bodies

AroundCall = Callable[..., Any]
_installed: Final[list[tuple[type, str, Any]]] = []


def install(
    *,
    call: AroundCall,
    call_sync: AroundCall,
    send: AroundCall,
    send_sync: AroundCall,
) -> None:
    """Route the SDK's calls and sends through the core; done once, when the core is imported.

    Each wrapper is called with the original as its first argument, then with the original's own.
    """
    if _installed:
        return
    for owner, name, wrapper in (
        (function_lib.Function, "call", call),
        (function_lib.Function, "call_sync", call_sync),
        (client_lib.Inngest, "send", send),
        (client_lib.Inngest, "send_sync", send_sync),
        (inngest.Step, "invoke", invoke),
        (inngest.StepSync, "invoke", invoke_sync),
    ):
        original = owner.__dict__[name]
        _installed.append((owner, name, original))
        setattr(owner, name, _wrapped(original, wrapper))
    keep_raw_bodies()


def uninstall() -> None:
    """Undo `install`; for tests that compare with the bare SDK."""
    while _installed:
        owner, name, original = _installed.pop()
        setattr(owner, name, original)
    forget_raw_bodies()


def _wrapped(original: Any, wrapper: AroundCall) -> Any:
    if inspect.iscoroutinefunction(wrapper):
        # Starlette's background tasks, for one, ask `client.send` whether it wants to be awaited.
        @functools.wraps(original)
        async def coroutine_method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await wrapper(original, self, *args, **kwargs)

        return coroutine_method

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(original, self, *args, **kwargs)

    return method
