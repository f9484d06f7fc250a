"""The operations, the same wherever metadata is written."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import cast

from typing_extensions import Self

from ._errors import MetadataKeyError, MetadataValueError
from ._json import array, is_plain, normalize, number
from ._ops import Document, Operation
from ._paths import parse


class Writes(abc.ABC):
    """Records operations and returns itself, so that calls can be chained.

    Nothing here blocks or touches the network. A key is a top-level name, or a JSONPath-like way
    into nested values: `"$.rows.done"`, `"$.items[0]"`, `"$['odd name']"`. Values are JSON and
    are copied. `kind` names a namespace of its own; the engine shows it as `userland.<kind>`.

    All methods raise `MetadataKeyError` (malformed key or kind), `MetadataValueError` (no JSON,
    or it does not fit what is there), `MetadataLimitError` (too large) and, where there is no run,
    `MetadataContextError`. What raises records nothing.
    """

    @abc.abstractmethod
    def _write(self, kind: str | None, *operations: Operation) -> None:
        """Record operations; `kind` is as the user gave it, None for the default."""

    @abc.abstractmethod
    def _replace(self, kind: str | None, values: Document) -> None:
        """Record a replacement of the whole object."""

    def update(self, values: Mapping[str, object], *, kind: str | None = None) -> Self:
        """Set several keys; those that are not named stay as they are (a shallow merge)."""
        operations: list[Operation] = [
            ("set", parse(key), value if is_plain(value) else normalize(value, key))
            for key, value in _mapping(values).items()
        ]
        self._write(kind, *operations)
        return self

    def set(self, key: str, value: object, *, kind: str | None = None) -> Self:
        """Set one key, creating the objects and lists on the way to it."""
        self._write(kind, ("set", parse(key), normalize(value, key)))
        return self

    def delete(self, *keys: str, kind: str | None = None) -> Self:
        """Delete keys; one that is not there is no error."""
        operations: list[Operation] = [("delete", parse(key), None) for key in keys]
        self._write(kind, *operations)
        return self

    def append(self, key: str, *values: object, kind: str | None = None) -> Self:
        """Append to a list, which is created if there is none.

        For another run's metadata this is refused: the engine cannot append, so two writers would
        overwrite one another. Give each writer a key of its own instead.
        """
        self._write(kind, ("append", parse(key), array(values, key)))
        return self

    def remove(self, key: str, value: object, *, kind: str | None = None) -> Self:
        """Remove every item equal to `value` from a list; refused for another run's metadata."""
        self._write(kind, ("remove", parse(key), normalize(value, key)))
        return self

    def increment(self, key: str, by: float = 1, *, kind: str | None = None) -> Self:
        """Add to a number, which is 0 if there is none.

        Exact for integers, and for decimals as they are written: 0.1 and 0.2 make 0.3. On another
        run's metadata many writers may increment the same key and none is lost.
        """
        self._write(kind, ("increment", parse(key), number(by, key)))
        return self

    def decrement(self, key: str, by: float = 1, *, kind: str | None = None) -> Self:
        """Subtract from a number; see `increment`."""
        self._write(kind, ("increment", parse(key), -number(by, key)))
        return self

    def replace(self, values: Mapping[str, object], *, kind: str | None = None) -> Self:
        """Put a new object in place of all that was recorded here, of this kind."""
        document = cast("Document", normalize(dict(_mapping(values)), "replace()"))
        if "" in document:
            raise MetadataKeyError("a metadata key must not be empty")
        self._replace(kind, document)
        return self


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
