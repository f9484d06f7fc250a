"""The operations that user code calls: the same on every object that can be written."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import cast

from typing_extensions import Self

from ._errors import MetadataKeyError, MetadataValueError
from ._keys import DEFAULT_KIND, check_kind, parse
from ._operations import Document, Operation
from ._values import normalize, number


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
        self._kind = DEFAULT_KIND if kind is None else check_kind(kind)

    @abc.abstractmethod
    def _record(self, kind: str, operations: Sequence[Operation]) -> None:
        """Record operations of a kind, as the user writes it: all of them, or none."""

    def _write(self, kind: str | None, *operations: Operation) -> Self:
        self._record(self._kind if kind is None else kind, operations)
        return self

    def update(self, values: Mapping[str, object], *, kind: str | None = None) -> Self:
        """Set several keys; those that are not named stay as they are (a shallow merge)."""
        operations: list[Operation] = [
            ("set", parse(key), normalize(value, key)) for key, value in _mapping(values).items()
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
        return self._write(kind, ("append", parse(key), normalize(values, key)))

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
    if not isinstance(values, Mapping):
        raise MetadataValueError(
            f"metadata: update and replace take a mapping of keys to values, "
            f"not {type(values).__name__}"
        )
    mapping = cast("Mapping[object, object]", values)
    for key in mapping:
        if not isinstance(key, str):
            raise MetadataValueError(f"metadata: keys must be str, not {type(key).__name__}")
    return cast("Mapping[str, object]", mapping)
