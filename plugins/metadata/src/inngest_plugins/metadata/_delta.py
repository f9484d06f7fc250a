"""What a recording comes to: what travels with a step's result, and is carried out elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ._errors import MetadataError
from ._json import Json, copy
from ._ops import CODES, Code, Document, Operation, apply
from ._paths import Path, top_level
from ._sizes import document_size, write_cost


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """What a recording does to whatever object it is applied to.

    Attributes:
        replaced: whether everything that was there before goes away.
        values: top-level keys with their new values.
        deleted: top-level keys that go away.
        operations: what is done relative to the values that are there, in order.
    """

    replaced: bool
    values: Document
    deleted: tuple[str, ...]
    operations: tuple[Operation, ...]

    def __bool__(self) -> bool:
        return self.replaced or bool(self.values or self.deleted or self.operations)

    @property
    def keys(self) -> Iterator[str]:
        """The top-level keys it touches, other than by replacing everything."""
        yield from self.values
        yield from self.deleted
        for _, path, _ in self.operations:
            yield top_level(path)

    @property
    def cost(self) -> int:
        """At most so many bytes it adds to an object."""
        return document_size(self.values) + sum(
            write_cost(operand, path) for _, path, operand in self.operations
        )

    def apply(self, document: Document) -> None:
        """Carry it out, in place."""
        if self.replaced:
            document.clear()
        for key, value in self.values.items():
            document[key] = copy(value)
        for key in self.deleted:
            document.pop(key, None)
        for operation in self.operations:
            apply(document, operation)

    def to_json(self) -> Json:
        """Return it as JSON, with only the fields that say something."""
        encoded: dict[str, Json] = {}
        if self.replaced:
            encoded["replaced"] = True
        if self.values:
            encoded["set"] = self.values
        if self.deleted:
            encoded["delete"] = list(self.deleted)
        if self.operations:
            encoded["do"] = [[code, list(path), value] for code, path, value in self.operations]
        return encoded

    @classmethod
    def from_json(cls, encoded: Json) -> Delta:
        """Read what `to_json` wrote.

        Raises:
            MetadataError: it is nothing of the kind.
        """
        try:
            return cls(
                replaced=bool(encoded.get("replaced", False)),
                values=dict(encoded.get("set", {})),
                deleted=tuple(encoded.get("delete", ())),
                operations=tuple(
                    (_code(code), _path(path), value) for code, path, value in encoded.get("do", ())
                ),
            )
        except (AttributeError, TypeError, ValueError) as err:
            raise MetadataError("a step's recorded metadata is malformed") from err


def _code(code: Json) -> Code:
    if code not in CODES:
        raise ValueError(code)
    known: Code = code
    return known


def _path(path: Json) -> Path:
    if not path or not isinstance(path[0], str) or not all(type(p) in (str, int) for p in path):
        raise ValueError(path)
    return tuple(path)
