"""A step's attempt: what its handler records, until it is known whether it counts."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import TypeAlias

from ._delta import Delta
from ._errors import MetadataError
from ._json import Json
from ._limits import Limits
from ._ops import Document, Operation
from ._outgoing import StepRef, Target, Updates
from ._recording import Recording
from ._sizes import Sizes

Scope: TypeAlias = StepRef | None
"""A step of this run, or the run itself."""


class Here(enum.Enum):
    """Stands for the running step inside of one, and for the run in the body."""

    HERE = "here"


HERE = Here.HERE
Where: TypeAlias = Scope | Here
Address: TypeAlias = tuple[Scope, str]

_VERSION = 1


def scope_name(scope: Scope) -> str:
    """Return a scope's name for messages."""
    return "the run's metadata" if scope is None else f"the metadata of step {scope.id!r}"


class Objects:
    """The metadata objects of a run by scope and kind."""

    def __init__(self, limits: Limits, sizes: Sizes) -> None:
        self._limits = limits
        self._sizes = sizes
        self._recordings: dict[Address, Recording] = {}

    def at(self, scope: Scope, kind: str) -> Recording:
        """Return the object, a new one if there is none."""
        found = self._recordings.get((scope, kind))
        if found is None:
            found = Recording({}, self._limits, self._sizes, scope_name(scope))
            self._recordings[scope, kind] = found
            self._sizes.watch((scope, kind), found.document)
        return found

    def document(self, scope: Scope, kind: str) -> Document:
        """Return the object's value; not a copy."""
        found = self._recordings.get((scope, kind))
        return {} if found is None else found.document

    def __iter__(self) -> Iterator[tuple[Address, Recording]]:
        return iter(self._recordings.items())


@dataclasses.dataclass(frozen=True, slots=True)
class Envelope:
    """What a step recorded, as it travels beside the step's memoized result.

    Attributes:
        step: the step.
        parallel: whether it stood in a `group.parallel`, so that others may have recorded
            meanwhile without knowing of it.
        changes: what was done to which object.
        views: what was done to the run's merged view, by kind.
    """

    step: StepRef
    parallel: bool
    changes: dict[Address, Delta]
    views: dict[str, Delta]

    def to_json(self) -> Json:
        """Return it as JSON.

        `own` and `run` hold deltas by kind, `steps` a list of `[id, index, kind, delta]`. `view`
        is only there for kinds that more than one object was written to.
        """
        encoded: dict[str, Json] = {"v": _VERSION, "step": list(self.step)}
        if self.parallel:
            encoded["parallel"] = True
        for (scope, kind), delta in self.changes.items():
            if scope == self.step:
                encoded.setdefault("own", {})[kind] = delta.to_json()
            elif scope is None:
                encoded.setdefault("run", {})[kind] = delta.to_json()
            else:
                encoded.setdefault("steps", []).append([*scope, kind, delta.to_json()])
        separate = {kind: d.to_json() for kind, d in self.views.items() if self._mixed(kind)}
        if separate:
            encoded["view"] = separate
        return encoded

    def _mixed(self, kind: str) -> bool:
        return sum(other == kind for _, other in self.changes) > 1

    @classmethod
    def from_json(cls, encoded: Json) -> Envelope:
        """Read what `to_json` wrote.

        Raises:
            MetadataError: it is nothing of the kind, or of a newer version.
        """
        try:
            if encoded["v"] != _VERSION:
                raise MetadataError(
                    f"a step's recorded metadata has version {encoded['v']!r}; this plugin reads "
                    f"{_VERSION}: update inngest-plugins on every worker"
                )
            step = StepRef(*encoded["step"])
            changes: dict[Address, Delta] = {}
            for kind, delta in encoded.get("own", {}).items():
                changes[step, kind] = Delta.from_json(delta)
            for kind, delta in encoded.get("run", {}).items():
                changes[None, kind] = Delta.from_json(delta)
            for name, index, kind, delta in encoded.get("steps", ()):
                changes[StepRef(name, index), kind] = Delta.from_json(delta)
            views = {kind: delta for (_, kind), delta in changes.items()}
            for kind, delta in encoded.get("view", {}).items():
                views[kind] = Delta.from_json(delta)
            return cls(step, bool(encoded.get("parallel")), changes, views)
        except (KeyError, AttributeError, TypeError, ValueError) as err:
            raise MetadataError("a step's recorded metadata is malformed") from err


class Frame:
    """One attempt of a step in this request.

    Attributes:
        step: the step.
        hashed_id: the engine's id of it.
        remote: writes to other runs.
        ended: whether the handler is done.
        raised: what the handler raised.
        flushed: keys that were sent before the attempt's outcome was known.
    """

    def __init__(
        self,
        step: StepRef,
        hashed_id: str,
        *,
        parallel: bool,
        objects: Objects,
        view: Callable[[str], Document],
        limits: Limits,
        sizes: Sizes,
    ) -> None:
        self.step = step
        self.hashed_id = hashed_id
        self.remote = Updates(limits)
        self.ended = False
        self.raised: BaseException | None = None
        self.flushed: dict[Address, dict[str, None]] = {}
        self._parallel = parallel
        self._objects = objects
        self._base_view = view
        self._limits = limits
        self._sizes = sizes
        self._recordings: dict[Address, Recording] = {}
        self._own: dict[str, Recording] = {}
        self._views: dict[str, Recording] = {}

    def write(self, where: Where, kind: str, operation: Operation) -> None:
        """Record one operation; raises when it is refused."""
        recording = self._own.get(kind) if where is HERE else None
        if recording is None:
            recording = self._open(where, kind)
        recording.write(operation)
        view = self._views.get(kind)
        if view is not None:
            view.note(operation)

    def replace(self, where: Where, kind: str, values: Document) -> None:
        """Put a new object in place; raises when it is refused."""
        self._open(where, kind).replace(values)
        view = self._views.get(kind)
        if view is not None:
            view.note_replace(values)

    def view(self, kind: str) -> Recording:
        """Return the run's merged view as the handler sees it."""
        found = self._views.get(kind)
        if found is None:
            # Kept from the first read on; before that, a step that only writes does not pay for it.
            found = Recording(self._base_view(kind), self._limits, Sizes(self._limits), "the view")
            for (_, other), recording in self._recordings.items():
                if other == kind:
                    found.repeat(recording.delta())
            self._views[kind] = found
        return found

    def document(self, scope: Scope, kind: str) -> Document:
        """Return one object's value as the handler sees it; not a copy."""
        found = self._recordings.get((scope, kind))
        return self._objects.document(scope, kind) if found is None else found.document

    @property
    def kinds(self) -> set[str]:
        """The kinds that the handler has written to."""
        return {kind for _, kind in self._recordings}

    def envelope(self) -> Envelope | None:
        """Return what was recorded; None when nothing was."""
        changes = {
            address: delta
            for address, recording in self._recordings.items()
            if (delta := recording.delta())
        }
        if not changes:
            return None
        views = {kind: delta for (_, kind), delta in changes.items()}
        views.update((kind, view.delta()) for kind, view in self._views.items() if kind in views)
        return Envelope(self.step, self._parallel, changes, views)

    def take_unsent(self, run_id: str) -> Updates:
        """Return what has changed since the last time, for sending before the outcome is known."""
        updates = Updates(self._limits)
        for address, recording in self._recordings.items():
            if recording.touched or recording.unsent_replace:
                scope, kind = address
                sent = self.flushed.setdefault(address, {})
                sent.update(recording.touched)
                updates.to(Target(run_id, scope), kind).show(
                    recording.document, recording.touched, replaced=recording.unsent_replace
                )
                recording.touched.clear()
                recording.unsent_replace = False
        return updates

    def unsent(self) -> dict[Address, tuple[list[str], bool]]:
        """Return the keys that have not been sent yet, and whether the object was replaced."""
        return {
            address: (list(recording.touched), recording.unsent_replace)
            for address, recording in self._recordings.items()
            if recording.touched or recording.unsent_replace
        }

    def report(self, target: Target) -> Updates:
        """Return all that the attempt recorded for its own step."""
        updates = Updates(self._limits)
        for (scope, kind), recording in self._recordings.items():
            delta = recording.delta()
            if scope == self.step and delta:
                updates.to(target, kind).show(
                    recording.document, delta.keys, replaced=delta.replaced
                )
        return updates

    def _open(self, where: Where, kind: str) -> Recording:
        scope = self.step if where is HERE else where
        address = (scope, kind)
        found = self._recordings.get(address)
        if found is None:
            if kind in self.kinds:
                # From the second object on, their order matters: it is kept by the view.
                self.view(kind)
            base = self._objects.document(scope, kind)
            found = Recording(base, self._limits, self._sizes, scope_name(scope))
            self._recordings[address] = found
            if scope == self.step:
                self._own[kind] = found
            self._sizes.watch(address, found.document)
        return found
