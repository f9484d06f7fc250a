"""The base of objects that stand in `middleware=[...]`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

import inngest

from inngest_plugins.core.base.errors import ArgumentError, RegistrationError


class Entrance(Protocol):
    """What the SDK's calls of list entries reach: the floor that opens requests, above this one."""

    def join(
        self, entry: ListEntry, client: inngest.Inngest, raw_request: object
    ) -> inngest.MiddlewareSync:
        """Make the middleware by which an entry takes part in one request or send."""
        ...

    def stack_of(self, client: inngest.Inngest, function: inngest.Function[Any] | None) -> Any:
        """Return the stack of a client or of one of its functions."""
        ...


_opened: list[Entrance] = []


def open_entrance(entrance: Entrance) -> None:
    """Say what list entries join; done once, when the core is imported."""
    _opened[:] = [entrance]


def _entrance() -> Entrance:
    return _opened[0]


def stack_of(client: inngest.Inngest, function: inngest.Function[Any] | None) -> Any:
    """Return the stack of a client or of one of its functions."""
    return _entrance().stack_of(client, function)


class ListEntry:
    """Base of every entry of `middleware=[...]`: the SDK calls it once for each request.

    The first entry of a client's list answers with the middleware that carries the whole stack,
    every other one with an inert one.
    """

    if not TYPE_CHECKING:
        # Hidden from type checkers: to them, a class takes what its `__init__` takes.
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Refuse a class in the list: the SDK calls a class and an object alike."""
            if _called_by_sdk(cls, args, kwargs):
                raise class_in_list(cls)
            if cls.__init__ is object.__init__ and (args or kwargs):
                raise ArgumentError(f"{cls.__qualname__}() takes no arguments")
            return super().__new__(cls)

    def __call__(self, client: inngest.Inngest, raw_request: object) -> inngest.MiddlewareSync:
        """Join a request; called by the SDK.

        Args:
            client: the client whose request it is.
            raw_request: what the web framework gave, or None for a send.
        """
        return _entrance().join(self, client, raw_request)


def class_in_list(cls: type) -> RegistrationError:
    """Make the error for a class that stands where an object of it should."""
    return RegistrationError(
        f"{cls.__qualname__} stands in middleware=[...] as a class: put an object "
        f"there, {cls.__qualname__}(...)"
    )


def _called_by_sdk(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if kwargs or len(args) != 2 or not isinstance(args[0], inngest.Inngest):
        return False
    if any(entry is cls for entry in args[0].middleware):
        return True
    init = getattr(cls, "__init__")  # noqa: B009 - of the class, which type checkers doubt
    if init is object.__init__:
        return True
    try:
        inspect.signature(init).bind(None, *args)
    except TypeError:
        return True
    return False
