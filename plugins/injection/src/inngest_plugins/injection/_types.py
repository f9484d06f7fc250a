"""Names of service types for messages, and which factories are async."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def name_of(service: Any) -> str:
    """Return a type's name as an error shows it, also for `NewType`s and aliases."""
    name = getattr(service, "__qualname__", None) or getattr(service, "__name__", None)
    return name if isinstance(name, str) else repr(service)


def is_async_factory(factory: Callable[..., Any]) -> bool:
    """Return whether what a factory returns has to be awaited or entered asynchronously."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    # `asynccontextmanager` returns a plain function around an async generator function.
    unwrapped = inspect.unwrap(factory)
    called = getattr(unwrapped, "__call__", None)  # noqa: B004 - an object's, not whether it has one
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (factory, unwrapped, called)
    )
