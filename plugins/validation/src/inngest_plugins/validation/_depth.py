"""How deeply a JSON value nests, found without recursion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast


def deeper_than(value: object, limit: int) -> bool:
    """Whether a JSON value nests more than `limit` containers.

    Takes time linear in the value and no stack, so it is safe where a validator is not.
    """
    level: list[object] = [value]
    for _ in range(limit + 1):
        below: list[object] = []
        for node in level:
            if isinstance(node, Mapping):
                below.extend(_containers(cast("Mapping[object, object]", node).values()))
            elif isinstance(node, list | tuple):
                below.extend(_containers(cast("Sequence[object]", node)))
        if not below:
            return False
        level = below
    return True


def _containers(values: object) -> list[object]:
    return [
        value
        for value in cast("Sequence[object]", values)
        if isinstance(value, dict | list | tuple | Mapping)
    ]


def larger_than(value: object, limit: int) -> bool:
    """Whether a JSON value holds more than `limit` members, counted over all its containers."""
    count = 0
    todo: list[object] = [value]
    while todo:
        node = todo.pop()
        if isinstance(node, Mapping):
            members = cast("Mapping[object, object]", node)
            count += len(members)
            if count > limit:
                return True
            todo.extend(_containers(members.values()))
        elif isinstance(node, list | tuple):
            items = cast("Sequence[object]", node)
            count += len(items)
            if count > limit:
                return True
            todo.extend(_containers(items))
    return False
