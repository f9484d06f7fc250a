"""Changes of metadata: folded as they are made, and stored beside a step's result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from ._errors import MetadataError
from ._keys import Path, check_step
from ._operations import CODES, Document, Operation, add, apply
from ._values import Json, copy

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

    @classmethod
    def named(cls, step_id: str, index: int) -> StepRef:
        """Make one of what user code gave.

        Raises:
            MetadataKeyError: the id is no str, or the index is no whole number from 0.
        """
        check_step(step_id, index)
        return cls(step_id, index)


Scope: TypeAlias = "StepRef | None"
"""A step of this run, or the run itself."""
Address: TypeAlias = tuple[Scope, str]
"""A metadata object: its scope and its wire kind."""


class Changes:
    """The changes of an object, which `apply` repeats on any object.

    Operations are folded: ten thousand increments of a key are one. Once a key is set or deleted as
    a whole, only its new value counts.

    Args:
        operations: the first ones.

    Attributes:
        replaced: whether everything that was there before is deleted.
        by_key: the operations on each top-level key, in order.
    """

    __slots__ = ("by_key", "replaced")

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self.replaced = False
        self.by_key: dict[str, list[Operation]] = {}
        for operation in operations:
            self.note(operation)

    def note(self, operation: Operation) -> None:
        """Add an operation."""
        code, path, operand = operation
        if code == "replace":
            self.replaced = True
            self.by_key = {key: [("set", (key,), copy(operand[key]))] for key in operand}
            return
        key = str(path[0])
        if key not in self.by_key:
            self.by_key[key] = [("delete", (key,), None)] if self.replaced else []
        _fold(self.by_key[key], operation)

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
            if not is_whole(done[0]):
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
        for code, (first, *rest), value in encoded.get("do", ()):
            is_path = isinstance(first, str) and all(type(each) in (str, int) for each in rest)
            if code not in CODES or not is_path:
                raise ValueError(code)
            changes.note((code, (first, *rest), value))
        return changes


def is_whole(operation: Operation) -> bool:
    """Return whether an operation gives a top-level key its value, whatever it had."""
    return len(operation[1]) == 1 and operation[0] in ("set", "delete")


def _fold(done: list[Operation], operation: Operation) -> None:
    """Fold an operation into those on the same key.

    It folds into an earlier one if all between them are at places that neither contain its own nor
    lie in it. Indexes shift, so an operation at one folds into the last only.
    """
    code, path, operand = operation
    if is_whole(operation):
        done.clear()
    for position in range(len(done) - 1, max(-1, len(done) - 1 - _LOOK_BACK), -1):
        earlier = done[position]
        folded = _folded(earlier, operation)
        if folded is not None:
            done[position] = folded
            return
        if not _are_apart(earlier[1], path):
            break
    done.append((code, path, copy(operand)))


def _folded(earlier: Operation, operation: Operation) -> Operation | None:
    """Return two operations in a row as one; None where that cannot be."""
    before, place, value = earlier
    code, path, operand = operation
    inner = path[len(place) :]
    if path[: len(place)] != place:
        return None
    if before == "set" or is_whole(earlier):
        # The value is known, so the operation is made.
        known: Document = {"value": value} if before == "set" else {}
        apply(known, (code, ("value", *inner), operand))
        if "value" in known:
            return "set", place, known["value"]
        return ("delete", place, None) if len(place) == 1 else None
    if inner or (before == "delete" and isinstance(path[-1], int)):
        # After a removal an index names another item.
        return None
    if code == "set" or (code == before == "delete"):
        return code, path, copy(operand)
    if code == before == "increment":
        return code, path, add(value, operand)
    if code == before == "append":
        value.extend(copy(operand))
        return earlier
    return None


def _are_apart(one: Path, other: Path) -> bool:
    """Return whether two places stay where they are, and neither contains the other."""
    shared = min(len(one), len(other))
    has_index = any(isinstance(segment, int) for segment in (*one, *other))
    return not has_index and one[:shared] != other[:shared]


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
