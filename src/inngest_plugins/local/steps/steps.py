"""Steps: what the executor does with every op that the app reports.

One method for each op, named for it. The rules are those of the server's
``handleGenerator...`` functions (``pkg/execution/executor/executor.go``).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import Json, StepStatus
from inngest_plugins.local.journal.state import RunState, StepState, size
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.protocol import (
    MAX_STEP_OUTPUT,
    MAX_STEPS,
    Ops,
    Result,
    canonical,
)

from .defers import Defers
from .memos import Memos
from .metadata import apply_op_metadata
from .ops import (
    LAZY,
    NO_OP,
    Handler,
    Op,
    Report,
    RunFailureError,
    UnreadableOpError,
    check_state,
    new_step,
)
from .retries import Retries

_EXECUTED = ("StepRun", "Step", "StepError", "StepFailed")
# Their expressions and names can fail the run, and nothing else should have begun then.
_FIRST = ("WaitForEvent", "WaitForSignal", *LAZY)
_BEGUN_ONCE = ("StepPlanned", "Sleep", "WaitForEvent", "WaitForSignal", "InvokeFunction")


def _memoized(error: Json) -> dict[str, Json]:
    """Return a step's error as it is stored: without its code, but with an empty message."""
    stored: dict[str, Json] = {
        "message": error.get("message") or "",
        "name": error.get("name") or "Error",
    }
    if error.get("stack"):
        stored["stack"] = error["stack"]
    return stored


class StepHub(typing.Protocol):
    """What steps ask of the rest of the engine."""

    def claim_events(self, run: RunState, ids: Json, since: float) -> None:
        """A step returned these ids: events among them of unknown origin are the run's."""
        ...


class Steps:
    """Processes the ops of an answer.

    Args:
        store: The state.
        clock: Time.
        memos: Saves what steps gave.
        retries: Queues next attempts.
        defers: Deferred functions.
        hub: The rest of the engine.
        others: What to do with the ops of steps that wait and of requests by the engine.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        memos: Memos,
        retries: Retries,
        defers: Defers,
        hub: StepHub,
        others: Mapping[str, Handler],
    ) -> None:
        self._store = store
        self._clock = clock
        self._memos = memos
        self._retries = retries
        self._defers = defers
        self._hub = hub
        self._handlers: dict[str, Handler] = {
            "StepRun": self._ran,
            "Step": self._ran,
            "StepError": self._errored,
            "StepFailed": self._failed,
            "StepPlanned": self._planned,
            **others,
        }

    async def process(
        self, run: RunState, job: Job, answer: Ops, *, max_attempts: int, resets_plan: bool
    ) -> Result | None:
        """Do what the ops say; the job is removed, or queued for its next attempt.

        Args:
            run: The run.
            job: The job whose request was answered.
            answer: The answer.
            max_attempts: Of the function.
            resets_plan: See `Memos.finish`.

        Returns:
            What the function returned, when an op says that it has.

        Raises:
            RunFailureError: The run must fail now.
            UnreadableOpError: An op is malformed or unknown.
        """
        ops = answer.ops
        # The server looks at the ops' form before it takes anything from the answer.
        for op in ops:
            self._check_form(op)
        if run.request_version == -1:
            run.request_version = answer.request_version
        hosts = [op for op in ops if op["op"] not in LAZY]
        if len(hosts) > 1:
            run.force_plan = True
        if len(ops) > MAX_STEPS:
            raise RunFailureError(
                "InngestErrFunctionOverflowed",
                f"The function run exceeded the step limit of {MAX_STEPS} steps.",
            )
        if len(hosts) > 1 and any(op["op"] not in (*_EXECUTED, "RunComplete") for op in hosts):
            run.pending = {str(op.get("id")) for op in hosts} - set(run.stack)
        report = Report(run, job, answer.no_retry, max_attempts, resets_plan)
        again = False
        result: Result | None = None
        for op in sorted(ops, key=lambda op: op["op"] not in _FIRST):
            if op["op"] == "RunComplete":
                result = Result(op.get("data"))
            elif op["op"] in LAZY:
                self._lazy(report, op, is_alone=not hosts)
            else:
                again |= await self._process_op(report, op)
        if result is None and not again and run.is_open:
            self._store.remove_job(job)
        return result

    def _lazy(self, report: Report, op: Op, *, is_alone: bool) -> None:
        """Defer, or take back; sent with another op, which moves the run on."""
        run = report.run
        if self._defers.apply(run, op) and is_alone:
            led_by = report.job.led_by
            job = f"{run.id}/{op.get('id')}/discover"
            self._store.put_job(Job(job, "edge", run.id, self._clock.now(), led_by=led_by))

    async def _process_op(self, report: Report, op: Op) -> bool:
        """Process one op; True when its job is to run again."""
        try:
            return await self._dispatch(report, op)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableOpError(
                f"The app reported a step that cannot be understood: {error!r}"
            ) from error

    async def _dispatch(self, report: Report, op: Op) -> bool:
        if op["op"] == NO_OP:
            return False
        handler = self._handlers[op["op"]]
        known = report.run.steps.get(op["id"])
        if known is not None and known.checkpointed:
            # Answered although the checkpoint was stored: the run goes on all the same.
            self._memos.follow(report.run, known, resets_plan=report.resets_plan, race=known.race)
            return False
        if known is not None and (known.has_memo or op["op"] in _BEGUN_ONCE):
            # Reported again by a discovery at the same time: the first report counts.
            return False
        step, attempt = known or new_step(op, self._clock.now()), report.job.attempt
        result = handler(report, step, op)
        again = await result if inspect.isawaitable(result) else result
        if op.get("metadata"):
            apply_op_metadata(self._store, report.run, step.key, attempt, op["metadata"])
        return again

    def _ran(self, report: Report, step: StepState, op: Op) -> bool:
        step.op, step.attempts = "StepRun", report.job.attempt + 1
        memo = canonical({"data": op.get("data")})
        check_state(report.run, memo)
        self._hub.claim_events(report.run, op.get("data"), report.run.requests[-1].started_at)
        self._finish(report, step, memo, "Completed", race=step.race)
        return False

    def _errored(self, report: Report, step: StepState, op: Op) -> bool:
        if not op.get("error"):
            raise ValueError("StepError without an error")
        if report.no_retry or report.job.attempt + 1 >= report.max_attempts:
            return self._failed(report, step, op)
        step.op, step.attempts, step.status = "StepRun", report.job.attempt + 1, "Retrying"
        step.errors.append(canonical(op["error"]))
        self._store.save_step(report.run, step)
        self._retries.again(report.job)
        return True

    def _failed(self, report: Report, step: StepState, op: Op) -> bool:
        step.op, step.attempts = "StepRun", report.job.attempt + 1
        step.errors.append(canonical(op["error"]))
        error = _memoized(op["error"])
        if report.no_retry:
            error["noRetry"] = True
        # The server looks at the job's mode here, not at the op's.
        self._finish(report, step, canonical({"error": error}), "Failed", race=report.job.race)
        return False

    def _finish(
        self, report: Report, step: StepState, memo: str, status: StepStatus, *, race: bool
    ) -> None:
        self._memos.finish(
            report.run, step, memo, status, resets_plan=report.resets_plan, race=race
        )

    def _planned(self, report: Report, step: StepState, op: Op) -> bool:
        run = report.run
        step.status = "Planned"
        self._store.save_step(run, step)
        self._store.put_job(
            Job(
                f"{run.id}/{step.hashed_id}/plan",
                "edge",
                run.id,
                self._clock.now(),
                target=step.hashed_id,
                led_by=report.job.led_by,
                race=step.race,
            )
        )
        return False

    def _check_form(self, op: Op) -> None:
        if op.get("op") not in self._handlers and op.get("op") not in ("RunComplete", NO_OP, *LAZY):
            raise UnreadableOpError(f"The app reported an unknown op {op.get('op')!r}.")
        if op["op"] in _EXECUTED and size(canonical(op.get("data"))) > MAX_STEP_OUTPUT:
            raise UnreadableOpError(
                f"error validating generator opcode {op.get('id')}: "
                "step output size is greater than the limit"
            )
