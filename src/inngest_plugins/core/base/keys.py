"""Typed keys for data that plugins keep on a call, a step or a send."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
D = TypeVar("D")


class CallKey(Generic[T]):
    """A typed key under which a plugin keeps its data of one call.

    Keys are compared by identity, so two plugins never collide whatever they name theirs.

    Args:
        name: shown in error messages; by convention `plugin.what`.

    Example:
        ```python
        STARTED = CallKey[float]("timing.started")

        class Timing(Plugin):
            def before_execution(self, call):
                call[STARTED] = time.perf_counter()
        ```
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"CallKey({self.name!r})"


class Keyed:
    """Mixin: an object that holds plugin data under `CallKey`s."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data: dict[CallKey[Any], Any] | None = None

    def __getitem__(self, key: CallKey[T]) -> T:
        data = self._data
        if data is None or key not in data:
            raise KeyError(_missing(key))
        value: T = data[key]
        return value

    def __setitem__(self, key: CallKey[T], value: T) -> None:
        if self._data is None:
            self._data = {}
        self._data[key] = value

    def __delitem__(self, key: CallKey[T]) -> None:
        if self._data is None or key not in self._data:
            raise KeyError(_missing(key))
        del self._data[key]

    def __contains__(self, key: object) -> bool:
        return self._data is not None and key in self._data

    @overload
    def get(self, key: CallKey[T]) -> T | None: ...
    @overload
    def get(self, key: CallKey[T], default: D) -> T | D: ...
    def get(self, key: CallKey[T], default: D | None = None) -> T | D | None:
        """Return what is kept under `key`, or `default`."""
        if self._data is None:
            return default
        value: T | D | None = self._data.get(key, default)
        return value


def _missing(key: CallKey[Any]) -> str:
    return f"{key.name}: nothing is kept under this key; use get() where it may not be set yet"
