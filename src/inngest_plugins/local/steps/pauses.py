"""Steps that wait: sleeps, events, signals and invoked functions.

One method for each op, named for it. The rules are those of the server's
``handleGenerator...`` functions (``pkg/execution/executor/executor.go``).
"""

from __future__ import annotations

import math
import typing
import uuid

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.functions.config import FunctionConfig, parse_duration
from inngest_plugins.local.functions.expressions import ExpressionError, parse_expression
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import Json, StepStatus
from inngest_plugins.local.journal.state import RunState, StepState
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.ids import app_uuid, function_uuid
from inngest_plugins.local.wire.protocol import MAX_WAIT, format_instant, parse_instant

from .ops import Handler, Op, Report, RunFailureError

_INVOKE_LIMIT = 365 * 86_400.0
# The server looks for the function when the invocation's event comes back to it; that takes longer
# than it takes to begin with the other steps of a group.
_MISSING_DELAY = 0.5


class PauseHub(typing.Protocol):
    """What waiting steps ask of the rest of the engine."""

    def start_invoked(
        self, function: FunctionConfig, event: dict[str, Json], *, parent: RunState, step: str
    ) -> None:
        """Start the run that an invoke step asks for."""
        ...

    def new_id(self) -> str:
        """A fresh ULID."""
        ...


class Pauses:
    """Begins what a run waits for.

    Args:
        app_id: The app, for ids.
        functions: By full id.
        store: The state.
        clock: Time.
        hub: The rest of the engine.
    """

    def __init__(
        self,
        *,
        app_id: str,
        functions: dict[str, FunctionConfig],
        store: Store,
        clock: Clock,
        hub: PauseHub,
    ) -> None:
        self._app_id = app_id
        self._functions = functions
        self._store = store
        self._clock = clock
        self._hub = hub
        self.handlers: dict[str, Handler] = {
            "Sleep": self._sleep,
            "WaitForEvent": self._wait,
            "WaitForSignal": self._signal,
            "InvokeFunction": self._invoke,
        }

    def _begin(self, run: RunState, step: StepState, status: StepStatus) -> None:
        step.status, step.attempts = status, 1
        self._store.save_step(run, step)

    def _sleep(self, report: Report, step: StepState, op: Op) -> bool:
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

    def _wait(self, report: Report, step: StepState, op: Op) -> bool:
        run = report.run
        opts: dict[str, Json] = dict(op["opts"])
        opts["event"] = op["name"]
        if opts.get("if"):
            try:
                parse_expression(opts["if"])
            except ExpressionError as error:
                raise RunFailureError(
                    "InvalidExpression",
                    "Wait for event If expression failed to compile",
                    f"step {step.key!r}: {error}",
                ) from None
        timeout = _wait_timeout("wait-for-event", opts["timeout"])
        step.opts = opts
        self._begin(run, step, "Waiting")
        self._store.add_wait(run, step)
        self._time_limit("wait", run, step, timeout)
        return False

    def _signal(self, report: Report, step: StepState, op: Op) -> bool:
        run = report.run
        opts: dict[str, Json] = dict(op["opts"])
        signal = opts["signal"]
        if not signal or not isinstance(signal, str):
            raise ValueError("signal name is empty")
        timeout = _wait_timeout("wait-for-signal", opts["timeout"])
        waiting = self._store.signals.get(signal)
        if waiting not in (None, (run.id, step.hashed_id)) and opts.get("conflict") != "replace":
            raise RunFailureError(
                "Error", "Signal conflict; signal wait already exists for another run"
            )
        step.opts = opts
        self._begin(run, step, "Waiting")
        self._store.add_wait(run, step)
        self._time_limit("wait", run, step, timeout)
        return False

    def _invoke(self, report: Report, step: StepState, op: Op) -> bool:
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


def _wait_timeout(what: str, timeout: str) -> float:
    """Seconds of the timeout of a wait."""
    seconds = parse_duration(timeout)
    if seconds > MAX_WAIT:
        raise RunFailureError(
            "InngestErrTimeoutTooLong",
            f'The {what} timeout "{timeout}" expires more than one year in '
            "the future; timeouts may last at most one year.",
        )
    return seconds
