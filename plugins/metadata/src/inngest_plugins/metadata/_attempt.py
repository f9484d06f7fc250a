"""What one attempt of a step records."""

from __future__ import annotations

from collections.abc import Sequence

from inngest_plugins.core import Step

from ._changes import Address, Changes, Scope, StepRecord, StepRef
from ._objects import Keys, MetadataObject, Objects
from ._operations import Document, Operation, apply
from ._sender import Updates
from ._values import Limits, copy


class Attempt:
    """What a step's handler records, until the outcome says whether the attempt counts.

    Args:
        step: the step.
        after: how many stored results the function had when it reached the step.
        run: the run's objects before the step.
        limits: sizes to keep.

    Attributes:
        step: the step.
        objects: the objects that it wrote to, each a copy of the run's.
        views: the run's merged view of each kind that it wrote to.
        changes: what it changed, by object.
        remote: its writes to other runs.
        sent: the keys whose values were sent before the outcome was known, by object.
        ended: whether the handler has returned or raised.
        collected: whether its changes are part of what the request sends.
    """

    def __init__(self, step: Step, after: int, run: Objects, limits: Limits) -> None:
        self.step = StepRef(step.id, step.index)
        self.objects: dict[Address, MetadataObject] = {}
        self.views: dict[str, Document] = {}
        self.changes: dict[Address, Changes] = {}
        self.remote = Updates(limits)
        self.sent: dict[Address, Keys] = {}
        self.ended = False
        self.collected = False
        self._run = run
        self._branch = step.branch
        self._after = after
        # The same as the object's, until a second object of the kind is written to: then the
        # order of the writes to both matters to the view.
        self._view_changes: dict[str, Changes] = {}

    def write(self, scope: Scope, kind: str, operations: Sequence[Operation]) -> None:
        """Record operations; raises when one is refused, and then records none."""
        address = scope, kind
        if address not in self.objects:
            self.objects[address] = self._run.copy(address)
        self.objects[address].write(operations)
        if kind not in self.views:
            self.views[kind] = copy(self.view(kind))
        if address not in self.changes:
            self.changes[address] = Changes()
            earlier = self._view_changes.get(kind)
            self._view_changes[kind] = (
                self.changes[address] if earlier is None else Changes(earlier)
            )
        changes, view_changes = self.changes[address], self._view_changes[kind]
        for operation in operations:
            apply(self.views[kind], operation)
            changes.note(operation)
            if view_changes is not changes:
                view_changes.note(operation)

    def view(self, kind: str) -> Document:
        """Return the run's merged view as the handler sees it; not a copy."""
        return self.views.get(kind, self._run.views.get(kind, {}))

    def step_record(self) -> StepRecord | None:
        """Return all that the step has recorded, or None."""
        if not self.changes:
            return None
        return StepRecord(self.step, self._branch, self._after, self.changes, self._view_changes)

    def take_unsent(self) -> dict[Address, Keys]:
        """Return the keys that have changed since the last time."""
        taken = {address: each.take_changed() for address, each in self.objects.items()}
        unsent = {address: keys for address, keys in taken.items() if keys}
        for address, keys in unsent.items():
            self.sent.setdefault(address, {}).update(keys)
        return unsent
