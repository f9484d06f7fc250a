"""The state machine of a run: what the executor does with every answer of the app.

It follows the Inngest executor (``pkg/execution/executor`` in the server's repository): attempts
belong to queue jobs; ops of a parallel group are pending until each has a memo; discovery calls
follow saved memos; memos are first-write-wins.
"""

from __future__ import annotations

import logging
import typing
from collections.abc import Awaitable, Callable

from inngest_plugins.core import class_name, safe_text
from inngest_plugins.local._clock import Clock
from inngest_plugins.local._errors import LocalEngineError
from inngest_plugins.local.executor.reasons import failure_reason
from inngest_plugins.local.functions.config import FunctionConfig
from inngest_plugins.local.journal.journal import JOURNAL_FAILURES
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import Json, RunStatus, StepStatus
from inngest_plugins.local.journal.state import RequestState, RunState
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.steps.checkpoints import Checkpoints
from inngest_plugins.local.steps.defers import Defers
from inngest_plugins.local.steps.gateway import GatewayTransport
from inngest_plugins.local.steps.inference import Infer
from inngest_plugins.local.steps.memos import Memos
from inngest_plugins.local.steps.ops import RunFailureError, UnreadableOpError
from inngest_plugins.local.steps.outbound import Outbound
from inngest_plugins.local.steps.pauses import PauseHub, Pauses
from inngest_plugins.local.steps.retries import Retries
from inngest_plugins.local.steps.steps import StepHub, Steps
from inngest_plugins.local.wire.ids import app_uuid, function_uuid, job_id
from inngest_plugins.local.wire.protocol import (
    MAX_STEPS,
    Answer,
    Call,
    Failure,
    RawAnswer,
    Result,
    build_body,
    build_headers,
    canonical,
    decode,
    read_answer,
    too_many_steps,
)

from .lifecycle import lifecycle_events

_logger = logging.getLogger("inngest_plugins.local")

CallApp = Callable[[RunState, RequestState], Awaitable[RawAnswer]]


class Hub(StepHub, PauseHub, typing.Protocol):
    """The parts of the engine that the executor calls."""

    def publish(self, event: dict[str, Json], *, trace_id: str) -> None:
        """Let an engine's own event start functions and resume waits."""
        ...

    def start_deferred(self, event: dict[str, Json], *, parent: RunState) -> list[str]:
        """Start what an ended run deferred; returns the ids of the runs."""
        ...

    def run_ended(self, run: RunState) -> None:
        """A run has reached its final status."""
        ...


class Executor:
    """Works on one job at a time; any number of jobs may be in flight.

    Args:
        app_id: The app, for ids.
        functions: By full id.
        store: The state; the executor commits after every transition.
        clock: Time.
        call_app: Sends one request and returns the answer.
        hub: The rest of the engine.
        infer: Makes inference calls for ``step.ai``; None refuses them.
        gateway: Makes the requests of ``Gateway`` ops; None refuses them.
        retry_interval: Fixed seconds between attempts instead of the server's table.
    """

    def __init__(
        self,
        *,
        app_id: str,
        functions: dict[str, FunctionConfig],
        store: Store,
        clock: Clock,
        call_app: CallApp,
        hub: Hub,
        infer: Infer | None,
        gateway: GatewayTransport | None,
        retry_interval: float | None,
    ) -> None:
        self._app_id = app_id
        self._functions = functions
        self._store = store
        self._clock = clock
        self._call_app = call_app
        self._hub = hub
        self._memos = Memos(store, clock)
        self._retries = Retries(store, clock, retry_interval)
        self._defers = Defers(app_id, store)
        pauses = Pauses(app_id=app_id, functions=functions, store=store, clock=clock, hub=hub)
        outbound = Outbound(
            store=store, memos=self._memos, retries=self._retries, infer=infer, gateway=gateway
        )
        self._steps = Steps(
            store=store,
            clock=clock,
            memos=self._memos,
            retries=self._retries,
            defers=self._defers,
            hub=hub,
            others={**pauses.handlers, **outbound.handlers},
        )
        self.checkpoints = Checkpoints(
            store=store, clock=clock, memos=self._memos, defers=self._defers, hub=hub
        )

    async def work(self, job: Job) -> None:
        """Do one job that is due."""
        run = self._store.runs[job.run_id]
        if not run.is_open:
            self._store.remove_job(job)
        elif job.kind == "finish":
            self._store.remove_job(job)
            self.end(run, "Cancelled", reason="took longer than the function's timeouts.finish")
        elif job.kind == "wait":
            self._store.remove_job(job)
            self._memos.resume(run, job.step, "null", status="TimedOut")
        elif job.kind == "invoke":
            self._store.remove_job(job)
            self._memos.resume(run, job.step, canonical(_INVOKE_TIMEOUT), status="TimedOut")
        elif job.kind == "missing":
            self._store.remove_job(job)
            self._refuse_invoke(run, job.step)
        elif job.kind == "edge" or self._wake(run, job):
            await self._call(run, job)
        if run.is_open:
            self._end_if_stuck(run)
        self._store.commit()

    def _wake(self, run: RunState, job: Job) -> bool:
        # A sleep's end is saved by the job that then calls the app, so a retry of that call finds
        # the memo already there.
        if run.steps[job.step].has_memo:
            return True
        self._memos.save(run, job.step, "null", "Completed")
        if run.pending and not job.race:
            self._store.remove_job(job)
            return False
        return True

    async def _call(self, run: RunState, job: Job) -> None:
        function = self._functions.get(run.function_id)
        max_attempts = function.max_attempts if function else 1
        planned_only, version = run.force_plan, run.request_version
        if len(run.stack) >= MAX_STEPS:
            failure = too_many_steps()
            self._fail(run, str(failure.error["message"]), failure)
            return
        if job.kind == "sleep" and planned_only and version >= 2:
            # The server resets the flag when a sleep wakes up, but after it has read the flag for
            # this very request.
            run.force_plan = False
        request = self._make_request(run, job, max_attempts, planned_only=planned_only)
        raw = await self._call_app(run, request)
        request.ended_at = self._clock.now()
        request.status, request.failure = raw.status, raw.failure
        request.response_headers, request.response_bytes = dict(raw.headers), raw.body
        answer = read_answer(raw)
        if isinstance(answer, Failure) and "x-inngest-sdk" not in raw.headers:
            request.failure = str(answer.error["message"])
            if raw.crash:
                # Its message may hold a value of the payload, and a failure does not.
                request.failure += f" The app raised {raw.crash.partition(':')[0]}."
        self._store.save_request(run, request)
        if not run.is_open:
            # Ended while the app was at work: the answer is dropped.
            return
        try:
            await self._take(
                run, job, answer, max_attempts, raw, resets=planned_only and version >= 2
            )
        except UnreadableOpError as error:
            self._fail_attempt(run, job, error.failure, max_attempts)
        except RunFailureError as error:
            self._fail(run, str(error), error.failure)
        self._store.save_run(run)

    async def _take(
        self,
        run: RunState,
        job: Job,
        answer: Answer,
        max_attempts: int,
        raw: RawAnswer,
        *,
        resets: bool,
    ) -> None:
        """Carry out what an answer says."""
        result: Result | None = None
        if isinstance(answer, Failure):
            self._fail_attempt(run, job, answer, max_attempts, raw.crash)
        elif isinstance(answer, Result):
            result = answer
        else:
            result = await self._steps.process(
                run, job, answer, max_attempts=max_attempts, resets_plan=resets
            )
        if result is not None and run.is_open:
            run.output = result.output
            self.end(run, "Completed")

    def _make_request(
        self, run: RunState, job: Job, max_attempts: int, *, planned_only: bool
    ) -> RequestState:
        job.generation += 1
        call = Call(
            target=job.target,
            led_by=job.led_by,
            attempt=job.attempt,
            max_attempts=max_attempts,
            disable_immediate_execution=planned_only,
            job_id=job_id(job.id),
            generation=job.generation,
            request_id=self._hub.new_id(),
            function_uuid=function_uuid(self._app_id, run.function_id),
            app_uuid=app_uuid(self._app_id),
        )
        now = self._clock.now()
        if run.started_at is None:
            self._start(run, now)
        request = RequestState(
            number=run.requests[-1].number + 1 if run.requests else 0,
            fn_id=run.function_id,
            step_id=job.target,
            request_headers=build_headers(run, call),
            request_bytes=build_body(run, call),
            started_at=now,
        )
        run.requests.append(request)
        self._store.save_job(job)
        self._store.save_run(run)
        self._store.commit()
        return request

    def _start(self, run: RunState, now: float) -> None:
        run.started_at, run.status = now, "Running"
        function = self._functions.get(run.function_id)
        if function is not None and function.finish_timeout is not None:
            due = now + function.finish_timeout
            self._store.put_job(Job(f"{run.id}/finish", "finish", run.id, due))

    def _fail_attempt(
        self, run: RunState, job: Job, failure: Failure, max_attempts: int, crash: str = ""
    ) -> None:
        """An attempt of a job failed: queue the next one or fail the run."""
        if not failure.no_retry and job.attempt + 1 < max_attempts:
            self._retries.again(job, failure.retry_after)
        else:
            self._fail(run, failure_reason(run, job.attempt + 1, failure, crash), failure)

    def give_up(self, run: RunState, error: BaseException) -> None:
        """Fail a run that cannot go on because of an exception in the engine or around it."""
        name = class_name(error)
        _logger.error("run %s cannot go on", run.id, exc_info=error)
        reason = f"the engine could not go on with the run: {name}: {safe_text(error)}"
        # A message may hold a value of the payload, and what other functions learn does not.
        message = f"The engine could not go on with the run: {name}."
        failure = Failure({"name": "EngineError", "message": message}, 500, no_retry=True)
        if not run.is_open:
            return
        try:
            self._fail(run, reason, failure)
        except JOURNAL_FAILURES:
            raise
        except Exception:
            _logger.exception("run %s: other functions could not be notified of its end", run.id)
            for job in self._store.queue.of_run(run.id):
                self._store.remove_job(job)
        self._store.commit()

    def _fail(self, run: RunState, reason: str, failure: Failure) -> None:
        run.error = failure.error
        self.end(run, "Failed", reason=reason, failure=failure)

    # Ends

    def resume(self, run: RunState, hashed_id: str, memo: str, *, status: StepStatus) -> bool:
        """End a step that waits; False when it does not wait (any longer)."""
        return self._memos.resume(run, hashed_id, memo, status=status)

    def end(
        self, run: RunState, status: RunStatus, *, reason: str = "", failure: Failure | None = None
    ) -> None:
        """Give a run its final status, resume whoever invoked it, publish its life cycle events.

        Raises:
            LocalEngineError: The run has ended already.
        """
        if not run.is_open:
            raise LocalEngineError(f"run {run.id} has ended already: {run.status}")
        run.status, run.reason, run.ended_at = status, reason, self._clock.now()
        if run.error is None and status in ("Cancelled", "TimedOut"):
            run.error = {"name": status, "message": reason}
        for job in self._store.queue.of_run(run.id):
            self._store.remove_job(job)
        for step in run.steps.values():
            if step.status == "Waiting":
                self._store.remove_wait(run, step)
        self._store.save_run(run)
        for event in lifecycle_events(run, failure, self._hub.new_id):
            correlation_id = event["data"].get("correlation_id")
            if event["name"] == "inngest/function.finished" and correlation_id:
                self._answer_invoke(correlation_id, event)
            self._hub.publish(event, trace_id=run.trace_id)
        for deferred, event in self._defers.take_events(run, run.ended_at):
            deferred.run_ids = self._hub.start_deferred(event, parent=run)
            self._store.save_defer(run, deferred)
            if not deferred.run_ids:
                _logger.warning(
                    "run %s deferred function %r, which starts nothing: no function of the app has "
                    "that id and the trigger of a deferred function",
                    run.id,
                    deferred.function_id,
                )
        self._hub.run_ended(run)

    def _answer_invoke(self, correlation_id: str, event: dict[str, Json]) -> None:
        run_id, _, hashed_id = correlation_id.partition(".")
        parent = self._store.runs.get(run_id)
        if parent is None:
            return
        data = event["data"]
        status: StepStatus = "Completed"
        if "error" in data:
            memo, status = {"error": data["error"]}, "Failed"
        elif "result" in data:
            memo = {"data": data["result"]}
        else:
            # The child was cancelled: the server stores the whole event, so the step succeeds.
            memo = event
        self.resume(parent, hashed_id, canonical(decode(canonical(memo))), status=status)

    def _refuse_invoke(self, run: RunState, hashed_id: str) -> None:
        """There is no such function: the server reports the end of a run that never began."""
        message = f"could not find function with ID: {run.steps[hashed_id].opts['function_id']}"
        error = {"message": message, "name": "Error"}
        correlation_id = f"{run.id}.{hashed_id}"
        data = {"correlation_id": correlation_id, "error": error, "function_id": "", "run_id": ""}
        event: dict[str, Json] = {
            "name": "inngest/function.finished",
            "id": self._hub.new_id(),
            "ts": int(self._clock.now() * 1000),
            "user": {},
            "data": data,
        }
        self._answer_invoke(correlation_id, event)
        self._hub.publish(event, trace_id=run.trace_id)

    def _end_if_stuck(self, run: RunState) -> None:
        """A run with nothing queued, in flight or waited for would stay open for ever."""
        if any(job.kind != "finish" for job in self._store.queue.of_run(run.id)):
            return
        reason = (
            "nothing is left that could move the run on: the function is not deterministic, or it "
            "uses one step id twice (for example 'a:1' and the second use of 'a')"
        )
        error: dict[str, Json] = {"name": "NonDeterministicError", "message": reason}
        self._fail(run, reason, Failure(error, 500, no_retry=True))


_INVOKE_TIMEOUT = {
    "error": {
        "error": "InngestInvokeTimeoutError: Timed out waiting for invoked function to complete",
        "message": "Timed out waiting for invoked function to complete",
        "name": "InngestInvokeTimeoutError",
    }
}
