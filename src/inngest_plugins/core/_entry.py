"""How an object takes its place in `middleware=[...]`."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any

import inngest

from ._bridge import INERT, Bridge
from ._errors import RegistrationError


class ListEntry:
    """Base of what stands in `middleware=[...]`: the SDK calls it once for each request.

    The first entry of a client's list answers with the middleware that carries the whole stack,
    every other one with an inert one.
    """

    _joined: tuple[weakref.ref[inngest.Inngest], bool] | None = None

    if not TYPE_CHECKING:
        # Hidden from type checkers: to them, a class takes what its `__init__` takes.
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Tell a class in the list from an object: the SDK calls either for each request."""
            if _called_by_sdk(cls, args, kwargs):
                raise class_in_list(cls)
            if cls.__init__ is object.__init__ and (args or kwargs):
                raise TypeError(f"{cls.__qualname__}() takes no arguments")
            return super().__new__(cls)

    def __call__(self, client: inngest.Inngest, raw_request: object) -> inngest.MiddlewareSync:
        """Join a request; called by the SDK.

        Args:
            client: the client whose request it is.
            raw_request: what the web framework gave, or None for a send.
        """
        joined = self._joined
        if joined is None or joined[0]() is not client:
            from ._composition import leads

            joined = self._joined = (weakref.ref(client), leads(self, client))
        return Bridge(client, raw_request) if joined[1] else INERT

    def forget_client(self) -> None:
        """Find out anew whether this entry leads: the list has changed."""
        self._joined = None


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
