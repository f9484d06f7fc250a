"""How large metadata is, and the total of a run."""

from __future__ import annotations

from collections.abc import Mapping

from ._json import Json, dumps, size
from ._limits import Limits
from ._ops import Document
from ._paths import Path, top_level

_NUMBERS = (int, float)


class Sizes:
    """The size of all of a run's metadata, kept the same way as a recording's.

    Attributes:
        bound: the size is at most this many bytes.
    """

    __slots__ = ("_documents", "_limits", "bound")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._documents: dict[object, Document] = {}
        self.bound = 0

    def watch(self, address: object, document: Document) -> None:
        """Count this object from now on, in place of an earlier one at the same address."""
        self._documents[address] = document

    def measure(self) -> None:
        """Put the exact size in place of the bound."""
        self.bound = sum(map(document_size, self._documents.values()))

    def reserve(self, growth: int, key: str) -> None:
        """Count a write that makes an object this many bytes larger.

        Raises:
            MetadataLimitError: the run would hold too much.
        """
        if self.bound + growth > self._limits.run_bytes:
            self.measure()
            if self.bound + growth > self._limits.run_bytes and growth > 0:
                raise self._limits.too_large(key, "the metadata of the run", self._limits.run_bytes)
        self.bound += growth


def document_size(document: Mapping[str, Json]) -> int:
    """Measure an object the way the engine does: top-level keys and rendered values, in bytes."""
    return sum(len(key.encode()) + size(value) for key, value in document.items())


def write_cost(value: Json, path: Path) -> int:
    """Return at least so many bytes as a write adds to an object."""
    kind = type(value)
    if kind is str:
        cost = 6 * len(value) + 2
    elif kind is list and all(type(item) in _NUMBERS for item in value):
        cost = 26 * len(value) + 2
    elif kind in (dict, list):
        cost = len(dumps(value)) * 4 + 1
    else:
        cost = 24
    if len(path) == 1:
        return cost + 6 * len(top_level(path)) + 6
    return cost + sum(6 * len(name) + 6 if isinstance(name, str) else 6 for name in path)
