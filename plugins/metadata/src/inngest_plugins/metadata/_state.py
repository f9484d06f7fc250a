"""What one request knows of its run's metadata.

Each request starts with nothing and rebuilds it the way the run made it: the body's operations
are recorded again by the replay, and a step's come from beside its memoized result at the moment
the function is handed that result. So at every point of the body the view holds what was recorded
before that point, whichever worker replays it.

What a replay records again was sent by an earlier request. The body's operations are new only if
no memoized result is consumed after them: the code up to the last result that the function was
handed has run before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from inngest_plugins.core import Call, CallKey, Outcome, Phase, Step

from ._errors import MetadataContextError, MetadataError
from ._frame import HERE, Address, Envelope, Frame, Objects, Scope, Where
from ._json import Json, copy
from ._limits import Limits
from ._ops import Document, Operation, apply
from ._outgoing import StepRef, Target, Update, Updates
from ._sender import Sender
from ._sizes import Sizes

if TYPE_CHECKING:
    from ._live import Publisher

_logger = logging.getLogger("inngest_plugins.metadata")

ATTACHMENT = "metadata"
FRAME = CallKey[Frame]("metadata.frame")
STATE = CallKey["RunState"]("metadata.state")

CURRENT: ContextVar[RunState | None] = ContextVar("inngest_plugins_metadata", default=None)
"""The state of the run that the current code belongs to."""

RUNNING: ContextVar[Frame | None] = ContextVar("inngest_plugins_metadata_step", default=None)
"""The attempt of a step that the current code belongs to."""


class RunState:
    """The metadata of the run that a request belongs to. Safe to use from several threads.

    Attributes:
        call: the request.
        limits: sizes to keep.
        lock: held while anything is read or written.
        parent: the run that invoked this one, or None.
        root: the first run of the chain of invokes, or None.
        publisher: tells subscribers about changes; None without `realtime`.
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
        self._sizes = Sizes(limits)
        self._objects = Objects(limits, self._sizes)
        self._views: dict[str, Document] = {}
        self._consumed = 0
        self._frames: list[Frame] = []
        # Keys of the body's objects that were written since the last memo was consumed.
        self._tail: dict[Address, None] = {}
        self._remote_tail = Updates(limits)
        # What is new in this request, by key: the values are read when it is sent.
        self._fresh: dict[Address, tuple[dict[str, None], bool]] = {}
        self._heal: dict[Address, dict[str, None]] = {}
        self._updates = Updates(limits)
        self._closed = False

    # ------------------------------------------------------------ recording and reading

    def write(self, where: Where, kind: str, operations: Iterable[Operation]) -> None:
        """Record operations.

        Args:
            where: what they belong to.
            kind: the wire kind.
            operations: what to do, in order.

        Raises:
            MetadataError: one was refused; it and those after it were not recorded.
        """
        with self.lock:
            frame = self._frame()
            if frame is not None:
                for operation in operations:
                    frame.write(where, kind, operation)
            else:
                scope = self._begin_body_write(where)
                for operation in operations:
                    self._objects.at(scope, kind).write(operation)
                    apply(self._views.setdefault(kind, {}), operation)
                    self._tail[scope, kind] = None
            if self.publisher is not None:
                self._notify(frame)

    def replace(self, where: Where, kind: str, values: Document) -> None:
        """Put a new object in place; see `write`."""
        with self.lock:
            frame = self._frame()
            if frame is not None:
                frame.replace(where, kind, values)
            else:
                scope = self._begin_body_write(where)
                self._objects.at(scope, kind).replace(values)
                self._views[kind] = copy(values)
                self._tail[scope, kind] = None
            if self.publisher is not None:
                self._notify(frame)

    def remote(self, target: Target, kind: str) -> Update:
        """Return what takes the writes to another run; use it while holding `lock`."""
        frame = self._frame()
        if frame is not None:
            return frame.remote.to(target, kind)
        self._replay()
        return self._remote_tail.to(target, kind)

    def view(self, kind: str) -> Document:
        """Return what the run has recorded so far, in all scopes; not a copy. Hold `lock`."""
        frame = self._frame()
        if frame is not None:
            return frame.view(kind).document
        self._replay()
        return self._views.get(kind, {})

    def document(self, scope: Scope, kind: str) -> Document:
        """Return what was recorded for one scope so far; not a copy. Hold `lock`."""
        frame = self._frame()
        if frame is not None:
            return frame.document(scope, kind)
        self._replay()
        return self._objects.document(scope, kind)

    def snapshot(self) -> dict[str, Document]:
        """Return a copy of the view of every kind, as the newest code sees it."""
        with self.lock:
            open_frames = [frame for frame in self._frames if not frame.ended]
            kinds = dict.fromkeys(self._views)
            for frame in open_frames:
                kinds.update(dict.fromkeys(sorted(frame.kinds)))
            views = {kind: copy(self._views.get(kind, {})) for kind in kinds}
            for frame in open_frames:
                for kind in frame.kinds:
                    views[kind] = copy(frame.view(kind).document)
            return views

    @property
    def running_step(self) -> StepRef | None:
        """The step whose handler runs here, or None."""
        frame = RUNNING.get()
        return None if frame is None else frame.step

    @property
    def is_new(self) -> bool:
        """Whether the code that runs here is run for the first time, as far as can be told."""
        call = self.call
        return RUNNING.get() is not None or (call.phase is Phase.EXECUTING and call.target is None)

    # ------------------------------------------------------------ the request's course

    def enter_step(self, step: Step) -> Frame:
        """A step's handler is about to run."""
        with self.lock:
            self._replay()
            call = self.call
            if call.target is None or len(call.consumed) < call.memo_count:
                # A targeted request comes after one that planned its step, and that has sent what
                # the body had recorded; except between the steps of one branch of a group, which
                # is passed by there while other branches' memos are still to come.
                self._promote_tail()
            else:
                self._drop_tail()
            frame = Frame(
                StepRef(step.id, step.index),
                step.hashed_id,
                parallel=step.parallel,
                objects=self._objects,
                view=lambda kind: self._views.get(kind, {}),
                limits=self.limits,
                sizes=self._sizes,
            )
            self._frames.append(frame)
            step[FRAME] = frame
            return frame

    def leave_step(self, frame: Frame, raised: BaseException | None) -> None:
        """A step's handler is done."""
        with self.lock:
            frame.ended = True
            frame.raised = raised
            envelope = frame.envelope() if raised is None else None
            if envelope is not None:
                self._absorb(envelope)

    def envelope_of(self, step: Step) -> Json:
        """Return what travels beside the result of a step that ran here; None for nothing."""
        with self.lock:
            frame = step.get(FRAME)
            envelope = None if frame is None else frame.envelope()
            return None if envelope is None else envelope.to_json()

    def flush(self) -> Updates:
        """Return what is new and not sent yet, while the request goes on.

        Increments of other runs' metadata stay: it is not known yet whether they count.
        """
        with self.lock:
            frame = self._frame()
            if frame is None:
                self._replay()
                if self.is_new:
                    self._promote_tail()
            updates = self._take_fresh()
            if frame is not None:
                updates.follow(frame.take_unsent(self.call.run_id))
            return updates

    def send(self, updates: Updates) -> list[str]:
        """Send updates and wait for the answers; blocks.

        Returns:
            One sentence for each request that failed.
        """
        problems = self._sender.deliver(
            self.call.client, updates, run_id=self.call.run_id, ended=self._closed and self.ended
        )
        if self.publisher is not None and not self._closed:
            self.publisher.drain()
        return problems

    def conclude(self) -> Updates | None:
        """The request is over: return what is to be sent before it is answered.

        Returns:
            Updates for `deliver`; None when there is nothing to do.
        """
        if self.call.cancelled:
            # Nobody reads the answer, and the engine will ask again.
            self._closed = True
            if self.publisher is not None:
                self.publisher.abandon()
            return None
        updates = self._sender.pending(self.call.client, self.call.run_id)
        self.refresh(updates)
        updates.follow(self.finish())
        if (
            not updates
            and self.publisher is None
            and not self._sender.has_pending(self.call.client)
        ):
            return None
        return updates

    def deliver(self, updates: Updates) -> None:
        """Send what `conclude` returned, and let subscribers know how the run ended; blocks."""
        try:
            if updates or self._sender.has_pending(self.call.client):
                self.send(updates)
        finally:
            self._close_publisher()

    def _close_publisher(self) -> None:
        if self.publisher is not None:
            failed = self.outcome is not None and self.outcome.error is not None
            status = "running" if not self.ended else "failed" if failed else "completed"
            self.publisher.close(status)

    def finish(self) -> Updates:
        """Return what the request still has to send; nothing can be recorded any more."""
        with self.lock:
            self._closed = True
            self._replay()
            outcome = self.outcome
            broken = self.call.failure is not None
            failed = broken or (outcome is not None and outcome.error is not None)
            retried = broken or (outcome is not None and outcome.will_retry)
            self._promote_tail()
            for frame in self._frames:
                self._settle(frame, outcome, failed=failed, retried=retried)
            if retried:
                # The code that made them will run again.
                self._updates.drop_adds()
            for address, keys in self._heal.items():
                if self.ended or address in self._fresh:
                    self._mark(address, keys, replaced=False)
            return self._take_fresh()

    def refresh(self, pending: Updates) -> None:
        """Put today's values into updates of this run that an earlier request could not send."""
        with self.lock:
            for target, update in pending.items():
                document = self._objects.document(target.step, update.kind)
                known = [key for key in update.keys if key in document]
                update.show(document, known, replaced=False)

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

    # ------------------------------------------------------------ inside

    def _frame(self) -> Frame | None:
        frame = RUNNING.get()
        if self._closed:
            raise MetadataContextError(
                f"metadata: the request of run {self.call.run_id} is over; what is recorded in the "
                "background must be recorded before the function or step returns"
            )
        if frame is not None and frame.ended:
            raise MetadataContextError(
                f"metadata: step {frame.step.id!r} of run {self.call.run_id} has ended; what is "
                "recorded in the background must be recorded before the step returns"
            )
        return frame

    def _begin_body_write(self, where: Where) -> Scope:
        self._replay()
        return None if where is HERE else where

    def _replay(self) -> None:
        consumed = self.call.consumed
        while self._consumed < len(consumed):
            hashed_id = consumed[self._consumed]
            self._consumed += 1
            self._drop_tail()
            attached = self.call.attachment(hashed_id, ATTACHMENT)
            if attached is None:
                continue
            try:
                envelope = Envelope.from_json(attached)
            except MetadataError:
                _logger.exception("a step's metadata is left out of run %s", self.call.run_id)
                continue
            self._absorb(envelope)
            if envelope.parallel:
                for address, delta in envelope.changes.items():
                    if address[0] != envelope.step:
                        self._heal.setdefault(address, {}).update(dict.fromkeys(delta.keys))

    def _absorb(self, envelope: Envelope) -> None:
        for (scope, kind), delta in envelope.changes.items():
            recording = self._objects.at(scope, kind)
            recording.absorb(delta)
            self._sizes.watch((scope, kind), recording.document)
        for kind, delta in envelope.views.items():
            delta.apply(self._views.setdefault(kind, {}))

    def _drop_tail(self) -> None:
        for scope, kind in self._tail:
            recording = self._objects.at(scope, kind)
            recording.touched.clear()
            recording.unsent_replace = False
        self._tail.clear()
        self._remote_tail.clear()

    def _promote_tail(self) -> None:
        for scope, kind in self._tail:
            recording = self._objects.at(scope, kind)
            self._mark((scope, kind), recording.touched, replaced=recording.unsent_replace)
            recording.touched.clear()
            recording.unsent_replace = False
        self._tail.clear()
        self._updates.follow(self._remote_tail)
        self._remote_tail.clear()

    def _mark(self, address: Address, keys: dict[str, None], *, replaced: bool) -> None:
        known, was_replaced = self._fresh.get(address, ({}, False))
        self._fresh[address] = {**known, **keys}, was_replaced or replaced

    def _take_fresh(self) -> Updates:
        updates = Updates(self.limits)
        for (scope, kind), (keys, replaced) in self._fresh.items():
            updates.to(Target(self.call.run_id, scope), kind).show(
                self._objects.document(scope, kind), keys, replaced=replaced
            )
        self._fresh.clear()
        if self._closed:
            updates.follow(self._updates)
            self._updates.clear()
        else:
            kept = self._updates.split_adds()
            updates.follow(self._updates)
            self._updates = kept
        return updates

    def _settle(
        self, frame: Frame, outcome: Outcome | None, *, failed: bool, retried: bool
    ) -> None:
        step = None if outcome is None else outcome.step
        reported = step is not None and step.hashed_id == frame.hashed_id
        if reported and not failed:
            for address, (unsent, replaced) in frame.unsent().items():
                self._mark(address, dict.fromkeys(unsent), replaced=replaced)
            self._updates.follow(frame.remote)
            return
        # What was sent before the attempt failed is taken back: it does not count.
        for address, keys in frame.flushed.items():
            self._mark(address, keys, replaced=False)
        frame.remote.drop_adds()
        self._updates.follow(frame.remote)
        if reported or frame.raised is not None:
            attempt = self.call.attempt if retried else None
            report = frame.report(Target(self.call.run_id, frame.step, attempt))
            self._updates.follow(report)

    def _notify(self, frame: Frame | None) -> None:
        if self.publisher is not None and (frame is not None or self.is_new):
            self.publisher.changed()
