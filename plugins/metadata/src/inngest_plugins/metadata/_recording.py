"""A metadata object under way: its value, and what was done to it in short form.

A step's recording travels with the step's memoized result, so it is kept short as it is made:
once a top-level key was set or deleted as a whole, its final value says everything (it is
*rooted*); before that, operations relative to an unknown value are folded into one another where
that changes nothing. Ten thousand increments are one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ._errors import MetadataError
from ._json import MAX_SAFE_INTEGER, Json, copy, dumps, size
from ._limits import Limits
from ._ops import CODES, Code, Document, Operation, add, apply, check, find, is_number
from ._paths import Path, render, top_level


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


class Recording:
    """One scope's metadata of one kind, with what was done since it was opened.

    Attributes:
        document: the value now. Not to be changed from outside.
        touched: top-level keys that were written since `touched` was last cleared.
        replaced: whether the whole object was replaced since it was opened.
        unsent_replace: the same since the last send.
    """

    __slots__ = (
        "_bound",
        "_limits",
        "_relative",
        "_rooted",
        "_run_bytes",
        "_scope_bytes",
        "_sizes",
        "_what",
        "document",
        "replaced",
        "touched",
        "unsent_replace",
    )

    def __init__(self, base: Mapping[str, Json], limits: Limits, sizes: Sizes, what: str) -> None:
        """Open a recording.

        Args:
            base: the value to start from; copied.
            limits: sizes to keep.
            sizes: the run's total to keep.
            what: the scope's name for messages.
        """
        self.document: Document = copy(base)
        self.touched: dict[str, None] = {}
        self.replaced = False
        self.unsent_replace = False
        self._rooted: set[str] = set()
        self._relative: dict[str, list[_Generation]] = {}
        self._limits = limits
        self._scope_bytes = limits.scope_bytes
        self._run_bytes = limits.run_bytes
        self._sizes = sizes
        self._what = what
        self._bound = document_size(self.document)

    def write(self, operation: Operation) -> None:
        """Check and carry out one operation.

        Raises:
            MetadataValueError: it does not fit; nothing was changed.
            MetadataLimitError: it makes the scope or the run too large; nothing was changed.
        """
        code, path, operand = operation
        if self._write_again(code, path, operand):
            return
        if code != "set" or len(path) > 1:
            check(self.document, operation)
        if code not in ("delete", "remove"):
            cost = write_cost(operand, path)
            self._bound += cost
            self._sizes.bound += cost
            if self._bound > self._scope_bytes or self._sizes.bound > self._run_bytes:
                self._measure(operation, cost)
        self.note(operation)

    def _write_again(self, code: Code, path: Path, operand: Json) -> bool:
        """Take a short way for what loops do: change a plain value that is there, in place.

        Returns:
            False when the operation is not of that sort; nothing was done then.
        """
        last = len(path) - 1
        holder = self.document if not last else find(self.document, path[:last])
        name = path[last]
        if type(holder) is not dict or type(name) is not str or name not in holder:
            return False
        value = _combined(code, holder[name], operand)
        cost = _PLAIN_COST.get(type(value))
        if cost is None:
            return False
        if type(value) is str:
            cost += 6 * len(value)
        sizes = self._sizes
        if self._bound + cost > self._scope_bytes or sizes.bound + cost > self._run_bytes:
            return False
        key = top_level(path) if last else name
        if key not in self._rooted and not self.replaced:
            generations = self._relative.get(key)
            if generations is None or not generations[-1].fold_plain(code, path, operand):
                return False
        self._bound += cost
        sizes.bound += cost
        if code == "append":
            holder[name].append(value)
        else:
            holder[name] = value
        self.touched[key] = None
        return True

    def note(self, operation: Operation) -> None:
        """Carry out one operation without checks."""
        code, path, _ = operation
        apply(self.document, operation)
        key = top_level(path)
        self.touched[key] = None
        if key in self._rooted or self.replaced:
            return
        if len(path) == 1 and code in ("set", "delete"):
            self._rooted.add(key)
            self._relative.pop(key, None)
            return
        generations = self._relative.get(key)
        if generations is None:
            generations = self._relative[key] = [_Generation()]
        if not generations[-1].take(operation):
            generations.append(_Generation())
            generations[-1].take(operation)

    def replace(self, values: Document) -> None:
        """Put a new object in place of all that was there.

        Raises:
            MetadataLimitError: it is too large; nothing was changed.
        """
        total = document_size(values)
        if total > self._limits.scope_bytes:
            largest = max(values, key=lambda key: size(values[key]))
            raise self._limits.too_large(largest, self._what, self._limits.scope_bytes)
        growth = total - document_size(self.document)
        self._sizes.reserve(growth, next(iter(values), "replace()"))
        self._bound = total
        self.note_replace(values)

    def note_replace(self, values: Document) -> None:
        """Put a new object in place without checks."""
        self.document.clear()
        self.document.update(copy(values))
        self._rooted.clear()
        self._relative.clear()
        self.touched.clear()
        self.touched.update(dict.fromkeys(values))
        self.replaced = self.unsent_replace = True

    def absorb(self, delta: Delta) -> None:
        """Carry out what another recording did, as part of what was there before this one."""
        delta.apply(self.document)
        self._bound += delta.cost

    def repeat(self, delta: Delta) -> None:
        """Carry out what another recording did, as part of this one, without checks."""
        if delta.replaced:
            self.note_replace(delta.values)
        else:
            for key, value in delta.values.items():
                self.note(("set", (key,), value))
            for key in delta.deleted:
                self.note(("delete", (key,), None))
        for operation in delta.operations:
            self.note(operation)

    def delta(self) -> Delta:
        """Return what was done since the recording was opened."""
        keys: Iterable[str] = self.document if self.replaced else self._rooted
        return Delta(
            replaced=self.replaced,
            values={key: copy(self.document[key]) for key in keys if key in self.document},
            deleted=()
            if self.replaced
            else tuple(sorted(key for key in self._rooted if key not in self.document)),
            operations=tuple(
                operation
                for generations in self._relative.values()
                for generation in generations
                for operation in generation
            ),
        )

    def _measure(self, operation: Operation, cost: int) -> None:
        # The bounds grow by estimates until one passes its limit; then it is measured. So the
        # common write costs an addition, and a refusal is always exact.
        limits = self._limits
        self._bound -= cost
        self._sizes.bound -= cost
        before = document_size(self.document)
        if self._sizes.bound + cost > limits.run_bytes:
            self._sizes.measure()
        if before + cost <= limits.scope_bytes and self._sizes.bound + cost <= limits.run_bytes:
            self._bound = before + cost
            self._sizes.bound += cost
            return
        trial = copy(self.document)
        apply(trial, operation)
        after = document_size(trial)
        key = render(operation[1])
        if after > limits.scope_bytes and after > before:
            raise limits.too_large(key, self._what, limits.scope_bytes)
        self._sizes.reserve(after - before, key)
        self._bound = after


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


class _Generation:
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


_NUMBERS = (int, float)
_NOT_PLAIN: Final[Json] = object()
# Bytes that a plain value takes at most; a text takes these and six for each character.
_PLAIN_COST: Final[dict[type, int]] = {int: 24, float: 25, bool: 5, type(None): 4, str: 2}


def _combined(code: Code, present: Json, operand: Json) -> Json:
    """Return the plain value that a write puts in place or appends; else `_NOT_PLAIN`."""
    if code == "set":
        return operand
    if code == "increment" and type(present) is int and type(operand) is int:
        total = present + operand
        return total if -MAX_SAFE_INTEGER <= total <= MAX_SAFE_INTEGER else _NOT_PLAIN
    if code == "append" and type(present) is list and len(operand) == 1:
        return operand[0]
    return _NOT_PLAIN


def _code(code: Json) -> Code:
    if code not in CODES:
        raise ValueError(code)
    known: Code = code
    return known


def _path(path: Json) -> Path:
    if not path or not isinstance(path[0], str) or not all(type(p) in (str, int) for p in path):
        raise ValueError(path)
    return tuple(path)
