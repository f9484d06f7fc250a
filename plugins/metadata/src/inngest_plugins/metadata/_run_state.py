"""The metadata of a run, rebuilt in each request.

Each request starts with nothing. The replay records the body's operations again, and a step's are
stored beside its result: at every point of the body a read gives all that was recorded before it.

What a replay records again, an earlier request has sent. The body's operations are new only if no
memoized step follows them.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from inngest_plugins.core import Call, CallKey, Outcome, Phase, Step

from ._attempt import Attempt
from ._changes import Address, Scope, StepRef
from ._errors import MetadataContextError
from ._keys import wire_kind
from ._objects import ATTACHMENT, WHOLE, Keys, Objects
from ._operations import Document, Operation, apply
from ._sender import Sender, Target, Updates
from ._values import Json, Limits, copy

if TYPE_CHECKING:
    from ._live import Publisher


class Here(enum.Enum):
    """The scope of the current code: the running step in a step, the run in the body."""

    HERE = "here"


HERE: Final = Here.HERE
Where: TypeAlias = "Scope | Here"
ATTEMPT: Final = CallKey[Attempt]("metadata.attempt")
STATE: Final = CallKey["RunState"]("metadata.state")


class RunState:
    """The metadata of the run that a request belongs to. Safe to use from several threads.

    Attributes:
        call: the request.
        limits: sizes to keep.
        lock: held while anything is read or written.
        parent: the run that invoked this one, or None.
        root: the first run of the chain of invokes, or None.
        publisher: publishes changes to subscribers; None without `realtime`.
        outcome: how the request ended, once known.
    """

    def __init__(self, call: Call, limits: Limits, sender: Sender) -> None:
        self.call = call
        self.limits = limits
        self.lock = threading.RLock()
        self.parent: str | None = None
        self.root: str | None = None
        self.publisher: Publisher | None = None
        self.outcome: Outcome | None = None
        self._sender = sender
        # The embedded engine may run this run inside a step of another run, which is not its own.
        self._outer_step = call.step
        self._objects = Objects(call, limits)
        self._attempts: list[Attempt] = []
        # The body's objects that were written to since the last memoized step.
        self._body_writes: dict[Address, None] = {}
        self._body_remote = Updates(limits)
        # The keys that are new in this request: their values are read when they are sent.
        self._new_keys: dict[Address, Keys] = {}
        self._updates = Updates(limits)
        self._carrier: Outcome | None = None
        self._undelivered: set[str] = set()
        self._closed = False

    def write(self, where: Where, kind: str, operations: Sequence[Operation]) -> None:
        """Record operations of a kind, in order.

        Raises:
            MetadataError: one was refused, and none was recorded.
        """
        kind = wire_kind(kind, self.limits.kind_bytes)
        with self.lock:
            attempt = self._attempt()
            if attempt is not None:
                scope = attempt.step if where is HERE else where
                attempt.write(scope, kind, operations)
            else:
                address = None if where is HERE else where, kind
                view = self._objects.views.setdefault(kind, {})
                self._objects.at(address).write(operations)
                self._body_writes[address] = None
                for operation in operations:
                    apply(view, operation)
            if self.publisher is not None and (attempt is not None or self.is_new):
                self.publisher.changed()

    def write_remote(self, target: Target, kind: str, operations: Sequence[Operation]) -> None:
        """Record operations on another run's metadata; see `write`."""
        kind = wire_kind(kind, self.limits.kind_bytes)
        with self.lock:
            attempt = self._attempt()
            update = (self._body_remote if attempt is None else attempt.remote).to(target, kind)
            update.write(operations)

    def view(self, kind: str) -> Document:
        """Return what the run has recorded so far, in all scopes; not a copy. Hold `lock`."""
        attempt = self._attempt()
        return self._objects.views.get(kind, {}) if attempt is None else attempt.view(kind)

    def document(self, scope: Scope, kind: str) -> Document:
        """Return one scope's metadata so far; not a copy. Hold `lock`."""
        attempt = self._attempt()
        found = None if attempt is None else attempt.objects.get((scope, kind))
        return self._objects.document((scope, kind)) if found is None else found.document

    def snapshot(self) -> dict[str, Document]:
        """Return a copy of the view of every kind, as the newest code sees it."""
        with self.lock:
            views = dict(self._objects.views)
            for attempt in self._attempts:
                if not attempt.ended:
                    views |= attempt.views
            return {kind: copy(view) for kind, view in views.items()}

    @property
    def running_step(self) -> StepRef | None:
        """The step whose handler runs here, or None."""
        step = self._step()
        return None if step is None else StepRef(step.id, step.index)

    @property
    def is_new(self) -> bool:
        """Whether the code that runs here is run for the first time, as far as is known."""
        is_executing = self.call.phase is Phase.EXECUTING and self.call.target is None
        return is_executing or self._step() is not None

    # ------------------------------------------------------------ the request's course

    def replay_step(self, attached: Json) -> None:
        """Add the metadata of a memoized step that the function has reached."""
        if attached is None and not (
            self._body_writes or self._body_remote or self.call.left_groups
        ):
            return
        with self.lock:
            self._objects.absorb_left_groups()
            self._settle_body_writes(is_new=False)
            self._objects.absorb(attached)

    def begin_step(self) -> None:
        """Prepare for a step whose handler is about to run."""
        call = self.call
        if call.target is None:
            return
        with self.lock:
            # The request that planned this step has sent what the body had recorded. Within a
            # branch of a group it has not: the memos of other branches are still to come.
            self._objects.absorb_left_groups()
            self._settle_body_writes(is_new=len(call.consumed) < call.memo_count)

    def end_step(self, outcome: Outcome, step: Step) -> None:
        """Store a step's metadata beside its result."""
        attempt = step.get(ATTEMPT)
        if attempt is not None:
            with self.lock:
                attempt.ended = True
                record = attempt.step_record() if outcome.error is None else None
                if record is not None:
                    self._objects.apply(record)
                    outcome.attach(ATTACHMENT, record.to_json())
        if attempt is not None or self._body_writes or self._new_keys or self._updates:
            self._carrier = outcome
            outcome.before_written(lambda: self._add_to(outcome, step))

    def deliver_step(self, step: Step) -> Updates:
        """Return the updates to send now that the engine has stored a step's result."""
        with self.lock:
            self._undelivered.discard(step.hashed_id)
            attempt = step.get(ATTEMPT)
            if attempt in self._attempts:
                self._attempts.remove(attempt)
                self._updates.follow(attempt.remote)
            return self._drain()

    def flush(self) -> Updates:
        """Return new updates while the request goes on, without increments of other runs' keys."""
        with self.lock:
            attempt = self._attempt()
            if attempt is None and self.is_new:
                self._settle_body_writes(is_new=True)
            adds, new_keys = self._updates.split_adds(), dict(self._new_keys)
            updates = self._drain()
            self._updates = adds
            if self._undelivered:
                # Operations of steps that are not sent yet will bring older values after these.
                self._new_keys = new_keys
            if attempt is not None:
                for address, keys in attempt.take_unsent().items():
                    self._show(updates, address, attempt.objects[address].document, keys)
            return updates

    def send(self, updates: Updates) -> list[str]:
        """Send updates, and return one sentence for each request that failed; blocks."""
        problems = self._sender.deliver(
            self.call.client, updates, run_id=self.call.run_id, ended=self._closed and self.ended
        )
        if self.publisher is not None and not self._closed:
            self.publisher.drain()
        return problems

    def end_request(self) -> Updates | None:
        """End the request; return the updates for `deliver`, or None for nothing."""
        call = self.call
        if call.cancelled:
            # Nobody reads the answer, and the engine will send the request again.
            self._closed = True
            if self.publisher is not None:
                self.publisher.abandon()
            return None
        pending = self._sender.pending(call.client, call.run_id)
        with self.lock:
            # Send what an earlier request could not, with the values of now.
            for (target, kind), update in (pending or {}).items():
                document = self._objects.document((target.step, kind))
                update.show(document, [key for key in update.changes.by_key if key in document])
            if pending:
                pending.follow(self._updates)
                self._updates = pending
            updates = self._finish()
        has_work = updates or self.publisher or self._sender.has_pending(call.client)
        return updates if has_work else None

    def deliver(self, updates: Updates) -> None:
        """Send what `end_request` returned, and publish how the run ended; blocks."""
        try:
            if updates or self._sender.has_pending(self.call.client):
                self.send(updates)
        finally:
            if self.publisher is not None:
                failed = self.outcome is not None and self.outcome.error is not None
                ended = "failed" if failed else "completed"
                self.publisher.close(ended if self.ended else "running")

    @property
    def ended(self) -> bool:
        """Whether this request is the run's last."""
        outcome = self.outcome
        return (
            self.call.failure is None
            and outcome is not None
            and outcome.step is None
            and not outcome.will_retry
        )

    # ------------------------------------------------------------ steps

    def _step(self) -> Step | None:
        step = self.call.step
        return None if step is self._outer_step else step

    def _attempt(self) -> Attempt | None:
        """Return the attempt that the current code belongs to, None in the function's body."""
        step = self._step()
        attempt = None if step is None else step.get(ATTEMPT)
        step_ended = step is not None and (step.duration_ns if attempt is None else attempt.ended)
        if self._closed or step_ended:
            what = f"the request of run {self.call.run_id} is over"
            if not self._closed and step is not None:
                what = f"step {step.id!r} of run {self.call.run_id} has ended"
            raise MetadataContextError(
                f"metadata: {what}; a background task must record before the function or step "
                "that started it returns"
            )
        if attempt is None:
            self._objects.absorb_left_groups()
            if step is not None:
                attempt = step[ATTEMPT] = Attempt(
                    step, len(self.call.consumed), self._objects, self.limits
                )
                self._attempts.append(attempt)
        return attempt

    # ------------------------------------------------------------ updates to send

    def _settle_body_writes(self, *, is_new: bool) -> None:
        """Mark what the body wrote since the last memoized step for sending, if it is new."""
        for address in self._body_writes:
            keys = self._objects.at(address).take_changed()
            if is_new:
                self._mark(address, keys)
        self._body_writes.clear()
        if is_new:
            self._updates.follow(self._body_remote)
        self._body_remote.clear()

    def _mark(self, address: Address, keys: Iterable[str]) -> None:
        self._new_keys.setdefault(address, {}).update(dict.fromkeys(keys))

    def _drain(self) -> Updates:
        """Return all updates to send. From now on they count as sent."""
        updates = Updates(self.limits)
        for address, keys in self._new_keys.items():
            self._show(updates, address, self._objects.document(address), keys)
        self._new_keys = {}
        updates.follow(self._updates)
        self._updates.clear()
        return updates

    def _show(self, updates: Updates, address: Address, document: Document, keys: Keys) -> None:
        scope, kind = address
        updates.to(Target(self.call.run_id, scope), kind).show(document, keys)

    def _add_to(self, outcome: Outcome, step: Step) -> None:
        """Add new metadata of the step and its run to the step's operation before it is written."""
        with self.lock:
            self._collect(outcome, step)
            for target, entries in self._split_own(step).entries():
                scope: Literal["step_attempt", "step", "run"] = "run"
                if target.step is not None:
                    scope = "step" if target.attempt is None else "step_attempt"
                for entry in entries:
                    outcome.add_metadata(
                        entry["kind"], entry["values"], scope=scope, op=entry["op"]
                    )
            if not self._closed:
                self._carrier = None
                self._undelivered.add(step.hashed_id)

    def _split_own(self, step: Step) -> Updates:
        """Take the updates that an operation of the step can carry."""
        run_id, ref = self.call.run_id, StepRef(step.id, step.index)
        targets = [Target(run_id), Target(run_id, ref), Target(run_id, ref, self.call.attempt)]
        self._updates = self._drain()
        return self._updates.take(targets)

    def _collect(self, outcome: Outcome, step: Step) -> None:
        """Make a step's metadata part of the updates to send."""
        self._settle_body_writes(is_new=True)
        attempt = step.get(ATTEMPT)
        if attempt is None or attempt.collected:
            return
        if outcome.error is not None:
            self._discount(attempt, retried=outcome.will_retry)
            return
        attempt.collected = True
        for address, keys in attempt.take_unsent().items():
            self._mark(address, keys)

    def _discount(self, attempt: Attempt, *, retried: bool) -> None:
        """Undo what a failed attempt has sent, and show it at the attempt instead."""
        attempt.collected = True
        for address, sent in attempt.sent.items():
            self._mark(address, sent)
        attempt.remote.split_adds()
        target = Target(self.call.run_id, attempt.step, self.call.attempt if retried else None)
        for (scope, kind), changes in attempt.changes.items():
            if scope == attempt.step:
                keys = [WHOLE] if changes.replaced else list(changes.by_key)
                document = attempt.objects[scope, kind].document
                self._updates.to(target, kind).show(document, keys)

    def _finish(self) -> Updates:
        """Return what the request still has to send; nothing can be recorded any more."""
        self._closed = True
        self._objects.absorb_left_groups()
        outcome, carrier, broken = self.outcome, self._carrier, self.call.failure is not None
        retried = broken or (outcome is not None and outcome.will_retry)
        self._settle_body_writes(is_new=True)
        step = None if carrier is None or broken else carrier.step
        if carrier is not None and step is not None:
            self._collect(carrier, step)
        counts = None if step is None else step.get(ATTEMPT)
        for attempt in self._attempts:
            if not attempt.collected:
                self._discount(attempt, retried=retried)
            elif attempt is not counts:
                # The step is not delivered yet, and its delivery may fail.
                attempt.remote.split_adds()
            self._updates.follow(attempt.remote)
        self._attempts.clear()
        if retried:
            # The code that made these increments will run again.
            self._updates.split_adds()
        for address, keys in self._objects.to_repair.items():
            if self.ended or address in self._new_keys:
                self._mark(address, keys)
        if step is None:
            return self._drain()
        # The step's operation is written later, and carries the rest.
        carried = self._split_own(step)
        rest, self._updates = self._updates, carried
        return rest
