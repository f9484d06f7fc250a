"""The operations on a metadata object and what each does to it.

`check` refuses, when something is recorded, what cannot be meant. `apply` never refuses: a
recorded operation may meet another object when a run is replayed (a parallel branch may have
written the same key), and a replay must not fail. There the later operation wins, in the way the
engine's own `add` does: where it needs a number, a list or an object and finds something else, it
starts afresh.
"""

from __future__ import annotations

import decimal
from typing import Final, Literal, TypeAlias, cast

from ._errors import MetadataValueError
from ._json import MAX_SAFE_INTEGER, Json, copy, same
from ._paths import Path, render

Code: TypeAlias = Literal["set", "delete", "append", "remove", "increment"]
CODES: Final[tuple[Code, ...]] = ("set", "delete", "append", "remove", "increment")

Operation: TypeAlias = tuple[Code, Path, Json]
"""`(code, path, operand)`. `append` takes the list of values to append, `delete` takes None."""

Document: TypeAlias = dict[str, Json]

_MISSING: Final = object()
_LARGEST: Final = 1.7976931348623157e308
# Doubles have up to 17 significant digits; 50 keep any realistic sum of them exact, so that it
# does not matter in which groups increments are added up.
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
    """Tell whether a JSON value is a number; booleans are not."""
    return type(value) in (int, float)


def find(document: Document, path: Path, default: object = None) -> Json:
    """Return what is at a path, not a copy of it; the default when there is nothing."""
    node: Json = document
    for segment in path:
        node = _child(node, segment)
        if node is _MISSING:
            return default
    return node


def check(document: Document, operation: Operation) -> None:
    """Refuse an operation that does not fit what the object holds.

    Raises:
        MetadataValueError: it increments what is no number (or beyond 2**53), appends to or
            removes from what is no list, goes through a value that is no container, or writes
            behind the end of a list.
    """
    code, path, operand = operation
    if len(path) > 1:
        _check_way(document, path, creates=code in ("set", "append", "increment"))
    if code == "increment":
        value = find(document, path, _MISSING)
        if value is _MISSING:
            return
        if not is_number(value):
            raise MetadataValueError(
                f"metadata {render(path)}: cannot increment, it holds {_name(value)}"
            )
        total = add(value, operand)
        if type(total) is int and abs(total) > MAX_SAFE_INTEGER:
            raise MetadataValueError(
                f"metadata {render(path)}: the sum is beyond 2**53 and would lose digits in JSON"
            )
    elif code in ("append", "remove"):
        value = find(document, path, _MISSING)
        if value is not _MISSING and type(value) is not list:
            raise MetadataValueError(
                f"metadata {render(path)}: cannot {code}, it holds {_name(value)}, not a list"
            )


def apply(document: Document, operation: Operation) -> None:
    """Carry an operation out, in place. The operand is not kept: what is stored is a copy."""
    code, path, operand = operation
    if code in ("set", "append", "increment"):
        container, last = _container(document, path)
        present = _child(container, last)
        if code == "set":
            value = operand if type(operand) not in (dict, list) else copy(operand)
        elif code == "increment":
            value = add(present, operand) if is_number(present) else operand
        elif type(present) is list:
            present.extend(copy(operand))  # pyright: ignore[reportUnknownMemberType]
            return
        else:
            value = copy(operand)
        _put(container, last, value)
        return
    around: Json = find(document, path[:-1], _MISSING)
    last = path[len(path) - 1]
    present = _child(around, last)
    if present is _MISSING:
        return
    if code == "delete":
        del around[last]
    elif type(present) is list:
        around[last] = [item for item in present if not same(item, operand)]


def _check_way(document: Document, path: Path, *, creates: bool) -> None:
    node: Json = document
    for depth, segment in enumerate(path):
        if type(node) is not (list if isinstance(segment, int) else dict):
            raise MetadataValueError(
                f"metadata {render(path)}: {render(path[:depth])} holds {_name(node)}, which has "
                f"no {'index' if isinstance(segment, int) else 'key'} {segment!r}"
            )
        child = _child(node, segment)
        if child is _MISSING:
            length = len(node) if isinstance(segment, int) else None
            _check_new(path, depth, length, creates=creates)
            return
        node = child


def _check_new(path: Path, depth: int, length: int | None, *, creates: bool) -> None:
    if not creates:
        return
    segment = path[depth]
    if isinstance(segment, int) and segment != length:
        raise MetadataValueError(
            f"metadata {render(path)}: {render(path[:depth])} has {length} items, "
            f"so there is no index {segment} to write"
        )
    beyond = next((index for index in path[depth + 1 :] if isinstance(index, int) and index), None)
    if beyond is not None:
        raise MetadataValueError(
            f"metadata {render(path)}: {render(path[: depth + 1])} does not exist, "
            f"so there is no index {beyond} to write"
        )


def _child(node: Json, segment: str | int) -> Json:
    if isinstance(segment, int):
        items: list[Json] = node if type(node) is list else []
        return items[segment] if segment < len(items) else _MISSING
    if type(node) is dict:
        members: Document = node
        return members.get(segment, _MISSING)
    return _MISSING


def _container(document: Document, path: Path) -> tuple[Json, str | int]:
    node: Json = document
    last = len(path) - 1
    for depth in range(last):
        segment = path[depth]
        wanted = list if isinstance(path[depth + 1], int) else dict
        child = _child(node, segment)
        if type(child) is not wanted:
            child = cast("Json", wanted())
            _put(node, segment, child)
        node = child
    return node, path[last]


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
