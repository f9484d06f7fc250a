"""How deeply a JSON value nests and how much it holds, found without recursion."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

# Only these are walked into: no engine reads any other container as JSON.
_CONTAINERS = (dict, list, tuple)


def deeper_than(value: object, limit: int) -> bool:
    """Whether a JSON value nests more than `limit` containers."""
    return exceeds(value, depth=limit)


def exceeds(value: object, *, depth: int, members: int = sys.maxsize) -> bool:
    """Whether a JSON value nests too deeply, or holds too many members in all its containers.

    Takes time linear in the value and no stack, so it is safe where a validator is not.
    """
    level: list[Any] = [value] if isinstance(value, _CONTAINERS) else []
    count = 0
    for _ in range(depth + 1):
        below: list[Any] = []
        for node in level:
            count += len(node)
            inside: Iterable[Any] = node.values() if isinstance(node, dict) else node
            below.extend([each for each in inside if isinstance(each, _CONTAINERS)])
        if count > members:
            return True
        if not below:
            return False
        level = below
    return True
