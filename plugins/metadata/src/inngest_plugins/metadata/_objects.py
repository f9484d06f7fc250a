"""The metadata objects of a run and its steps, as one request knows them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, TypeAlias

from inngest_plugins.core import Call, Step

from ._changes import Address, Changes, Recording, Scope, SizeBudget, StepRecord, StepRef
from ._errors import MetadataError
from ._operations import Document, Operation, apply
from ._sender import Updates
from ._values import Json, Limits, copy, same

_logger = logging.getLogger("inngest_plugins.metadata")

ATTACHMENT: Final = "metadata"
_GONE: Final = object()

Keys: TypeAlias = dict[str, None]

WHOLE: Final = ""
"""Stands among changed keys for the whole object; a real key is never empty."""


class Objects:
    """The metadata objects of a run, as one request knows them.

    Args:
        call: the request.
        limits: sizes to keep.

    Attributes:
        views: everything that the run has recorded, in all scopes, by kind.
        to_repair: keys that steps of a group wrote at the same time, so that the engine may have an
            older value.
    """

    __slots__ = ("_absorbed", "_budget", "_call", "_left", "_recordings", "to_repair", "views")

    def __init__(self, call: Call, limits: Limits) -> None:
        self.to_repair: dict[Address, Keys] = {}
        self.views: dict[str, Document] = {}
        self._call = call
        self._budget = SizeBudget(limits)
        self._recordings: dict[Address, Recording] = {}
        self._left = 0
        self._absorbed: set[str] = set()

    def at(self, address: Address) -> Recording:
        """Return an object, which is created if there is none."""
        if address not in self._recordings:
            self._recordings[address] = self._open(address, {})
        return self._recordings[address]

    def copy(self, address: Address) -> Recording:
        """Return a copy of an object, which counts towards the limits in its place."""
        return self._open(address, copy(self.document(address)))

    def document(self, address: Address) -> Document:
        """Return an object's value; not a copy."""
        found = self._recordings.get(address)
        return {} if found is None else found.document

    def apply(self, record: StepRecord) -> None:
        """Make the changes that a step recorded."""
        for address, changes in record.changes.items():
            document = self.at(address).document
            changes.apply(document)
            self._budget.put(address, document)
        for kind, changes in record.views.items():
            changes.apply(self.views.setdefault(kind, {}))

    def absorb(self, attached: Json) -> None:
        """Add the record beside the result of a step that the function has reached."""
        record = self._read(attached)
        if record is not None:
            self._absorb(record)

    def absorb_left_groups(self) -> None:
        """Add what steps recorded that the function no longer reaches."""
        left = self._call.left_groups
        while self._left < len(left):
            group = left[self._left]
            self._left += 1
            depth = len(group)
            found: list[StepRecord] = []
            reached = self._absorbed.union(self._call.consumed)
            for hashed_id in self._call.memos.keys() - reached:
                record = self._read(self._call.attachment(hashed_id, ATTACHMENT))
                if record is not None and record.branch[:depth] == group:
                    self._absorbed.add(hashed_id)
                    found.append(record)
            # Sorted by branch, and within a branch in the order of the program.
            found.sort(key=lambda record: (record.branch[: depth + 1], record.after))
            for record in found:
                self._absorb(record)

    def _read(self, attached: Json) -> StepRecord | None:
        try:
            return None if attached is None else StepRecord.from_json(attached)
        except MetadataError:
            _logger.exception("a step's metadata is left out of run %s", self._call.run_id)
            return None

    def _absorb(self, record: StepRecord) -> None:
        self.apply(record)
        if record.branch:
            for address, changes in record.changes.items():
                if address[0] != record.step:
                    self.to_repair.setdefault(address, {}).update(dict.fromkeys(changes.by_key))

    def _open(self, address: Address, document: Document) -> Recording:
        scope = address[0]
        what = "the run's metadata" if scope is None else f"the metadata of step {scope.id!r}"
        return Recording(address, document, self._budget, what)


class Attempt:
    """What a step's handler records, until the outcome says whether the attempt counts.

    Args:
        step: the step.
        after: how many stored results the function had when it reached the step.
        objects: the run's objects before the step.
        limits: sizes to keep.

    Attributes:
        step: the step.
        recordings: the objects that it wrote to, each a copy of the run's.
        remote: its writes to other runs.
        sent: values sent before the outcome was known, by object and key.
        ended: whether the handler has returned or raised.
        collected: whether its changes are part of what the request sends.
    """

    __slots__ = (
        "_after",
        "_branch",
        "_mixed",
        "_objects",
        "_views",
        "collected",
        "ended",
        "recordings",
        "remote",
        "sent",
        "step",
    )

    def __init__(self, step: Step, after: int, objects: Objects, limits: Limits) -> None:
        self.step = StepRef(step.id, step.index)
        self.recordings: dict[Address, Recording] = {}
        self.remote = Updates(limits)
        self.sent: dict[Address, dict[str, object]] = {}
        self.ended = False
        self.collected = False
        self._objects = objects
        self._branch = step.branch
        self._after = after
        self._mixed: dict[str, Changes] = {}
        self._views: dict[str, Document] = {}

    def write(self, scope: Scope, kind: str, operations: Sequence[Operation]) -> None:
        """Record operations; raises when one is refused, and then records none."""
        address = scope, kind
        recording = self.recordings.get(address)
        if recording is None:
            if kind not in self._mixed and (alone := self._changes_of(kind)) is not None:
                # The order of writes to several objects matters, and the view keeps it.
                mixed = self._mixed[kind] = Changes()
                for earlier in alone:
                    mixed.note(earlier)
            recording = self._objects.copy(address)
            self.recordings[address] = recording
        recording.write(*operations)
        for operation in operations:
            if kind in self._mixed:
                self._mixed[kind].note(operation)
            if kind in self._views:
                apply(self._views[kind], operation)

    def view(self, kind: str) -> Document:
        """Return the run's merged view as the handler sees it; not a copy."""
        if kind not in self._views:
            view = self._views[kind] = copy(self._objects.views.get(kind, {}))
            changes = self._changes_of(kind)
            if changes is not None:
                changes.apply(view)
        return self._views[kind]

    def kinds(self) -> set[str]:
        """Return the kinds that the handler has written to."""
        return {kind for _, kind in self.recordings}

    def step_record(self) -> StepRecord | None:
        """Return all that the step has recorded, or None."""
        if not self.recordings:
            return None
        changes = {address: each.changes for address, each in self.recordings.items()}
        views = {kind: self._changes_of(kind) or Changes() for kind in self.kinds()}
        return StepRecord(self.step, self._branch, self._after, changes, views)

    def take_unsent(self) -> dict[Address, Keys]:
        """Return the keys that have changed since the last time."""
        unsent: dict[Address, Keys] = {}
        for address, recording in self.recordings.items():
            changes, document = recording.changes, recording.document
            keys: Keys = {WHOLE: None} if changes.replaced and address not in self.sent else {}
            sent = self.sent.setdefault(address, {})
            for key in changes.by_key:
                value = document.get(key, _GONE)
                if key not in sent or not same(sent[key], value):
                    keys[key] = None
                    sent[key] = copy(value)
            if keys:
                unsent[address] = keys
        return unsent

    def _changes_of(self, kind: str) -> Changes | None:
        written = [each.changes for (_, other), each in self.recordings.items() if other == kind]
        return self._mixed.get(kind) or (written[0] if written else None)
