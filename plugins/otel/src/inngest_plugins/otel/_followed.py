"""What is made from a provider: the one that was given, or whichever is the global one now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

P = TypeVar("P")
T = TypeVar("T")


class Followed(Generic[P, T]):
    """Something made from a provider, made anew when the global provider is another one.

    Applications set the global providers when they like, also after the client is built.

    Args:
        given: the provider to use whatever the global one is, or None.
        current: returns the global one.
        make: makes the thing; called once for a provider.
    """

    __slots__ = ("_current", "_given", "_known", "_make")

    def __init__(self, given: P | None, current: Callable[[], P], make: Callable[[P], T]) -> None:
        self._given = given
        self._current = current
        self._make = make
        self._known: tuple[P, T | None] | None = None

    def provider(self) -> P:
        """Return the provider in use."""
        return self._current() if self._given is None else self._given

    def get(self) -> T | None:
        """Return the thing, None when nobody has set a provider that does anything."""
        provider = self._current() if self._given is None else self._given
        known = self._known
        if known is None or known[0] is not provider:
            known = provider, None if does_nothing(provider) else self._make(provider)
            self._known = known
        return known[1]


def does_nothing(provider: object) -> bool:
    """Tell whether a provider is one of the API's own, which stand in where none was set."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
