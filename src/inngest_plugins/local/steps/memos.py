"""Memos: saving what a step gave, and the call of the app that follows."""

from __future__ import annotations

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import StepStatus
from inngest_plugins.local.journal.state import RunState, StepState
from inngest_plugins.local.journal.store import Store


class Memos:
    """The first memo of a step is the one that counts.

    Args:
        store: The state.
        clock: Time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def resume(self, run: RunState, hashed_id: str, memo: str, *, status: StepStatus) -> bool:
        """End a step that waits; False when it does not wait (any longer)."""
        step = run.steps.get(hashed_id)
        if step is None or step.has_memo or not run.is_open:
            return False
        limit = self._store.queue.get(f"{run.id}/{hashed_id}")
        if limit is not None:
            self._store.remove_job(limit)
        resets = run.force_plan and run.request_version >= 2
        self.finish(run, step, memo, status, resets_plan=resets, race=step.race)
        self._store.save_run(run)
        return True

    def finish(
        self,
        run: RunState,
        step: StepState,
        memo: str,
        status: StepStatus,
        *,
        resets_plan: bool,
        race: bool,
    ) -> None:
        """Save a memo and queue the discovery that follows it.

        Args:
            run: The run.
            step: Its step, known or new.
            memo: The memo as JSON.
            status: The step's final status.
            resets_plan: Whether the server, going by what it had read about the run when it made
                the request that is being answered, now allows immediate execution again.
            race: Whether discovery follows although others of the group are pending.
        """
        self._store.save_step(run, step)
        if self.save(run, step.hashed_id, memo, status):
            self.follow(run, step, resets_plan=resets_plan, race=race)

    def follow(self, run: RunState, step: StepState, *, resets_plan: bool, race: bool) -> None:
        """Queue the discovery that follows a memo; the arguments are those of `finish`."""
        if run.pending and not race:
            return
        if resets_plan:
            run.force_plan = False
        self._store.put_job(
            Job(
                f"{run.id}/{step.hashed_id}/discover",
                "edge",
                run.id,
                self._clock.now(),
                led_by=step.hashed_id,
                race=step.race,
            )
        )

    def save(self, run: RunState, hashed_id: str, memo: str, status: StepStatus) -> bool:
        """Save a memo, unless the step has one: the first write wins."""
        step = run.steps[hashed_id]
        if step.has_memo:
            return False
        if step.status == "Waiting":
            self._store.remove_wait(run, step)
        step.memo, step.has_memo, step.status = memo, True, status
        step.ended_at = self._clock.now()
        run.take_memo(step)
        self._store.save_step(run, step)
        if hashed_id in run.pending:
            run.pending.remove(hashed_id)
            self._store.save_run(run)
        return True
