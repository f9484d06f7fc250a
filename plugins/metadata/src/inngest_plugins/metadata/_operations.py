"""The operations on a metadata object: what is allowed, and what each does.

`check` refuses an operation that does not fit when code records it. `apply` never refuses. On a
replay the object may differ (a parallel branch may have written the same key), and a replay must
not fail. There the later operation wins, as in the engine's own `add`: where it needs a number, a
list or an object and finds something else, it starts with an empty one.
"""

from __future__ import annotations

import decimal
from itertools import pairwise
from typing import Final, Literal, TypeAlias, cast

from ._errors import MetadataValueError
from ._keys import Path, render
from ._values import MAX_SAFE_INTEGER, Json, copy, same

Code: TypeAlias = Literal["set", "delete", "append", "remove", "increment", "replace"]
CODES: Final[tuple[Code, ...]] = ("set", "delete", "append", "remove", "increment")
"""Operations on the value at a path; `replace` is on the whole object."""

Operation: TypeAlias = tuple[Code, Path, Json]
"""`(code, path, operand)`. `append` takes the list of values to append, `delete` takes None.

`replace` has an empty path and takes the new object.
"""

Document: TypeAlias = dict[str, Json]

_CREATES: Final = ("set", "append", "increment")
"""These create the objects and lists on the way to their place."""

_MISSING: Final = object()
_LARGEST: Final = 1.7976931348623157e308
# Doubles have up to 17 significant digits. With 50, any realistic sum of them stays exact, so
# increments give the same total however they are grouped.
_EXACT: Final = decimal.Context(prec=50)


def add(a: float, b: float) -> int | float:
    """Add two numbers as they are written: `0.1 + 0.2` is `0.3`.

    Decimal addition is associative where adding doubles is not, so increments that were summed up
    inside a step give the same total as increments that were applied one by one.
    """
    if type(a) is int and type(b) is int:
        return a + b
    total = float(_EXACT.add(decimal.Decimal(repr(a)), decimal.Decimal(repr(b))))
    return max(-_LARGEST, min(_LARGEST, total))


def is_number(value: Json) -> bool:
    """Return whether a JSON value is a number; booleans are not."""
    return type(value) in (int, float)


def find(document: Document, path: Path, default: object = None) -> Json:
    """Return the value at a path, not a copy; the default where there is none."""
    node: Json = document
    for segment in path:
        node = _child(node, segment)
    return default if node is _MISSING else node


def check(document: Document, operation: Operation) -> None:
    """Refuse an operation that does not fit what the object holds.

    Raises:
        MetadataValueError: it increments another value than a number (or beyond 2**53), appends
            to or removes from another than a list, goes through another than a container, or
            writes behind the end of a list.
    """
    code, path, operand = operation
    present = _reach(document, path, creates=code in _CREATES)
    if present is _MISSING:
        return
    if code == "increment":
        if not is_number(present):
            raise MetadataValueError(
                f"metadata {render(path)}: cannot increment, it holds {_name(present)}"
            )
        total = add(present, operand)
        if type(total) is int and abs(total) > MAX_SAFE_INTEGER:
            raise MetadataValueError(
                f"metadata {render(path)}: the sum is beyond 2**53 and would lose digits in JSON"
            )
    elif code in ("append", "remove") and type(present) is not list:
        raise MetadataValueError(
            f"metadata {render(path)}: cannot {code}, it holds {_name(present)}, not a list"
        )


def apply(document: Document, operation: Operation) -> None:
    """Apply an operation in place, with a copy of the operand."""
    code, path, operand = operation
    if code == "replace":
        document.clear()
        document.update(copy(operand))
        return
    creates, last = code in _CREATES, path[-1]
    node: Json = document
    for segment, following in pairwise(path):
        child = _child(node, segment)
        wanted = list if isinstance(following, int) else dict
        if creates and type(child) is not wanted:
            child = cast("Json", wanted())
            _put(node, segment, child)
        node = child
    present = _child(node, last)
    is_list = type(present) is list
    if code == "set":
        _put(node, last, copy(operand))
    elif code == "increment":
        _put(node, last, add(present, operand) if is_number(present) else operand)
    elif code == "append" and is_list:
        present.extend(copy(operand))
    elif code == "append":
        _put(node, last, copy(operand))
    elif code == "delete" and present is not _MISSING:
        del node[last]
    elif code == "remove" and is_list:
        node[last] = [item for item in present if not same(item, operand)]


def _reach(document: Document, path: Path, *, creates: bool) -> Json:
    """Return what is at a path; refuse one on which something else is in the way."""
    node: Json = document
    for depth, segment in enumerate(path):
        is_index = isinstance(segment, int)
        if type(node) is not (list if is_index else dict):
            raise MetadataValueError(
                f"metadata {render(path)}: {render(path[:depth])} holds {_name(node)}, which has "
                f"no {'index' if is_index else 'key'} {segment!r}"
            )
        child = _child(node, segment)
        if child is _MISSING:
            if creates and is_index and segment != len(node):
                raise MetadataValueError(
                    f"metadata {render(path)}: {render(path[:depth])} has {len(node)} items, "
                    f"so there is no index {segment} to write"
                )
            # The lists that are made on the way are empty: only their index 0 can be written.
            beyond = [index for index in path[depth + 1 :] if isinstance(index, int) and index]
            if creates and beyond:
                raise MetadataValueError(
                    f"metadata {render(path)}: {render(path[: depth + 1])} does not exist, "
                    f"so there is no index {beyond[0]} to write"
                )
            return _MISSING
        node = child
    return node


def _child(node: Json, segment: str | int) -> Json:
    if isinstance(segment, int):
        items: list[Json] = node if type(node) is list else []
        return items[segment] if segment < len(items) else _MISSING
    if type(node) is dict:
        members: Document = node
        return members.get(segment, _MISSING)
    return _MISSING


def _put(container: Json, segment: str | int, value: Json) -> None:
    if isinstance(segment, int) and segment >= len(container):
        container.append(value)
    else:
        container[segment] = value


def _name(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a number"
