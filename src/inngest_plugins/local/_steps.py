"""Steps: what the executor does with every op that the app reports.

One method for each op, named for it. The rules are those of the server's
``handleGenerator...`` functions (``pkg/execution/executor/executor.go``).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
import uuid
from collections.abc import Awaitable, Callable

from ._clock import Clock
from ._expressions import ExpressionError, parse_expression
from ._functions import FunctionConfig, parse_duration
from ._ids import app_uuid, function_uuid
from ._inference import Infer, InferenceRequest, run_inference
from ._memos import Memos
from ._protocol import (
    MAX_STATE,
    MAX_STEP_OUTPUT,
    MAX_STEPS,
    MAX_WAIT,
    Failure,
    Ops,
    canonical,
    format_instant,
    parse_instant,
)
from ._queue import Job
from ._retries import Retries
from ._run import Json, StepStatus
from ._state import RunState, StepState
from ._store import Store

Op = dict[str, Json]

_INVOKE_LIMIT = 365 * 86_400.0
# The server looks for the function when the invocation's event comes back to it; that takes longer
# than it takes to begin with the other steps of a group.
_MISSING_DELAY = 0.5
_EXECUTED = ("StepRun", "Step", "StepError", "StepFailed")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _memoized(error: Json) -> dict[str, Json]:
    """Return a step's error as it is stored: without its code, but with an empty message."""
    stored: dict[str, Json] = {
        "message": error.get("message") or "",
        "name": error.get("name") or "Error",
    }
    if error.get("stack"):
        stored["stack"] = error["stack"]
    return stored


class RunFailureError(Exception):
    """The run fails at once, whatever its attempts."""

    def __init__(self, name: str, message: str, stack: str = "") -> None:
        super().__init__(f"{message}: {stack}" if stack else message)
        error: dict[str, Json] = {"name": name, "message": message}
        if stack:
            error["stack"] = stack
        self.failure = Failure(error, 206, no_retry=True, label=name)


class UnreadableOpError(Exception):
    """The app reported something that is not a step: the attempt has failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.failure = Failure({"name": "Error", "message": message}, 206, label=message)


class StepHub(typing.Protocol):
    """What steps ask of the rest of the engine."""

    def start_invoked(
        self, function: FunctionConfig, event: dict[str, Json], *, parent: RunState, step: str
    ) -> None:
        """Start the run that an invoke step asks for."""
        ...

    def claim_events(self, run: RunState, ids: Json, since: float) -> None:
        """A step returned these ids: events among them of unknown origin are the run's."""
        ...

    def new_id(self) -> str:
        """A fresh ULID."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Report:
    """One answer with ops, and what was known when its request was made."""

    run: RunState
    job: Job
    no_retry: bool
    max_attempts: int
    resets_plan: bool


_Handler = Callable[[_Report, StepState, Op], bool | Awaitable[bool]]


class Steps:
    """Processes the ops of an answer.

    Args:
        app_id: The app, for ids.
        functions: By full id.
        store: The state.
        clock: Time.
        memos: Saves what steps gave.
        retries: Queues next attempts.
        hub: The rest of the engine.
        infer: Makes inference calls for ``step.ai``; None refuses them.
    """

    def __init__(
        self,
        *,
        app_id: str,
        functions: dict[str, FunctionConfig],
        store: Store,
        clock: Clock,
        memos: Memos,
        retries: Retries,
        hub: StepHub,
        infer: Infer | None,
    ) -> None:
        self._app_id = app_id
        self._functions = functions
        self._store = store
        self._clock = clock
        self._memos = memos
        self._retries = retries
        self._hub = hub
        self._infer = infer
        self._handlers: dict[str, _Handler] = {
            "StepRun": self._ran,
            "Step": self._ran,
            "StepError": self._errored,
            "StepFailed": self._failed,
            "StepPlanned": self._planned,
            "Sleep": self._sleep,
            "WaitForEvent": self._wait,
            "InvokeFunction": self._invoke,
            "AIGateway": self._infer_step,
        }

    async def process(
        self, run: RunState, job: Job, answer: Ops, *, max_attempts: int, resets_plan: bool
    ) -> None:
        """Do what the ops say; the job is removed, or queued for its next attempt.

        Args:
            run: The run.
            job: The job whose request was answered.
            answer: The answer.
            max_attempts: Of the function.
            resets_plan: See `Memos.finish`.

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
        if len(ops) > 1:
            run.force_plan = True
        if len(ops) > MAX_STEPS:
            raise RunFailureError(
                "InngestErrFunctionOverflowed",
                f"The function run exceeded the step limit of {MAX_STEPS} steps.",
            )
        if len(ops) > 1 and any(op.get("op") not in _EXECUTED for op in ops):
            run.pending = {str(op.get("id")) for op in ops} - set(run.stack)
        report = _Report(run, job, answer.no_retry, max_attempts, resets_plan)
        again = False
        # Waits first: their expressions can fail the run, and nothing else should have begun then.
        for op in sorted(ops, key=lambda op: op.get("op") != "WaitForEvent"):
            again |= await self._process_op(report, op)
        if not again and run.is_open:
            self._store.remove_job(job)

    async def _process_op(self, report: _Report, op: Op) -> bool:
        """Process one op; True when its job is to run again."""
        try:
            return await self._dispatch(report, op)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableOpError(
                f"The app reported a step that cannot be understood: {error!r}"
            ) from error

    async def _dispatch(self, report: _Report, op: Op) -> bool:
        handler = self._handlers[op["op"]]
        known = report.run.steps.get(op["id"])
        if known is not None and (known.has_memo or op["op"] in _BEGUN_ONCE):
            # Reported again by a discovery that ran beside it: the first report counts.
            return False
        result = handler(report, known or self._new_step(op), op)
        return await result if inspect.isawaitable(result) else result

    def _new_step(self, op: Op) -> StepState:
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

    def _ran(self, report: _Report, step: StepState, op: Op) -> bool:
        step.op, step.attempts = "StepRun", report.job.attempt + 1
        memo = canonical({"data": op.get("data")})
        self._check_state(report.run, memo)
        self._hub.claim_events(report.run, op.get("data"), report.run.requests[-1].started_at)
        self._finish(report, step, memo, "Completed", race=step.race)
        return False

    def _errored(self, report: _Report, step: StepState, op: Op) -> bool:
        if not op.get("error"):
            raise ValueError("StepError without an error")
        if report.no_retry or report.job.attempt + 1 >= report.max_attempts:
            return self._failed(report, step, op)
        step.op, step.attempts, step.status = "StepRun", report.job.attempt + 1, "Retrying"
        step.errors.append(canonical(op["error"]))
        self._store.save_step(report.run, step)
        self._retries.again(report.job)
        return True

    def _failed(self, report: _Report, step: StepState, op: Op) -> bool:
        step.op, step.attempts = "StepRun", report.job.attempt + 1
        step.errors.append(canonical(op["error"]))
        error = _memoized(op["error"])
        if report.no_retry:
            error["noRetry"] = True
        # The server looks at the job's mode here, not at the op's.
        self._finish(report, step, canonical({"error": error}), "Failed", race=report.job.race)
        return False

    def _finish(
        self, report: _Report, step: StepState, memo: str, status: StepStatus, *, race: bool
    ) -> None:
        self._memos.finish(
            report.run, step, memo, status, resets_plan=report.resets_plan, race=race
        )

    def _planned(self, report: _Report, step: StepState, op: Op) -> bool:
        run = report.run
        self._begin(run, step, "Planned")
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

    def _begin(self, run: RunState, step: StepState, status: StepStatus) -> None:
        step.status = status
        if status != "Planned":
            step.attempts = 1
        self._store.save_step(run, step)

    def _sleep(self, report: _Report, step: StepState, op: Op) -> bool:
        run = report.run
        now = self._clock.now()
        # Rounded to whole seconds, halves away from zero, as Go's Duration.Round does.
        seconds = math.floor(self._clock.from_wall(parse_instant(op["name"])) - now + 0.5)
        if seconds > MAX_WAIT:
            raise RunFailureError(
                "InngestErrTimeoutTooLong",
                f'The sleep "{op["name"]}" ends more than one year in the future; '
                "sleeps may last at most one year.",
            )
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
        return False

    def _wait(self, report: _Report, step: StepState, op: Op) -> bool:
        run = report.run
        opts: dict[str, Json] = dict(op["opts"])
        event = opts["event"] = op["name"]
        if opts.get("if"):
            try:
                parse_expression(opts["if"])
            except ExpressionError as error:
                raise RunFailureError(
                    "InvalidExpression",
                    "Wait for event If expression failed to compile",
                    f"step {step.key!r}: {error}",
                ) from None
        timeout = parse_duration(opts["timeout"])
        if timeout > MAX_WAIT:
            raise RunFailureError(
                "InngestErrTimeoutTooLong",
                f'The wait-for-event timeout "{opts["timeout"]}" expires more than one year in '
                "the future; timeouts may last at most one year.",
            )
        step.opts = opts
        self._begin(run, step, "Waiting")
        self._store.add_wait(event, run.id, step.hashed_id)
        self._time_limit("wait", run, step, timeout)
        return False

    def _invoke(self, report: _Report, step: StepState, op: Op) -> bool:
        run, opts = report.run, op["opts"]
        timeout = parse_duration(opts["timeout"]) if opts.get("timeout") else _INVOKE_LIMIT
        step.opts = opts
        self._begin(run, step, "Invoking")
        self._time_limit("invoke", run, step, timeout)
        function = self._functions.get(opts["function_id"])
        if function is None:
            due = self._clock.now() + _MISSING_DELAY
            job = f"{run.id}/{step.hashed_id}/missing"
            self._store.put_job(Job(job, "missing", run.id, due, step=step.hashed_id))
        else:
            event = self._invocation(run, step, function, opts.get("payload") or {}, timeout)
            self._hub.start_invoked(function, event, parent=run, step=step.hashed_id)
        return False

    def _invocation(
        self,
        run: RunState,
        step: StepState,
        function: FunctionConfig,
        payload: dict[str, Json],
        timeout: float,
    ) -> dict[str, Json]:
        """The event that starts the invoked run."""
        now = self._clock.now()
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
                    "source_app_id": app_uuid(self._app_id),
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
        return event

    def _time_limit(
        self, kind: typing.Literal["wait", "invoke"], run: RunState, step: StepState, after: float
    ) -> None:
        key, due = f"{run.id}/{step.hashed_id}", self._clock.now() + after
        self._store.put_job(Job(key, kind, run.id, due, step=step.hashed_id, race=step.race))

    async def _infer_step(self, report: _Report, step: StepState, op: Op) -> bool:
        run, job = report.run, report.job
        request = InferenceRequest.from_opts(op["opts"])
        # The key must not end up in the journal or a report.
        step.opts = {key: value for key, value in op["opts"].items() if key != "auth_key"}
        step.attempts, step.status = job.attempt + 1, "Retrying"
        self._store.save_step(run, step)
        response = await run_inference(self._infer, request)
        if not run.is_open:
            return False
        if response.status <= 299:
            memo = canonical({"data": response.json()})
            self._finish(report, step, memo, "Completed", race=step.race)
            return False
        why = response.failure or f"unsuccessful status code: {response.status}"
        message = f"Error making AI request: {why}"
        error = {"name": "AIGatewayError", "message": message, "stack": response.text}
        step.errors.append(canonical(error))
        if job.attempt + 1 < report.max_attempts and self._infer is not None:
            self._store.save_step(run, step)
            self._retries.again(job)
            return True
        error["data"] = response.json()
        self._finish(report, step, canonical({"error": error}), "Failed", race=step.race)
        return False

    def _check_form(self, op: Op) -> None:
        if op.get("op") not in self._handlers:
            raise UnreadableOpError(f"The app reported an unknown op {op.get('op')!r}.")
        if op["op"] in _EXECUTED and _size(canonical(op.get("data"))) > MAX_STEP_OUTPUT:
            raise UnreadableOpError(
                f"error validating generator opcode {op.get('id')}: "
                "step output size is greater than the limit"
            )

    def _check_state(self, run: RunState, memo: str) -> None:
        if _size(memo) + sum(len(step.memo) for step in run.steps.values()) > MAX_STATE:
            raise RunFailureError(
                "InngestErrStateOverflowed",
                f"The function run exceeded the state size limit of {MAX_STATE} bytes.",
            )


_BEGUN_ONCE = ("StepPlanned", "Sleep", "WaitForEvent", "InvokeFunction")
