"""Finds services in results, so that none of them is serialised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._types import name_of

_DATA = (str, bytes, int, float, complex, tuple, frozenset, type(None))
"""Types of which Python may share one object for equal values, so identity proves nothing."""


class InjectedObjects:
    """The services that the code of a step or of a request has received, by identity.

    The objects are kept alive, so that no other object can get the `id()` of one.
    """

    __slots__ = ("_objects",)

    def __init__(self) -> None:
        self._objects: dict[int, tuple[object, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._objects)

    def add(self, services: Iterable[Any], values: Iterable[object]) -> None:
        """Note the services of these types."""
        for service, value in zip(services, values, strict=True):
            if not isinstance(value, _DATA):
                self._objects[id(value)] = value, service

    def find(self, value: object) -> tuple[str, tuple[object, ...]] | None:
        """Look for an injected object in a value, its dicts, lists and tuples.

        Returns:
            The name of its type and the keys that lead to it, or None.
        """
        if (found := self._objects.get(id(value))) is not None:
            return name_of(found[1]), ()
        left: list[tuple[object, tuple[object, ...]]] = [(value, ())]
        seen: set[int] = set()
        while left:
            container, path = left.pop()
            for key, item in _items(container):
                if (found := self._objects.get(id(item))) is not None:
                    return name_of(found[1]), (*path, key)
                if isinstance(item, (dict, list, tuple)) and id(item) not in seen:
                    seen.add(id(item))
                    left.append((item, (*path, key)))
        return None


def _items(container: object) -> Iterable[tuple[object, object]]:
    if isinstance(container, dict):
        return dict.items(container)
    if isinstance(container, (list, tuple)):
        return enumerate(container)
    return ()
