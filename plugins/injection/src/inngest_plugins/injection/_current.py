"""Finds the scope of the current code, or says why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inngest_plugins.core import ArgumentError, Call, class_name

from ._call_scopes import SCOPES, CallScopes
from ._errors import InjectionContextError, UnregisteredServiceError
from ._plugin import InjectionPlugin
from ._types import name_of

if TYPE_CHECKING:
    from ._scope import Scope


def current_scope(services: tuple[Any, ...], asked_with: str) -> Scope:
    """Return the scope of the current code.

    Raises:
        ArgumentError: it asks for nothing.
        UnregisteredServiceError: it asks for what is no type.
        InjectionContextError: there is none.
    """
    if not services:
        raise ArgumentError(f"{asked_with}() takes the types of the services that you want")
    no_type = next((each for each in services if not _has_hash(each)), None)
    if no_type is not None:
        raise UnregisteredServiceError(
            f"{asked_with}() takes the types that services are registered for, and "
            f"{class_name(no_type)} can be none: give several as {asked_with}(A, B)"
        )
    wanted = ", ".join(map(name_of, services))
    call = Call.current()
    if call is None:
        raise InjectionContextError(
            f"{asked_with}({wanted}) was called outside of a run. Call it in a function, a step or "
            "a hook; in a thread of your own, start it with contextvars.copy_context().run"
        )
    scopes = call.get(SCOPES)
    if scopes is None:
        # A hook of a plugin further out may call this before the injection plugin has its turn.
        scopes = _begun_early(call)
    if scopes is None:
        raise InjectionContextError(
            f"{asked_with}({wanted}) was called in function {call.local_id!r}, whose client and "
            "function have no InjectionPlugin: add InjectionPlugin(registry) to middleware=[...]"
        )
    return scopes.current()


def _has_hash(service: object) -> bool:
    try:
        hash(service)
    except TypeError:
        return False
    return True


def _begun_early(call: Call) -> CallScopes | None:
    found = [plugin for plugin in call.stack.plugins if isinstance(plugin, InjectionPlugin)]
    return found[-1].begin(call) if found else None
