"""The operations on a metadata object: what is allowed, and what each does.

`check` refuses an operation that does not fit when code records it. `apply` never refuses. On a
replay the object may differ (a parallel branch may have written the same key), and a replay must
not fail. There the later operation wins, as in the engine's own `add`: where it needs a number, a
list or an object and finds something else, it starts with an empty one.
"""

from __future__ import annotations

import abc
import decimal
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias, cast

from typing_extensions import Self

from ._errors import MetadataKeyError, MetadataValueError
from ._values import (
    DEFAULT_KIND,
    MAX_SAFE_INTEGER,
    Json,
    Limits,
    Path,
    array,
    check_key,
    copy,
    is_plain,
    normalize,
    number,
    parse,
    render,
    same,
    wire_kind,
)

Code: TypeAlias = Literal["set", "delete", "append", "remove", "increment", "replace"]
CODES: Final[tuple[Code, ...]] = ("set", "delete", "append", "remove", "increment")
"""Operations on the value at a path; `replace` is on the whole object."""

Operation: TypeAlias = tuple[Code, Path, Json]
"""`(code, path, operand)`. `append` takes the list of values to append, `delete` takes None.

`replace` has an empty path and takes the new object.
"""

Document: TypeAlias = dict[str, Json]

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
        if node is _MISSING:
            return default
    return node


def check(document: Document, operation: Operation) -> None:
    """Refuse an operation that does not fit what the object holds.

    Raises:
        MetadataValueError: it increments another value than a number (or beyond 2**53), appends
            to or removes from another than a list, goes through another than a container, or
            writes behind the end of a list.
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
    """Apply an operation in place, with a copy of the operand."""
    code, path, operand = operation
    if code == "replace":
        document.clear()
        document.update(copy(operand))
        return
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


Take: TypeAlias = Callable[[str, tuple[Operation, ...]], None]
"""Records operations, given the wire kind."""


class Writes(abc.ABC):
    """Records operations and returns itself, so that calls can be chained.

    Nothing here blocks or touches the network. A key is a top-level name, or a JSONPath-like path
    into nested values: `"$.rows.done"`, `"$.items[0]"`, `"$['odd name']"`. Values are JSON and
    are copied. `kind` names a namespace of its own; the engine shows it as `userland.<kind>`.

    All methods raise `MetadataKeyError` (malformed key or kind), `MetadataValueError` (not
    JSON, or it does not fit what is there), `MetadataLimitError` (too large) and, outside of a run,
    `MetadataContextError`. What raises records nothing.
    """

    def __init__(self, kind: str | None) -> None:
        self._kind = DEFAULT_KIND if kind is None else kind

    @abc.abstractmethod
    def _taker(self) -> tuple[Limits, Take] | None:
        """Return the function that records operations, or None to ignore them."""

    def _write(self, kind: str | None, *operations: Operation) -> Self:
        taker = self._taker()
        if taker is not None:
            limits, take = taker
            for code, path, operand in operations:
                for key in operand if code == "replace" else path[:1]:
                    check_key(key, limits.key_bytes)
            take(wire_kind(self._kind if kind is None else kind, limits.kind_bytes), operations)
        return self

    def update(self, values: Mapping[str, object], *, kind: str | None = None) -> Self:
        """Set several keys; those that are not named stay as they are (a shallow merge)."""
        operations: list[Operation] = [
            ("set", parse(key), value if is_plain(value) else normalize(value, key))
            for key, value in _mapping(values).items()
        ]
        return self._write(kind, *operations)

    def set(self, key: str, value: object, *, kind: str | None = None) -> Self:
        """Set one key, creating the objects and lists on the way to it."""
        return self._write(kind, ("set", parse(key), normalize(value, key)))

    def delete(self, *keys: str, kind: str | None = None) -> Self:
        """Delete keys; a missing one is not an error."""
        operations: list[Operation] = [("delete", parse(key), None) for key in keys]
        return self._write(kind, *operations)

    def append(self, key: str, *values: object, kind: str | None = None) -> Self:
        """Append to a list, which is created if there is none.

        For another run's metadata this is refused: the engine cannot append, so two writers would
        overwrite one another. Give each writer a key of its own instead.
        """
        return self._write(kind, ("append", parse(key), array(values, key)))

    def remove(self, key: str, value: object, *, kind: str | None = None) -> Self:
        """Remove every item equal to `value` from a list; refused for another run's metadata."""
        return self._write(kind, ("remove", parse(key), normalize(value, key)))

    def increment(self, key: str, by: float = 1, *, kind: str | None = None) -> Self:
        """Add to a number, which is 0 if there is none.

        Exact for integers, and for decimals as they are written: 0.1 and 0.2 make 0.3. On another
        run's metadata many writers may increment the same key and none is lost.
        """
        return self._write(kind, ("increment", parse(key), number(by, key)))

    def decrement(self, key: str, by: float = 1, *, kind: str | None = None) -> Self:
        """Subtract from a number; see `increment`."""
        return self._write(kind, ("increment", parse(key), -number(by, key)))

    def replace(self, values: Mapping[str, object], *, kind: str | None = None) -> Self:
        """Put a new object in place of all that was recorded here, of this kind."""
        document = cast("Document", normalize(dict(_mapping(values)), "replace()"))
        if "" in document:
            raise MetadataKeyError("a metadata key must not be empty")
        return self._write(kind, ("replace", (), document))


def _mapping(values: object) -> Mapping[str, object]:
    if type(values) is not dict and not isinstance(values, Mapping):
        raise MetadataValueError(
            f"metadata: update and replace take a mapping of keys to values, "
            f"not {type(values).__name__}"
        )
    mapping = cast("Mapping[object, object]", values)
    for key in mapping:
        if not isinstance(key, str):
            raise MetadataValueError(f"metadata: keys must be str, not {type(key).__name__}")
    return cast("Mapping[str, object]", mapping)
