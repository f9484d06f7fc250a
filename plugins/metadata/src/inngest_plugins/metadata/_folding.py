"""Folds operations into one another where that changes nothing: ten thousand increments are one."""

from __future__ import annotations

from collections.abc import Iterator

from ._json import Json, copy
from ._ops import Code, Operation, add, is_number
from ._paths import Path


class Generation:
    """Operations on one top-level key, at places of which none lies inside another.

    Such operations can be carried out in any order, so a later one on the same place can be folded
    into the earlier one. Array indexes shift, so a path with an index stands alone.
    """

    __slots__ = ("_closed", "_operations", "_prefixes")

    def __init__(self) -> None:
        self._operations: dict[Path, Operation] = {}
        self._prefixes: set[Path] = set()
        self._closed = False

    def take(self, operation: Operation) -> bool:
        """Add an operation; False when it has to go to a new generation."""
        code, path, operand = operation
        previous = self._operations.get(path)
        if self._closed:
            return False
        if previous is not None:
            folded = _fold(previous, code, operand)
            if folded is None:
                return False
            self._operations[path] = folded
            return True
        if len(path) > 1 and any(isinstance(segment, int) for segment in path):
            if self._operations:
                return False
            self._closed = True
        prefixes = [path[:length] for length in range(1, len(path))]
        if path in self._prefixes or any(prefix in self._operations for prefix in prefixes):
            return False
        self._operations[path] = (code, path, copy(operand))
        self._prefixes.update(prefixes)
        return True

    def fold_plain(self, code: Code, path: Path, operand: Json) -> bool:
        """Fold a plain value into an operation of the same code at the same place, if it can be.

        Numbers are integers here; `append` gets a list of one plain value.
        """
        previous = self._operations.get(path)
        if previous is None or previous[0] != code:
            return False
        if code == "append":
            previous[2].append(operand[0])
            return True
        if code == "increment":
            if type(previous[2]) is not int:
                return False
            operand += previous[2]
        self._operations[path] = (code, path, operand)
        return True

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations.values())


def _fold(previous: Operation, code: Code, operand: Json) -> Operation | None:
    earlier, path, value = previous
    if code == "set":
        return ("set", path, copy(operand))
    if code == "delete" and earlier == "delete":
        return previous
    if code == "increment" and (earlier == "increment" or (earlier == "set" and is_number(value))):
        return (earlier, path, add(value, operand))
    if code == "append" and (earlier == "append" or (earlier == "set" and type(value) is list)):
        value.extend(copy(operand))
        return previous
    return None
