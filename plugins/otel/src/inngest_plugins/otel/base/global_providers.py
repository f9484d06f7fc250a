"""What is made from a provider: the one that was given, or whichever is the global one now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from opentelemetry import metrics, trace

P = TypeVar("P")
T = TypeVar("T")

_UNKNOWN: Final = object()
_METERS: Final[object] = getattr(metrics, "_internal", None)


class Followed(Generic[P, T]):
    """Something made from a provider, made anew when the global provider is another one.

    Applications set the global providers when they like, also after the client is built.

    Args:
        given: the provider to use whatever the global one is, or None.
        current: returns the global one.
        is_unset: tells cheaply that nobody has set a global one; False when it cannot tell.
        make: makes the thing; called once for a provider.
    """

    __slots__ = ("_current", "_given", "_is_unset", "_known", "_make")

    def __init__(
        self,
        given: P | None,
        current: Callable[[], P],
        is_unset: Callable[[], bool],
        make: Callable[[P], T],
    ) -> None:
        self._given = given
        self._current = current
        self._is_unset = is_unset
        self._make = make
        self._known: tuple[P, T | None] | None = None

    def provider(self) -> P:
        """Return the provider in use."""
        return self._current() if self._given is None else self._given

    def get(self) -> T | None:
        """Return the thing, None when nobody has set a provider that does anything."""
        known, provider = self._known, self._given
        if provider is None:
            if known is not None and known[1] is None and self._is_unset():
                return None
            provider = self._current()
        if known is None or known[0] is not provider:
            known = provider, None if does_nothing(provider) else self._make(provider)
            self._known = known
        return known[1]


# Until a provider is set, `get_tracer_provider()` and `get_meter_provider()` look into the
# environment each time, which costs a request more than all else of the plugin then. They have been
# asked once before these are.


def no_tracer_provider() -> bool:
    """Return whether no global tracer provider is set; False if this release does not show it."""
    return getattr(trace, "_TRACER_PROVIDER", _UNKNOWN) is None


def no_meter_provider() -> bool:
    """Return whether no global meter provider is set; False if this release does not show it."""
    return getattr(_METERS, "_METER_PROVIDER", _UNKNOWN) is None


def does_nothing(provider: object) -> bool:
    """Return whether a provider is one of the API's own, which stand in where none was set."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
