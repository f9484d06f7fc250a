"""Metadata as the engine takes it: `POST /v1/runs/{run}/metadata`.

One request carries the updates of one target. The engine knows four operations, all of them on
top-level keys: merge, set, delete and add (numeric sum). Of these only add depends on what the
engine has; so a run's own metadata goes out as merge, set and delete of known values, which may
be sent twice, and add is kept for other runs' keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ._errors import MetadataTargetError
from ._json import Json, copy
from ._limits import Limits
from ._ops import Document, Operation, add, is_number
from ._paths import render, top_level
from ._sizes import document_size, write_cost

_GONE: Final[Json] = object()


class StepRef(NamedTuple):
    """A step of a run.

    Attributes:
        id: the id that the user gave.
        use: which use of the id it is, from 0.
    """

    id: str
    use: int = 0


class Target(NamedTuple):
    """What metadata is attached to.

    Attributes:
        run_id: ULID of the run.
        step: a step of it; None for the run itself.
        attempt: an attempt of the step that failed and was retried; None for its last one. The
            engine has no other address for the attempt that ends a step.
    """

    run_id: str
    step: StepRef | None = None
    attempt: int | None = None

    def to_json(self) -> Json:
        """Return the `target` of the request's body."""
        target: dict[str, Json] = {}
        if self.step is not None:
            target["step_id"] = self.step.id
            if self.step.use:
                target["step_index"] = self.step.use
            if self.attempt is not None:
                target["step_attempt"] = self.attempt
        return target

    def __str__(self) -> str:
        if self.step is None:
            return f"run {self.run_id}"
        return f"step {self.step.id!r} of run {self.run_id}"


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The updates of one target that go out in one request.

    Attributes:
        target: what they are attached to.
        entries: the `metadata` list of the request's body.
        adds: whether one of them is an add, which must not be sent twice.
    """

    target: Target
    entries: list[Json]
    adds: bool

    def to_json(self) -> Json:
        """Return the request's body."""
        return {"target": self.target.to_json(), "metadata": self.entries}


class Update:
    """What to tell the engine about one kind of metadata of one target.

    Folds what it takes, so that one request with at most one entry for each of the engine's
    operations says it all: a key is merged, deleted or added to.
    """

    __slots__ = ("_adds", "_bound", "_limits", "_replaced", "_values", "_what", "kind")

    def __init__(self, kind: str, limits: Limits, what: str) -> None:
        """Open an update.

        Args:
            kind: the wire kind.
            limits: sizes to keep.
            what: the target's name for messages.
        """
        self.kind = kind
        self._limits = limits
        self._what = what
        self._replaced = False
        self._values: dict[str, Json] = {}
        self._adds: dict[str, int | float] = {}
        self._bound = 0

    def write(self, operation: Operation) -> None:
        """Take an operation on metadata whose present value is not known: another run's.

        Raises:
            MetadataTargetError: the engine cannot do that without knowing the present value.
            MetadataLimitError: the update would be too large.
        """
        code, path, operand = operation
        if len(path) > 1 or code in ("append", "remove"):
            raise MetadataTargetError(
                f"metadata {render(path)} of {self._what}: the engine can only set, delete and "
                "increment whole top-level keys of metadata that is written from elsewhere; what "
                "is nested in it, and the items of its lists, cannot be changed without a race. "
                "Give every writer a key of its own, or write from the run itself"
            )
        key = top_level(path)
        if code == "delete":
            self._values[key] = _GONE
            self._adds.pop(key, None)
        elif code == "set":
            self._reserve(key, operand, write_cost(operand, path))
            self._values[key] = operand
            self._adds.pop(key, None)
        elif key in self._values or self._replaced:
            present: Json = self._values.get(key, _GONE)
            self._values[key] = add(present, operand) if is_number(present) else operand
        else:
            self._adds[key] = add(self._adds.get(key, 0), operand)

    def replace(self, values: Document) -> None:
        """Put a new object in place of what is there.

        Raises:
            MetadataLimitError: it is too large.
        """
        total = document_size(values)
        if total > self._limits.scope_bytes:
            raise self._limits.too_large(next(iter(values)), self._what, self._limits.scope_bytes)
        self._bound = total
        self._values = copy(values)
        self._adds = {}
        self._replaced = True

    def show(self, document: Document, keys: Iterable[str], *, replaced: bool) -> None:
        """Bring the engine up to date with an object whose value is known.

        Args:
            document: the object.
            keys: which top-level keys have changed; those that it lacks are deleted.
            replaced: whether all of it is new.
        """
        if replaced:
            self._values, self._replaced = copy(document), True
        else:
            for key in keys:
                self._values[key] = copy(document[key]) if key in document else _GONE
        self._adds = {key: n for key, n in self._adds.items() if key not in self._values}

    def drop_adds(self) -> None:
        """Forget the increments."""
        self._adds = {}

    def split_adds(self) -> Update:
        """Move the increments to an update of their own."""
        adds = Update(self.kind, self._limits, self._what)
        adds._adds, self._adds = self._adds, {}
        return adds

    def follow(self, later: Update) -> None:
        """Take over what a later update of the same target and kind says."""
        if later._replaced:
            self._values, self._adds, self._replaced = dict(later._values), {}, True
        else:
            self._values.update(later._values)
            self._adds = {key: n for key, n in self._adds.items() if key not in later._values}
        for key, amount in later._adds.items():
            self.write(("increment", (key,), amount))

    @property
    def adds(self) -> bool:
        """Whether there are increments of unknown values."""
        return bool(self._adds)

    @property
    def keys(self) -> Iterator[str]:
        """The keys that are merged or deleted."""
        return iter(self._values)

    def entries(self) -> list[Json]:
        """Return the entries for the request's body; none when there is nothing to say."""
        merged = {key: value for key, value in self._values.items() if value is not _GONE}
        gone = {key: None for key, value in self._values.items() if value is _GONE}
        found: list[tuple[str, Document]] = []
        if self._replaced:
            found.append(("set", merged))
        else:
            found += [("delete", gone)] if gone else []
            found += [("merge", merged)] if merged else []
        if self._adds:
            found.append(("add", dict(self._adds)))
        return [{"kind": self.kind, "op": op, "values": values} for op, values in found]

    def _reserve(self, key: str, value: Json, cost: int) -> None:
        self._bound += cost
        if self._bound > self._limits.scope_bytes:
            values = {**self._values, key: value}
            self._bound = document_size(
                {name: item for name, item in values.items() if item is not _GONE}
            )
            if self._bound > self._limits.scope_bytes:
                raise self._limits.too_large(key, self._what, self._limits.scope_bytes)


class Updates:
    """Updates of any number of targets."""

    __slots__ = ("_limits", "_updates")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._updates: dict[tuple[Target, str], Update] = {}

    def to(self, target: Target, kind: str) -> Update:
        """Return the update of one target and wire kind."""
        found = self._updates.get((target, kind))
        if found is None:
            found = self._updates[target, kind] = Update(kind, self._limits, str(target))
        return found

    def follow(self, later: Updates) -> None:
        """Take over later updates."""
        for (target, kind), update in later._updates.items():
            self.to(target, kind).follow(update)

    def take(self, target: Target) -> Updates:
        """Move the updates of one target out of here."""
        taken = Updates(self._limits)
        for address in [address for address in self._updates if address[0] == target]:
            taken._updates[address] = self._updates.pop(address)
        return taken

    def drop_adds(self) -> None:
        """Forget all increments."""
        for update in self._updates.values():
            update.drop_adds()

    def split_adds(self) -> Updates:
        """Move the increments to updates of their own."""
        adds = Updates(self._limits)
        for address, update in self._updates.items():
            if update.adds:
                adds._updates[address] = update.split_adds()
        return adds

    def clear(self) -> None:
        """Forget everything."""
        self._updates.clear()

    def items(self) -> Iterator[tuple[Target, Update]]:
        """Return the updates with their targets."""
        return ((target, update) for (target, _), update in self._updates.items())

    def __len__(self) -> int:
        return len(self._updates)

    def __bool__(self) -> bool:
        return any(update.entries() for update in self._updates.values())

    def batches(self) -> list[Batch]:
        """Return one batch for each target there is something to say about."""
        entries: dict[Target, list[Json]] = {}
        adds: set[Target] = set()
        for target, update in self.items():
            found = update.entries()
            if found:
                entries.setdefault(target, []).extend(found)
            if update.adds:
                adds.add(target)
        return [Batch(target, found, target in adds) for target, found in entries.items()]
