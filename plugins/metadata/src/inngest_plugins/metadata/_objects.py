"""The metadata objects of a run and its steps, as one request knows them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from inngest_plugins.core import Call

from ._changes import Address, StepRecord
from ._errors import MetadataError, MetadataLimitError
from ._keys import check_key, render
from ._operations import Document, Operation, apply, check
from ._values import Json, Limits, copy, document_size, size

_logger = logging.getLogger("inngest_plugins.metadata")

ATTACHMENT: Final = "metadata"

Keys: TypeAlias = dict[str, None]

WHOLE: Final = ""
"""Stands among changed keys for the whole object; a real key is never empty."""


class SizeBudget:
    """Keeps a run's metadata objects below the limits.

    Measuring an object is slow, so each has a bound: a write adds at least what it can make the
    object grow. Only when the bounds reach a limit are objects measured, so that a refusal is
    always exact.

    Args:
        limits: sizes to keep.

    Attributes:
        documents: the objects that count, by address.
    """

    __slots__ = ("_bounds", "documents", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.documents: dict[object, Document] = {}
        self._bounds: dict[object, int] = {}

    def spend(self, address: object, operations: Iterable[Operation]) -> bool:
        """Count writes to an object, and return whether they are sure to fit."""
        bound = self._bounds.get(address, 0)
        for code, path, operand in operations:
            if code not in ("delete", "remove"):
                # A rendered number has at most 25 bytes; a character of a key or text at most 6.
                bound += 26 if type(operand) in (int, float) else size(operand) + 2
                bound += sum(6 * len(each) + 6 if type(each) is str else 6 for each in path)
        self._bounds[address] = bound
        limits = self.limits
        return bound <= limits.scope_bytes and sum(self._bounds.values()) <= limits.run_bytes

    def measure(
        self, address: object, what: str, after: Document, operations: Sequence[Operation]
    ) -> None:
        """Measure what an object would be after writes.

        Args:
            address: the object's place in `documents`.
            what: names the object in the message.
            after: what it would be.
            operations: the writes.

        Raises:
            MetadataLimitError: the object, or the whole run, would be too large.
        """
        limits = self.limits
        before, new = document_size(self.documents[address]), document_size(after)
        if new > max(limits.scope_bytes, before):
            raise _too_large(operations, what, limits.scope_bytes)
        self._bounds[address] = new
        if new > before and sum(self._bounds.values()) > limits.run_bytes:
            self._bounds = {at: document_size(each) for at, each in self.documents.items()}
            self._bounds[address] = new
            if sum(self._bounds.values()) > limits.run_bytes:
                raise _too_large(operations, "the metadata of the run", limits.run_bytes)


def _too_large(operations: Sequence[Operation], what: str, limit: int) -> MetadataLimitError:
    code, path, operand = max(operations, key=lambda each: size(each[2]))
    key = render(path)
    if code == "replace":
        key = max(operand, key=lambda each: size(operand[each]), default="replace()")
    return MetadataLimitError(
        f"metadata {key}: with this value {what} would exceed {limit} bytes; "
        "delete keys, record less, or store the data elsewhere and record where"
    )


class MetadataObject:
    """A metadata object that code writes to.

    Args:
        address: its address in the budget.
        document: its value, which is changed in place.
        budget: sizes to keep.
        what: names it in messages.

    Attributes:
        document: its value.
        changed: the top-level keys that were written to; `WHOLE` for a replacement.
        what: names it in messages.
    """

    __slots__ = ("_address", "_budget", "changed", "document", "what")

    def __init__(self, address: object, document: Document, budget: SizeBudget, what: str) -> None:
        self.document = document
        self.changed: Keys = {}
        self.what = what
        self._address = address
        self._budget = budget
        budget.documents[address] = document

    def write(self, operations: Sequence[Operation]) -> None:
        """Check and make operations: all of them, or none.

        Raises:
            MetadataKeyError: a key is too long.
            MetadataTargetError: one cannot be made here.
            MetadataValueError: one does not fit.
            MetadataLimitError: they make the object or the run too large.
        """
        keys: Keys = {}
        for code, path, operand in operations:
            written: Keys = dict.fromkeys(operand) if code == "replace" else {str(path[0]): None}
            for key in written:
                check_key(key, self._budget.limits.key_bytes)
            keys |= {WHOLE: None} if code == "replace" else written
        fits = self._budget.spend(self._address, operations)
        document = self.document
        if len(operations) > 1 or not fits:
            # Any of them may be refused, so they are made on a copy of what they touch.
            document = {k: copy(v) if k in keys else v for k, v in document.items()}
        for operation in operations:
            self._check(document, operation)
            apply(document, operation)
        if not fits:
            self._budget.measure(self._address, self.what, document, operations)
        if document is not self.document:
            self.document.clear()
            self.document.update(document)
        self.changed |= keys

    def take_changed(self) -> Keys:
        """Return the keys that were written to since the last time."""
        keys, self.changed = self.changed, {}
        return keys

    def _check(self, document: Document, operation: Operation) -> None:
        """Refuse an operation that cannot be made on the object as it is."""
        check(document, operation)


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

    __slots__ = ("_absorbed", "_budget", "_call", "_left", "_objects", "to_repair", "views")

    def __init__(self, call: Call, limits: Limits) -> None:
        self.to_repair: dict[Address, Keys] = {}
        self.views: dict[str, Document] = {}
        self._call = call
        self._budget = SizeBudget(limits)
        self._objects: dict[Address, MetadataObject] = {}
        self._left = 0
        self._absorbed: set[str] = set()

    def at(self, address: Address) -> MetadataObject:
        """Return an object, which is created if there is none."""
        if address not in self._objects:
            self._objects[address] = self._open(address, {})
        return self._objects[address]

    def copy(self, address: Address) -> MetadataObject:
        """Return a copy of an object, which counts towards the limits in its place."""
        return self._open(address, copy(self.document(address)))

    def document(self, address: Address) -> Document:
        """Return an object's value; not a copy."""
        found = self._objects.get(address)
        return {} if found is None else found.document

    def apply(self, record: StepRecord) -> None:
        """Make the changes that a step recorded."""
        for address, changes in record.changes.items():
            document = self.at(address).document
            changes.apply(document)
            self._budget.documents[address] = document
            self._budget.spend(address, changes)
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

    def _open(self, address: Address, document: Document) -> MetadataObject:
        scope = address[0]
        what = "the run's metadata" if scope is None else f"the metadata of step {scope.id!r}"
        return MetadataObject(address, document, self._budget, what)
