"""Changes of metadata: folded as they are made, kept within limits, stored beside results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ._errors import MetadataError, MetadataLimitError
from ._operations import CODES, Code, Document, Operation, add, apply, check, is_number
from ._values import Json, Limits, Path, copy, document_size, render, size

_VERSION: Final = 1
# How many earlier operations on a key are tried for folding a new one into.
_LOOK_BACK: Final = 32


class StepRef(NamedTuple):
    """A step of a run.

    Attributes:
        id: the id that the user gave.
        use: which use of the id in the function, from 0.
    """

    id: str
    use: int = 0


Scope: TypeAlias = "StepRef | None"
"""A step of this run, or the run itself."""
Address: TypeAlias = tuple[Scope, str]
"""A metadata object: its scope and its wire kind."""


class Changes:
    """The changes of an object, which `apply` repeats on any object.

    Operations are folded: ten thousand increments of a key are one. Once a key is set or deleted as
    a whole, only its new value counts.

    Attributes:
        replaced: whether everything that was there before is deleted.
        by_key: the operations on each top-level key, in order.
    """

    __slots__ = ("by_key", "replaced")

    def __init__(self) -> None:
        self.replaced = False
        self.by_key: dict[str, list[Operation]] = {}

    def note(self, operation: Operation) -> None:
        """Add an operation."""
        code, path, operand = operation
        if code == "replace":
            self.replaced = True
            self.by_key = {key: [("set", (key,), copy(operand[key]))] for key in operand}
            return
        key = str(path[0])
        done = self.by_key.setdefault(key, [])
        is_whole = len(path) == 1 and code in ("set", "delete")
        if is_whole:
            done[:] = [(code, path, copy(operand))]
        elif (done and _is_whole(done[0])) or (self.replaced and not done):
            known = {key: done[0][2]} if done and done[0][0] == "set" else {}
            apply(known, operation)
            done[:] = [("set", (key,), known[key]) if key in known else ("delete", (key,), None)]
        else:
            _fold(done, operation)

    def __iter__(self) -> Iterator[Operation]:
        """Yield operations that make these changes."""
        if self.replaced:
            yield "replace", (), {}
        for done in self.by_key.values():
            yield from done

    def __bool__(self) -> bool:
        return self.replaced or bool(self.by_key)

    def apply(self, document: Document) -> None:
        """Make these changes to an object, in place."""
        for operation in self:
            apply(document, operation)

    def parts(self) -> tuple[Document, list[str], list[Operation]]:
        """Return the keys with new values, the deleted keys, and all other operations."""
        values: Document = {}
        deleted: list[str] = []
        others: list[Operation] = []
        for key, done in self.by_key.items():
            if not _is_whole(done[0]):
                others += done
            elif done[0][0] == "set":
                values[key] = done[0][2]
            elif not self.replaced:
                deleted.append(key)
        return values, deleted, others

    def to_json(self) -> Json:
        """Return the changes as JSON, without empty fields."""
        values, deleted, others = self.parts()
        encoded = {
            "replaced": self.replaced,
            "set": values,
            "delete": sorted(deleted),
            "do": [[code, list(path), value] for code, path, value in others],
        }
        return {name: value for name, value in encoded.items() if value}

    @classmethod
    def from_json(cls, encoded: Json) -> Changes:
        """Read what `to_json` wrote.

        Raises:
            AttributeError, TypeError, ValueError: it is malformed.
        """
        changes = cls()
        if encoded.get("replaced", False):
            changes.note(("replace", (), {}))
        for key, value in encoded.get("set", {}).items():
            changes.note(("set", (key,), value))
        for key in encoded.get("delete", ()):
            changes.note(("delete", (key,), None))
        for code, path, value in encoded.get("do", ()):
            changes.note((_code(code), _path(path), value))
        return changes


def _is_whole(operation: Operation) -> bool:
    return len(operation[1]) == 1 and operation[0] in ("set", "delete")


def _fold(done: list[Operation], operation: Operation) -> None:
    """Fold an operation into those on the same key, whose value is not known.

    It folds into an earlier one at the same path if all between them are at places that neither
    contain this one nor lie in it. Indexes shift, so an operation at one folds into the last only.
    """
    code, path, operand = operation
    has_index = _has_index(path)
    for position in range(len(done) - 1, max(-1, len(done) - 1 - _LOOK_BACK), -1):
        earlier = done[position]
        if earlier[1] == path:
            folded = _folded(earlier, code, operand)
            if folded is not None:
                done[position] = folded
                return
            break
        shared = min(len(path), len(earlier[1]))
        if has_index or _has_index(earlier[1]) or path[:shared] == earlier[1][:shared]:
            break
    done.append((code, path, copy(operand)))


def _folded(earlier: Operation, code: Code, operand: Json) -> Operation | None:
    before, path, value = earlier
    if before == "delete" and type(path[-1]) is int:
        # After the first removal the index names another item.
        return None
    if code == "set":
        return code, path, copy(operand)
    if code == "delete" and before == "delete":
        return earlier
    if _has_index(path):
        return None
    if code == "increment" and (before == "increment" or (before == "set" and is_number(value))):
        return before, path, add(value, operand)
    if code == "append" and (before == "append" or (before == "set" and type(value) is list)):
        value.extend(copy(operand))
        return earlier
    return None


def _has_index(path: Path) -> bool:
    return any(type(segment) is int for segment in path)


def _code(code: Any) -> Code:
    if code not in CODES:
        raise ValueError(code)
    known: Code = code
    return known


def _path(path: Any) -> Path:
    if not path or not isinstance(path[0], str) or not all(type(p) in (str, int) for p in path):
        raise ValueError(path)
    return tuple(path)


class SizeBudget:
    """Keeps a run's metadata objects below the limits.

    Measuring an object is slow, so it is done rarely: a measured object has room for so many bytes,
    and each write subtracts at least what it adds. Only when the room is used up are the objects
    measured again, so that a refusal is always exact.

    Args:
        limits: sizes to keep.

    Attributes:
        documents: the objects that count, by address.
    """

    __slots__ = ("_room", "documents", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.documents: dict[object, Document] = {}
        self._room: dict[object, int] = {}

    def put(self, address: object, document: Document) -> None:
        """Count this object instead of an earlier one at the same address."""
        self.documents[address] = document
        self._room.pop(address, None)

    def spend(self, address: object, what: str, operations: Sequence[Operation]) -> None:
        """Count writes to an object before they are made.

        Args:
            address: the object's place in `documents`.
            what: names the object in the message.
            operations: the writes; all of them are made, or none.

        Raises:
            MetadataLimitError: they would make the object, or the whole run, too large.
        """
        cost, replaces = 0, False
        for code, path, operand in operations:
            if code in ("delete", "remove"):
                continue
            replaces = replaces or code == "replace"
            # A rendered number has at most 25 bytes; a character of a key or text at most 6.
            cost += 26 if type(operand) in (int, float) else size(operand) + 2
            for segment in path:
                cost += 6 * len(segment) + 6 if type(segment) is str else 6
        if not cost:
            return
        room = self._room.get(address, 0) - cost
        if room < 0 or replaces:
            room = self._measure(address, what, operations)
        self._room[address] = room

    def _measure(self, address: object, what: str, operations: Sequence[Operation]) -> int:
        document = self.documents[address]
        before = document_size(document)
        document = copy(document)
        for operation in operations:
            apply(document, operation)
        after = document_size(document)
        code, path, operand = max(operations, key=lambda each: size(each[2]))
        key = render(path)
        if code == "replace":
            key = max(operand, key=lambda each: size(operand[each]), default="replace()")
        limits = self.limits
        others = sum(document_size(d) for at, d in self.documents.items() if at != address)
        if after > max(limits.scope_bytes, before):
            raise _too_large(key, what, limits.scope_bytes)
        if after > before and others + after > limits.run_bytes:
            raise _too_large(key, "the metadata of the run", limits.run_bytes)
        # Reserve the room that other objects may still use without being measured.
        promised = sum(room for at, room in self._room.items() if at != address)
        free = limits.run_bytes - others - after - promised
        return max(0, min(limits.scope_bytes - after, free))


def _too_large(key: str, what: str, limit: int) -> MetadataLimitError:
    return MetadataLimitError(
        f"metadata {key}: with this value {what} would exceed {limit} bytes; "
        "delete keys, record less, or store the data elsewhere and record where"
    )


class Recording:
    """A metadata object that code writes to: its value, and the changes since it was opened.

    Args:
        address: its address in the budget.
        document: its value, which is changed in place.
        budget: sizes to keep.
        what: names it in messages.
    """

    __slots__ = ("_address", "_budget", "changes", "document", "what")

    def __init__(self, address: object, document: Document, budget: SizeBudget, what: str) -> None:
        self.document = document
        self.changes = Changes()
        self.what = what
        self._address = address
        self._budget = budget
        budget.put(address, document)

    def write(self, *operations: Operation) -> None:
        """Check and make operations: all of them, or none.

        Raises:
            MetadataValueError: one does not fit; nothing was changed.
            MetadataLimitError: they make the object or the run too large; nothing was changed.
        """
        if len(operations) == 1:
            check(self.document, operations[0])
        elif not all(map(_is_whole, operations)):
            trial = copy(self.document)
            for operation in operations:
                check(trial, operation)
                apply(trial, operation)
        self._budget.spend(self._address, self.what, operations)
        for operation in operations:
            self.note(operation)

    def note(self, operation: Operation) -> None:
        """Apply one operation without checks."""
        apply(self.document, operation)
        self.changes.note(operation)


@dataclasses.dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step recorded, as it is stored beside the step's result.

    Attributes:
        step: the step.
        branch: its `Step.branch`; not empty for a step of a `group.parallel`. Other steps of the
            group may have recorded at the same time.
        after: how many stored results the function had when it reached the step.
        changes: the changes of each object.
        views: the changes of the run's merged view, by kind.
    """

    step: StepRef
    branch: tuple[int, ...]
    after: int
    changes: dict[Address, Changes]
    views: dict[str, Changes]

    def to_json(self) -> Json:
        """Return it as JSON.

        `own` and `run` hold changes by kind, `steps` a list of `[id, index, kind, changes]`. `view`
        has only the kinds that more than one object of was written to.
        """
        encoded: dict[str, Json] = {"v": _VERSION, "step": list(self.step)}
        if self.branch:
            encoded |= {"parallel": True, "branch": list(self.branch), "after": self.after}
        for (scope, kind), changes in self.changes.items():
            if scope == self.step:
                encoded.setdefault("own", {})[kind] = changes.to_json()
            elif scope is None:
                encoded.setdefault("run", {})[kind] = changes.to_json()
            else:
                encoded.setdefault("steps", []).append([*scope, kind, changes.to_json()])
        kinds = [kind for _, kind in self.changes]
        mixed = {k: view.to_json() for k, view in self.views.items() if kinds.count(k) > 1}
        if mixed:
            encoded["view"] = mixed
        return encoded

    @classmethod
    def from_json(cls, encoded: Json) -> StepRecord:
        """Read what `to_json` wrote.

        Raises:
            MetadataError: it is malformed, or of a newer version.
        """
        read = Changes.from_json
        try:
            if encoded["v"] != _VERSION:
                raise MetadataError(
                    f"a step's recorded metadata has version {encoded['v']!r}; this plugin reads "
                    f"{_VERSION}: update inngest-plugins on every worker"
                )
            step = StepRef(*encoded["step"])
            changes: dict[Address, Changes] = {}
            for kind, changed in encoded.get("own", {}).items():
                changes[step, kind] = read(changed)
            for kind, changed in encoded.get("run", {}).items():
                changes[None, kind] = read(changed)
            for name, index, kind, changed in encoded.get("steps", ()):
                changes[StepRef(name, index), kind] = read(changed)
            views = {kind: changed for (_, kind), changed in changes.items()}
            views |= {kind: read(changed) for kind, changed in encoded.get("view", {}).items()}
            # Versions before 0.2 wrote no branch.
            unknown = (-1,) if encoded.get("parallel") else ()
            branch = tuple(map(int, encoded.get("branch", unknown)))
            return cls(step, branch, int(encoded.get("after", 0)), changes, views)
        except (KeyError, AttributeError, TypeError, ValueError) as err:
            raise MetadataError("a step's recorded metadata is malformed") from err
