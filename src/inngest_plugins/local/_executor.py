"""The state machine of a run: what the executor does with every answer of the app.

It follows the Inngest executor (``pkg/execution/executor`` in the server's repository): attempts
belong to queue jobs; ops of a parallel group are pending until each has a memo; discovery calls
follow saved memos; memos are first-write-wins.
"""

from __future__ import annotations

import hashlib
import json
import math
import typing
import uuid
from collections.abc import Awaitable, Callable

from ._clock import Clock
from ._errors import LocalEngineError
from ._expressions import ExpressionError, parse_expression
from ._functions import FunctionConfig, parse_duration
from ._ids import app_uuid, function_uuid, job_id
from ._inference import Infer, InferenceRequest, run_inference
from ._protocol import (
    MAX_STATE,
    MAX_STEP_OUTPUT,
    MAX_STEPS,
    MAX_WAIT,
    Call,
    Failure,
    Ops,
    RawAnswer,
    Result,
    build_body,
    build_headers,
    canonical,
    format_instant,
    parse_instant,
    read_answer,
    standard_error,
)
from ._queue import Job
from ._run import Json, RunStatus, StepStatus
from ._state import RequestState, RunState, StepState
from ._store import Store

_BACKOFF = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0, 3600.0, 7200.0)
_JITTER = 30.0
_RETRY_AFTER = (1.0, 86_400.0)
_INVOKE_LIMIT = 365 * 86_400.0
_LIFECYCLE_EVENTS = ("inngest/function.failed", "inngest/function.finished")

CallApp = Callable[[RunState, RequestState], Awaitable[RawAnswer]]


class Hub(typing.Protocol):
    """What the executor asks of the rest of the engine."""

    def publish(self, event: dict[str, Json], *, trace_id: str) -> None:
        """Let an engine's own event start functions and resume waits."""
        ...

    def start_invoked(
        self, function: FunctionConfig, event: dict[str, Json], *, parent: RunState, step: str
    ) -> None:
        """Start the run that an invoke step asks for."""
        ...

    def claim_events(self, run: RunState, ids: Json, since: float) -> None:
        """A step returned these ids: events among them that nobody is known to have sent are its."""
        ...

    def run_ended(self, run: RunState) -> None:
        """A run has reached its final status."""
        ...

    def new_id(self) -> str:
        """A fresh ULID."""
        ...


class _FailEarly(Exception):
    """The run fails at once, whatever its attempts."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.error: dict[str, Json] = {"name": name, "message": message}


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
        retry_interval: float | None,
    ) -> None:
        self._app_id = app_id
        self._app_uuid = app_uuid(app_id)
        self._functions = functions
        self._store = store
        self._clock = clock
        self._call_app = call_app
        self._hub = hub
        self._infer = infer
        self._retry_interval = retry_interval

    # Jobs

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
            self.resume(run, job.step, "null", status="TimedOut")
        elif job.kind == "invoke":
            self._store.remove_job(job)
            self.resume(run, job.step, canonical(_INVOKE_TIMEOUT), status="TimedOut")
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
        self._save_memo(run, job.step, "null", "Completed")
        if run.pending and not job.race:
            self._store.remove_job(job)
            return False
        return True

    async def _call(self, run: RunState, job: Job) -> None:
        function = self._functions.get(run.function_id)
        max_attempts = function.max_attempts if function else 1
        planned_only, version = run.force_plan, run.request_version
        if job.kind == "sleep" and planned_only and version >= 2:
            # The server resets the flag when a sleep wakes up, but after it has read the flag for
            # this very request.
            run.force_plan = False
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
            app_uuid=self._app_uuid,
        )
        now = self._clock.now()
        if run.started_at is None:
            run.started_at, run.status = now, "Running"
            if function and function.finish_timeout:
                self._store.put_job(
                    Job(f"{run.id}/finish", "finish", run.id, now + function.finish_timeout)
                )
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
        raw = await self._call_app(run, request)
        request.ended_at = self._clock.now()
        request.status, request.failure = raw.status, raw.failure
        request.response_headers, request.response_bytes = dict(raw.headers), raw.body
        self._store.save_request(run, request)
        if not run.is_open:
            # Ended while the app was at work: the answer is dropped.
            return
        answer = read_answer(raw)
        try:
            if isinstance(answer, Result):
                self._store.remove_job(job)
                run.output = answer.output
                self.end(run, "Completed")
            elif isinstance(answer, Failure):
                if request.failure is None and "x-inngest-sdk" not in raw.headers:
                    request.failure = str(answer.error["message"])
                self._fail_attempt(run, job, answer, max_attempts)
            else:
                await self._handle_ops(run, job, answer, max_attempts, planned_only, version)
        except _FailEarly as early:
            run.error = early.error
            failure = Failure(early.error, 500, no_retry=True)
            self.end(run, "Failed", reason=str(early), failure=failure)
        self._store.save_run(run)

    def _fail_attempt(
        self, run: RunState, job: Job, failure: Failure, max_attempts: int
    ) -> None:
        """An attempt of a job failed: queue the next one or fail the run."""
        if not failure.no_retry and job.attempt + 1 < max_attempts:
            self._retry(job, self._retry_at(job, failure.retry_after))
        else:
            run.error = failure.error
            name, message = failure.error.get("name"), failure.error.get("message")
            why = "is not retriable" if failure.no_retry else f"attempt {job.attempt + 1} failed"
            self.end(run, "Failed", reason=f"{why}: {name}: {message}", failure=failure)

    def _retry(self, job: Job, due: float) -> None:
        job.attempt += 1
        job.due = due
        self._store.put_job(job)

    def _retry_at(self, job: Job, retry_after: str | None) -> float:
        now = self._clock.now()
        if retry_after is not None:
            try:
                delay = float(retry_after)
            except ValueError:
                try:
                    delay = self._clock.from_wall(parse_instant(retry_after)) - now
                except ValueError:
                    delay = 0.0
            low, high = _RETRY_AFTER
            return now + min(max(delay, low), high)
        if self._retry_interval is not None:
            return now + self._retry_interval
        # Jitter that depends on the job alone keeps tests repeatable.
        digest = hashlib.sha1(f"{job.id}/{job.attempt}".encode()).digest()
        jitter = int.from_bytes(digest[:4], "big") / 2**32 * _JITTER
        return now + _BACKOFF[min(job.attempt, len(_BACKOFF) - 1)] + jitter

    # Ops

    async def _handle_ops(
        self,
        run: RunState,
        job: Job,
        answer: Ops,
        max_attempts: int,
        planned_only: bool,
        version: int,
    ) -> None:
        ops = answer.ops
        if run.request_version == -1:
            run.request_version = answer.request_version
        if len(ops) > 1:
            run.force_plan = True
        if len(ops) > MAX_STEPS or len(run.steps) > MAX_STEPS:
            raise _FailEarly(
                "InngestErrFunctionOverflowed",
                f"The function run exceeded the step limit of {MAX_STEPS} steps.",
            )
        if len(ops) > 1 and any(op.get("op") not in _EXECUTED for op in ops):
            run.pending = {str(op.get("id")) for op in ops} - set(run.stack)
        retried = False
        after = _After(planned_only and version >= 2)
        # Waits first: their expressions can fail the run, and nothing else should have begun then.
        for op in sorted(ops, key=lambda op: op.get("op") != "WaitForEvent"):
            try:
                retried |= await self._handle_op(run, job, op, answer, max_attempts, after)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                message = f"The app reported a step that cannot be understood: {error!r}"
                failure = Failure({"name": "Error", "message": message}, 206)
                self._fail_attempt(run, job, failure, max_attempts)
                retried = True
            if not run.is_open:
                return
        if not retried:
            self._store.remove_job(job)

    async def _handle_op(
        self, run: RunState, job: Job, op: dict[str, Json], answer: Ops, limit: int, after: _After
    ) -> bool:
        """Process one op; True when the job is to run again."""
        kind = op["op"]
        step = self._step(run, op)
        if kind == "StepError" and not op.get("error"):
            raise ValueError("StepError without an error")
        if kind in _EXECUTED:
            if step.has_memo:
                # Reported twice, by discoveries that ran side by side: the first one counts.
                return False
            step.op, step.attempts = "StepRun", job.attempt + 1
        if kind in ("StepRun", "Step"):
            memo = canonical({"data": op.get("data")})
            self._check_size(run, memo)
            self._hub.claim_events(run, op.get("data"), run.requests[-1].started_at)
            self._finish_step(run, step, memo, "Completed", after)
        elif kind in ("StepError", "StepFailed"):
            step.errors.append(canonical(op["error"]))
            exhausted = answer.no_retry or job.attempt + 1 >= limit
            if kind == "StepError" and not exhausted:
                step.status = "Retrying"
                self._store.save_step(run, step)
                self._retry(job, self._retry_at(job, None))
                return True
            error = {key: op["error"][key] for key in _MEMO_ERROR if op["error"].get(key)}
            if answer.no_retry:
                error["noRetry"] = True
            self._finish_step(run, step, canonical({"error": error}), "Failed", after, job.race)
        elif kind == "AIGateway":
            return await self._call_model(run, job, step, op, limit, after)
        elif step.hashed_id in run.steps:
            # Reported again by a discovery that ran beside it: what was begun goes on.
            return False
        elif kind == "StepPlanned":
            self._begin(run, step, "Planned")
            self._store.put_job(
                Job(
                    f"{run.id}/{step.hashed_id}/plan",
                    "edge",
                    run.id,
                    self._clock.now(),
                    target=step.hashed_id,
                    led_by=job.led_by,
                    race=step.race,
                )
            )
        elif kind == "Sleep":
            self._sleep(run, step, op)
        elif kind == "WaitForEvent":
            self._wait(run, step, op)
        elif kind == "InvokeFunction":
            self._invoke(run, step, op)
        else:
            raise ValueError(f"unknown op {kind!r}")
        return False

    def _step(self, run: RunState, op: dict[str, Json]) -> StepState:
        """The step's record: the known one, or a new one that is not stored yet."""
        known = run.steps.get(op["id"])
        if known is not None:
            return known
        userland = op.get("userland") or {}
        opts = op.get("opts")
        return StepState(
            id=userland.get("id") or op.get("displayName") or op["id"],
            index=userland.get("index") or 0,
            hashed_id=op["id"],
            op=op["op"],
            status="Planned",
            started_at=self._clock.now(),
            opts=opts,
            race=isinstance(opts, dict) and opts.get("parallelMode") == "race",
        )

    def _begin(self, run: RunState, step: StepState, status: StepStatus) -> None:
        step.status = status
        if status != "Planned":
            step.attempts = 1
        self._store.save_step(run, step)

    def _sleep(self, run: RunState, step: StepState, op: dict[str, Json]) -> None:
        now = self._clock.now()
        # Rounded to whole seconds, halves away from zero, as Go's Duration.Round does.
        seconds = math.floor(self._clock.from_wall(parse_instant(op["name"])) - now + 0.5)
        if seconds > MAX_WAIT:
            raise _FailEarly("InngestErrTimeoutTooLong", f"step {step.key!r} sleeps over 366 days")
        step.opts = {"until": op["name"]}
        self._begin(run, step, "Sleeping")
        self._store.put_job(
            Job(
                f"{run.id}/{step.hashed_id}",
                "sleep",
                run.id,
                now + max(seconds, 0),
                led_by=step.hashed_id,
                step=step.hashed_id,
                race=step.race,
            )
        )

    def _wait(self, run: RunState, step: StepState, op: dict[str, Json]) -> None:
        opts: dict[str, Json] = dict(op["opts"])
        event = opts["event"] = op["name"]
        timeout = self._timeout(step, opts["timeout"])
        if opts.get("if"):
            try:
                parse_expression(opts["if"])
            except ExpressionError as error:
                raise _FailEarly("InvalidExpression", f"step {step.key!r}: {error}") from None
        step.opts = opts
        self._begin(run, step, "Waiting")
        self._store.add_wait(event, run.id, step.hashed_id)
        self._time_limit("wait", run, step, timeout)

    def _invoke(self, run: RunState, step: StepState, op: dict[str, Json]) -> None:
        opts = op["opts"]
        timeout = self._timeout(step, opts["timeout"]) if opts.get("timeout") else _INVOKE_LIMIT
        step.opts = opts
        self._begin(run, step, "Invoking")
        self._time_limit("invoke", run, step, timeout)
        function = self._functions.get(opts["function_id"])
        if function is None:
            message = f"could not find function with ID: {opts['function_id']}"
            error = {"error": {"message": message, "name": "Error"}}
            self.resume(run, step.hashed_id, canonical(error), status="Failed")
            return
        now = self._clock.now()
        payload = opts.get("payload") or {}
        span = uuid.uuid4().hex[:16]
        reference = f"00-{run.state_trace_id}-{span}"
        event: dict[str, Json] = {
            "name": "inngest/function.invoked",
            "id": self._hub.new_id(),
            "ts": int(now * 1000),
            "user": {},
            "data": {
                **(payload.get("data") or {}),
                "_inngest": {
                    "correlation_id": f"{run.id}.{step.hashed_id}",
                    "expire": int((now + timeout) * 1000),
                    "fn_id": function.id,
                    "gid": str(uuid.uuid4()),
                    "isr": {
                        "dsid": span,
                        "dstp": f"{reference}-00",
                        "tp": f"{reference}-01",
                        "ts": "",
                    },
                    "name": step.id,
                    "source_app_id": self._app_uuid,
                    "source_fn_id": function_uuid(self._app_id, run.function_id),
                    "source_fn_v": 1,
                    "tc": {
                        "ctx": {"sid": span, "traceparent": f"00-{run.trace_id}-{span}-01"},
                        "ts": format_instant(now),
                    },
                },
            },
        }
        if payload.get("v") is not None:
            event["v"] = payload["v"]
        self._hub.start_invoked(function, event, parent=run, step=step.hashed_id)

    def _timeout(self, step: StepState, text: str) -> float:
        seconds = parse_duration(text)
        if seconds > MAX_WAIT:
            raise _FailEarly("InngestErrTimeoutTooLong", f"step {step.key!r} waits over 366 days")
        return seconds

    def _time_limit(
        self, kind: typing.Literal["wait", "invoke"], run: RunState, step: StepState, after: float
    ) -> None:
        key, due = f"{run.id}/{step.hashed_id}", self._clock.now() + after
        self._store.put_job(Job(key, kind, run.id, due, step=step.hashed_id, race=step.race))

    async def _call_model(
        self,
        run: RunState,
        job: Job,
        step: StepState,
        op: dict[str, Json],
        limit: int,
        after: _After,
    ) -> bool:
        request = InferenceRequest.from_opts(op["opts"])
        # The key must not end up in the journal or a report.
        step.opts = {key: value for key, value in op["opts"].items() if key != "auth_key"}
        step.attempts = job.attempt + 1
        step.status = "Retrying"
        self._store.save_step(run, step)
        response = await run_inference(self._infer, request)
        if not run.is_open:
            return False
        if response.status <= 299:
            memo = canonical({"data": response.json()})
            self._finish_step(run, step, memo, "Completed", after)
            return False
        why = response.failure or f"unsuccessful status code: {response.status}"
        message = f"Error making AI request: {why}"
        error = {"name": "AIGatewayError", "message": message, "stack": response.text}
        step.errors.append(canonical(error))
        if job.attempt + 1 < limit and self._infer is not None:
            self._store.save_step(run, step)
            self._retry(job, self._retry_at(job, None))
            return True
        error["data"] = response.json()
        self._finish_step(run, step, canonical({"error": error}), "Failed", after)
        return False

    def _check_size(self, run: RunState, memo: str) -> None:
        size = len(memo.encode("utf-8", "replace"))
        if size > MAX_STEP_OUTPUT:
            raise _FailEarly(
                "InngestErrStateOverflowed",
                f"The step output is {size} bytes, the limit is {MAX_STEP_OUTPUT}.",
            )
        if size + sum(len(step.memo) for step in run.steps.values()) > MAX_STATE:
            raise _FailEarly(
                "InngestErrStateOverflowed", f"The run's state exceeds {MAX_STATE} bytes."
            )

    # Memos and what follows them

    def resume(self, run: RunState, hashed_id: str, memo: str, *, status: StepStatus) -> bool:
        """End a step that waits; False when it does not wait (any longer)."""
        step = run.steps.get(hashed_id)
        if step is None or step.has_memo or not run.is_open:
            return False
        limit = self._store.queue.get(f"{run.id}/{hashed_id}")
        if limit is not None:
            self._store.remove_job(limit)
        after = _After(run.force_plan and run.request_version >= 2)
        self._finish_step(run, step, memo, status, after, step.race)
        self._store.save_run(run)
        return True

    def _finish_step(
        self,
        run: RunState,
        step: StepState,
        memo: str,
        status: StepStatus,
        after: _After,
        race: bool | None = None,
    ) -> None:
        self._store.save_step(run, step)
        if not self._save_memo(run, step.hashed_id, memo, status):
            return
        if run.pending and not (step.race if race is None else race):
            return
        if after.reset_plan:
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

    def _save_memo(self, run: RunState, hashed_id: str, memo: str, status: StepStatus) -> bool:
        """Save a memo, unless the step has one: the first write wins."""
        step = run.steps[hashed_id]
        if step.has_memo:
            return False
        if step.status == "Waiting":
            self._store.remove_wait(step.opts["event"], run.id, hashed_id)
        step.memo, step.has_memo, step.status = memo, True, status
        step.ended_at = self._clock.now()
        run.stack.append(hashed_id)
        run.pending.discard(hashed_id)
        self._store.save_step(run, step)
        self._store.save_run(run)
        return True

    # Ends

    def end(
        self, run: RunState, status: RunStatus, *, reason: str = "", failure: Failure | None = None
    ) -> None:
        """Give a run its final status, tell whoever invoked it, publish its life cycle events.

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
                self._store.remove_wait(step.opts["event"], run.id, step.hashed_id)
        self._store.save_run(run)
        for event in self._lifecycle_events(run, failure):
            correlation_id = event["data"].get("correlation_id")
            if event["name"] == "inngest/function.finished" and correlation_id:
                self._answer_invoke(correlation_id, event)
            self._hub.publish(event, trace_id=run.trace_id)
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
        self.resume(parent, hashed_id, _canonical_or_null(memo), status=status)

    def _lifecycle_events(
        self, run: RunState, failure: Failure | None
    ) -> typing.Iterator[dict[str, Json]]:
        label = "Cancelled" if run.status == "TimedOut" else run.status
        events: list[dict[str, Json]] = [json.loads(event) for event in run.events]
        plain = [{key: value for key, value in event.items() if key != "user" or value}
                 for event in events]
        for position, event in enumerate(events):
            if event["name"] in _LIFECYCLE_EVENTS:
                continue
            envelope = event["data"].get("_inngest")
            correlation_id = envelope.get("correlation_id") if isinstance(envelope, dict) else None
            if correlation_id is None and position > 0:
                continue
            data: dict[str, Json] = {
                "_inngest": {"status": label},
                "event": event,
                "events": plain,
                "function_id": run.function_id,
                "run_id": run.id,
            }
            if correlation_id is not None:
                data["correlation_id"] = correlation_id
            if run.status == "Completed":
                data["result"] = run.output
            elif failure is not None:
                data["error"], data["result"] = standard_error(failure), failure.error
            common = {"data": data, "ts": int((run.ended_at or 0) * 1000), "user": {}}
            yield {"name": "inngest/function.finished", "id": self._hub.new_id(), **common}
            if label != "Completed":
                yield {"name": f"inngest/function.{label.lower()}", "id": run.id, **common}

    def _end_if_stuck(self, run: RunState) -> None:
        """A run with nothing queued, in flight or waited for would stay open for ever."""
        if any(job.kind != "finish" for job in self._store.queue.of_run(run.id)):
            return
        reason = (
            "nothing is left that could move the run on: the function is not deterministic, or it "
            "uses one step id twice (for example 'a:1' beside the second use of 'a')"
        )
        run.error = {"name": "NonDeterministicError", "message": reason}
        failure = Failure(run.error, 500, no_retry=True)
        self.end(run, "Failed", reason=reason, failure=failure)


class _After:
    """What the server had read about a run when it made the request that is being answered."""

    __slots__ = ("reset_plan",)

    def __init__(self, reset_plan: bool) -> None:
        self.reset_plan = reset_plan


def _canonical_or_null(value: Json) -> str:
    try:
        return canonical(value)
    except ValueError:
        return '{"data":null}'


_EXECUTED = ("StepRun", "Step", "StepError", "StepFailed")
_MEMO_ERROR = ("message", "name", "stack")
_INVOKE_TIMEOUT = {
    "error": {
        "error": "InngestInvokeTimeoutError: Timed out waiting for invoked function to complete",
        "message": "Timed out waiting for invoked function to complete",
        "name": "InngestInvokeTimeoutError",
    }
}
