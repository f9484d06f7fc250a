"""Follows OpenTelemetry's global providers, which an app may set at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from opentelemetry import metrics, trace

P = TypeVar("P")
T = TypeVar("T")

_UNKNOWN: Final = object()
_METERS: Final[object] = getattr(metrics, "_internal", None)


class Followed(Generic[P, T]):
    """An object made from a provider, and made again when the global provider changes.

    Applications may set the global providers after the client is built.

    Args:
        given: the provider to use instead of the global one, or None.
        current: returns the global one.
        is_unset: a fast check that no global one is set; False when it cannot tell.
        make: makes the object; called once for each provider.
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
        """Return the object, or None when no provider that does anything is set."""
        known, provider = self._known, self._given
        if provider is None:
            if known is not None and known[1] is None and self._is_unset():
                return None
            provider = self._current()
        if known is None or known[0] is not provider:
            known = provider, None if does_nothing(provider) else self._make(provider)
            self._known = known
        return known[1]


# Until a provider is set, `get_tracer_provider()` and `get_meter_provider()` read the environment
# at each call, which would be most of the plugin's cost. So they are called once, and after that
# these two checks are.


def no_tracer_provider() -> bool:
    """Return whether no global tracer provider is set; False if this release does not show it."""
    return getattr(trace, "_TRACER_PROVIDER", _UNKNOWN) is None


def no_meter_provider() -> bool:
    """Return whether no global meter provider is set; False if this release does not show it."""
    return getattr(_METERS, "_METER_PROVIDER", _UNKNOWN) is None


def does_nothing(provider: object) -> bool:
    """Return whether a provider is one of the API's own, which stand in where none was set."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
