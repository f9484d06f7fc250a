"""Checkpoints: steps that the app stores while its request goes on.

The rules are those of the server (``pkg/execution/checkpoint/checkpoint.go``): the first write of a
step wins, ops before a refused one are kept, an accepted call resets the attempts of the queue
item that it names.
"""

from __future__ import annotations

import dataclasses
import math
import typing

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState, StepState, size
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.ids import job_id, read_queue_item_ref
from inngest_plugins.local.wire.protocol import MAX_STATE, MAX_STEP_OUTPUT, canonical

from .defers import Defers
from .memos import Memos
from .metadata import apply_op_metadata
from .ops import LAZY, Op, new_step
from .steps import StepHub

_STEPS = ("StepRun", "Step")
_SYNC = (*_STEPS, "StepPlanned", "StepFailed", "RunComplete", "SyncRunComplete", *LAZY)
# Requests younger than this are not looked up: that is where the server saves a query.
_GRACE = 10.0


class CheckpointRefusedError(Exception):
    """The server would refuse the call with ``status`` and this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """One call, read.

    Attributes:
        run_id: The run.
        queue_item: What names the queue item, possibly empty.
        generation: How often the queue item had been dispatched; 0 when it is not said.
        request_started_at: Seconds since the epoch by the app's clock; 0 when it is not said.
        ops: What to store.
    """

    run_id: str
    queue_item: str
    generation: int
    request_started_at: float
    ops: list[Op]


class Checkpoints:
    """Stores what comes by checkpoint.

    Args:
        store: The state.
        clock: Time.
        memos: Saves what steps gave.
        defers: Deferred functions.
        hub: The rest of the engine.
    """

    def __init__(
        self, *, store: Store, clock: Clock, memos: Memos, defers: Defers, hub: StepHub
    ) -> None:
        self._store = store
        self._clock = clock
        self._memos = memos
        self._defers = defers
        self._hub = hub

    def save(self, checkpoint: Checkpoint) -> None:
        """Take in one call.

        Raises:
            CheckpointRefusedError: The server would refuse it. What stands before the op at fault
                has been taken in.
        """
        run = self._store.runs.get(checkpoint.run_id)
        if run is None or not run.is_open:
            raise CheckpointRefusedError(400, "run not found in state store")
        if any(op.get("op") not in _SYNC for op in checkpoint.ops):
            raise CheckpointRefusedError(400, "cannot checkpoint async steps")
        job = self._job(run, checkpoint)
        memos = [_memo(op) for op in checkpoint.ops]
        if sum(map(size, memos)) + run.memo_bytes > MAX_STATE:
            raise CheckpointRefusedError(
                413, "run state size limit exceeded: state is greater than the limit"
            )
        for op, memo in zip(checkpoint.ops, memos, strict=True):
            self._save_op(run, job, op, memo)
        if job is not None and job.attempt:
            # The request that is under way goes on with the attempt that it has; another engine
            # that takes the job from the journal begins to count anew.
            self._store.save_job(dataclasses.replace(job, attempt=0))

    def _job(self, run: RunState, checkpoint: Checkpoint) -> Job | None:
        """The queue item that the call names.

        Raises:
            CheckpointRefusedError: It was dispatched again, or is gone: the call comes from a
                request that nobody waits for.
        """
        name = read_queue_item_ref(checkpoint.queue_item)
        if not name:
            return None
        jobs = (job for job in self._store.queue.of_run(run.id) if job_id(job.id) == name)
        job = next(jobs, None)
        started = checkpoint.request_started_at
        age = self._clock.now() - self._clock.from_wall(started) if started else math.inf
        if not checkpoint.generation or 0 <= age < _GRACE:
            return job
        if job is None:
            raise CheckpointRefusedError(409, "stale dispatch: queue item not found")
        if job.generation != checkpoint.generation:
            raise CheckpointRefusedError(
                409,
                f"stale dispatch: dispatch generation {checkpoint.generation} does not match "
                f"queue item generation {job.generation}",
            )
        return job

    def _save_op(self, run: RunState, job: Job | None, op: Op, memo: str) -> None:
        if op["op"] in LAZY:
            self._defers.apply(run, op)
        elif op["op"] in _STEPS:
            if size(memo) > MAX_STEP_OUTPUT:
                raise CheckpointRefusedError(
                    413,
                    f"step {op.get('id')} output too large: "
                    "step output size is greater than the limit",
                )
            self._save_step(run, job, op, memo)
        elif op["op"] != "StepPlanned":
            # A planned step is a line in the server's trace view and nothing else.
            raise CheckpointRefusedError(400, f"cannot checkpoint opcode: {op['op']}")

    def _save_step(self, run: RunState, job: Job | None, op: Op, memo: str) -> None:
        known = run.steps.get(str(op.get("id")))
        if known is not None and known.has_memo:
            return
        now = self._clock.now()
        step = known or new_step(op, now)
        step.op, step.checkpointed = "StepRun", True
        step.attempts = max(len(step.errors) + 1, job.attempt + 1 if job and step.errors else 1)
        run.steps[step.hashed_id] = step
        self._memos.save(run, step.hashed_id, memo, "Completed")
        self._time(step, op.get("timing"))
        self._store.save_step(run, step)
        self._hub.claim_events(run, op.get("data"), run.requests[-1].started_at)
        if op.get("metadata"):
            apply_op_metadata(self._store, run, step.key, step.attempts - 1, op["metadata"])

    def _time(self, step: StepState, timing: Json) -> None:
        """Let the step have begun and ended when the app says that it did."""
        if not isinstance(timing, dict):
            return
        timing = typing.cast("dict[str, Json]", timing)
        start, lasted = timing.get("a"), timing.get("b")
        if type(start) is not int or type(lasted) is not int:
            return
        step.started_at = self._clock.from_wall(start / 1e9)
        step.ended_at = self._clock.from_wall((start + lasted) / 1e9)


def _memo(op: Op) -> str:
    return canonical({"data": op.get("data")}) if op["op"] in _STEPS else ""
