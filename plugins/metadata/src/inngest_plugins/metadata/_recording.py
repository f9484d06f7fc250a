"""A metadata object under way: its value, and what was done to it in short form.

A step's recording travels with the step's memoized result, so it is kept short as it is made:
once a top-level key was set or deleted as a whole, its final value says everything (it is
*rooted*); before that, operations relative to an unknown value are folded into one another where
that changes nothing. Ten thousand increments are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ._delta import Delta
from ._folding import Generation
from ._json import MAX_SAFE_INTEGER, Json, copy, size
from ._limits import Limits
from ._ops import Code, Document, Operation, apply, check, find
from ._paths import Path, render, top_level
from ._sizes import Sizes, document_size, write_cost

_NOT_PLAIN: Final[Json] = object()
# Bytes that a plain value takes at most; a text takes these and six for each character.
_PLAIN_COST: Final[dict[type, int]] = {int: 24, float: 25, bool: 5, type(None): 4, str: 2}


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
        self._relative: dict[str, list[Generation]] = {}
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
            generations = self._relative[key] = [Generation()]
        if not generations[-1].take(operation):
            generations.append(Generation())
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
