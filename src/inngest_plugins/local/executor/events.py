"""What events do: start functions, fill batches, resume waits, cancel runs."""

from __future__ import annotations

import json
import logging
import os
import typing
from collections.abc import Mapping, Sequence

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.functions.config import BatchRule, FunctionConfig, Trigger
from inngest_plugins.local.functions.expressions import ExpressionError, parse_expression
from inngest_plugins.local.functions.values import UNKNOWN
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState, StepState
from inngest_plugins.local.journal.store import OpenBatch, ReceivedEvent, Store
from inngest_plugins.local.wire.ids import decode_ulid
from inngest_plugins.local.wire.protocol import canonical, decode, format_instant
from inngest_plugins.local.wire.trace_ids import trace_and_span_id

from .executor import Executor
from .received import normalised, plain

_DAY = 86_400.0
_logger = logging.getLogger("inngest_plugins.local")


class Router:
    """Takes events in and decides what they do.

    Args:
        functions: By full id.
        store: The state.
        clock: Time.
        new_id: Makes ULIDs.
        run_started: Called with every new run.
    """

    def __init__(
        self,
        *,
        functions: dict[str, FunctionConfig],
        store: Store,
        clock: Clock,
        new_id: typing.Callable[[], str],
        run_started: typing.Callable[[RunState], None],
    ) -> None:
        self._functions = functions
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._run_started = run_started
        self._executor: Executor

    def bind(self, executor: Executor) -> None:
        """Introduce the executor (it needs the router too, so one has to come second)."""
        self._executor = executor

    def triggered_by(self, event: Mapping[str, Json]) -> list[FunctionConfig]:
        """The functions that the event would start."""
        return [fn for fn in self._functions.values() if self._accepts(fn, event)]

    def receive(
        self, raw: Json, *, sender: RunState | None = None, seeded_id: str | None = None
    ) -> str:
        """Take in an event from the app or from outside; returns the id the server gives it.

        Args:
            raw: The event.
            sender: The run whose code sent it, if that is known.
            seeded_id: The id that the request asks for. The same one again is the same event,
                sent again because the first answer got lost: it starts nothing.

        Raises:
            InvalidEventError: The server would refuse it.
        """
        now = self._clock.now()
        internal_id = seeded_id or self._new_id()
        event = normalised(raw, internal_id, now)
        if internal_id in self._store.events:
            return internal_id
        text = canonical(event)
        received = ReceivedEvent(internal_id, text, now)
        self._store.save_event(received)
        if sender is not None:
            self._attribute(received, sender)
        self._dispatch(event, received, is_named=event["id"] != internal_id)
        return internal_id

    def claim(self, run: RunState, ids: Json, since: float) -> None:
        """Attribute to a run the events with these ids, if they came meanwhile from nobody known.

        ``step.send_event`` returns the ids of its events. In worker threads that is the only sign
        of who sent them.
        """
        for internal_id in ids if isinstance(ids, list) else []:
            received = self._store.events.get(internal_id) if isinstance(internal_id, str) else None
            if received and received.sender is None and received.received_at >= since:
                self._attribute(received, run)

    def _attribute(self, received: ReceivedEvent, run: RunState) -> None:
        received.sender = run.id
        run.take_event(received.event, received.received_at)
        self._store.save_event(received)

    def publish(self, event: dict[str, Json], *, trace_id: str) -> None:
        """Take in one of the engine's own events."""
        self._dispatch(plain(event), None, is_named=False, trace_id=trace_id)

    def start_deferred(self, event: dict[str, Json], *, parent: RunState) -> list[str]:
        """Start what an ended run deferred; returns the ids of the runs."""
        runs = self._dispatch(event, None, is_named=False, trace_id=parent.trace_id)
        return [run.id for run in runs]

    def signal(self, name: str, data: Json) -> RunState | None:
        """Resume the step that waits for a signal; returns its run, None when nobody waits."""
        waiting = self._store.signals.get(name)
        run = self._store.runs.get(waiting[0]) if waiting else None
        if waiting is None or run is None:
            return None
        memo = canonical(decode(canonical({"data": {"signal": name, "data": data}})))
        return run if self._executor.resume(run, waiting[1], memo, status="Completed") else None

    def rerun(self, run: RunState, steps: list[StepState]) -> RunState:
        """Start a function again with the events of a run.

        Args:
            run: The run.
            steps: Steps that the new run has already, in the order in which they finished.
        """
        function = self._functions[run.function_id]
        return self._new_run(function, list(run.events), _new_trace_id(), steps)

    def invoke(self, function: FunctionConfig, data: dict[str, Json]) -> RunState | None:
        """Start a function as the API's ``invoke`` does; None when the event joins a batch."""
        event: dict[str, Json] = {
            "name": "inngest/function.invoked",
            "id": self._new_id(),
            "ts": int(self._clock.now() * 1000),
            "user": {},
            "data": {**data, "_inngest": {"fn_id": function.id, "invoke_type": "api"}},
        }
        run = self._start(function, plain(event), None, trace_id="")
        self._dispatch(plain(event), None, is_named=False)
        return run

    def start_invoked(
        self, function: FunctionConfig, event: dict[str, Json], *, parent: RunState, step: str
    ) -> None:
        """Start the run that an invoke step asks for (or put the event into a batch)."""
        run = self._start(function, event, None, trace_id=parent.trace_id)
        if run is not None:
            run.parent = (parent.id, step)
            parent.steps[step].invoked_run_id = run.id
            self._store.save_run(run)
            self._store.save_step(parent, parent.steps[step])
        self._dispatch(event, None, is_named=False, trace_id=parent.trace_id)

    def fire_cron(self, function: FunctionConfig) -> RunState:
        """Start a cron function as if its time had come now."""
        fired = format_instant(self._clock.now())
        event = {
            "name": "inngest/scheduled.timer",
            "id": fired,
            "ts": int(self._clock.now()) * 1000,
            "user": {},
            "data": {"cron": function.cron, "fireAt": fired, "scheduledAt": fired},
        }
        return self._new_run(function, [canonical(event)], _new_trace_id())

    def close_batch(self, key: str) -> None:
        """Start the run of a batch, full or not."""
        batch = self._store.batches.get(key)
        if batch is None:
            return
        job = self._store.queue.get(_batch_job(key))
        if job is not None:
            self._store.remove_job(job)
        self._store.remove_batch(batch)
        run = self._new_run(self._functions[batch.function_id], batch.events, batch.trace_id)
        for internal_id in batch.received:
            self._note_run(self._store.events[internal_id], run)
        for event in batch.events:
            envelope = (json.loads(event)["data"] or {}).get("_inngest") or {}
            parent_id, _, step = str(envelope.get("correlation_id", "")).partition(".")
            parent = self._store.runs.get(parent_id)
            if parent is not None and step in parent.steps:
                run.parent = run.parent or (parent_id, step)
                parent.steps[step].invoked_run_id = run.id
                self._store.save_step(parent, parent.steps[step])
        self._store.save_run(run)

    # Inside

    def _dispatch(
        self,
        event: dict[str, Json],
        received: ReceivedEvent | None,
        *,
        is_named: bool,
        trace_id: str = "",
    ) -> list[RunState]:
        """Process an event; returns the runs that it starts at once."""
        self._resume_waits(event)
        self._cancel_runs(event)
        started: list[RunState] = []
        for function in self.triggered_by(event):
            if is_named and not self._store.use_key(
                f"event/{function.id}/{event['id']}", self._clock.now(), _DAY
            ):
                continue
            run = self._start(function, event, received, trace_id=trace_id)
            if run is None:
                continue
            started.append(run)
            if received is not None:
                self._note_run(received, run)
        return started

    def _note_run(self, received: ReceivedEvent, run: RunState) -> None:
        received.runs.append(run.id)
        self._store.save_event(received)

    def _accepts(self, function: FunctionConfig, event: Mapping[str, Json]) -> bool:
        return any(_accepts(function, trigger, event) for trigger in function.triggers)

    def _resume_waits(self, event: dict[str, Json]) -> None:
        for run_id, hashed_id in list(self._store.waits.get(event["name"], ())):
            run = self._store.runs[run_id]
            condition = run.steps[hashed_id].opts.get("if")
            if condition and not _holds(condition, run, event, f"wait of run {run_id}"):
                continue
            self._executor.resume(run, hashed_id, canonical(event), status="Completed")

    def _cancel_runs(self, event: dict[str, Json]) -> None:
        for function in self._functions.values():
            for cancellation in function.cancellations:
                if cancellation.event != event["name"]:
                    continue
                for run_id in list(self._store.open_runs.get(function.id, ())):
                    run = self._store.runs[run_id]
                    limit = cancellation.timeout
                    if limit is not None and self._clock.now() > run.queued_at + limit:
                        continue
                    condition = cancellation.condition
                    if condition is None or _holds(
                        condition.source, run, event, f"cancellation of {function.id}"
                    ):
                        reason = f"cancelled by event {event['name']} {event['id']}"
                        self._executor.end(run, "Cancelled", reason=reason)

    def _start(
        self,
        function: FunctionConfig,
        event: dict[str, Json],
        received: ReceivedEvent | None,
        *,
        trace_id: str,
    ) -> RunState | None:
        """Start a run for one event; None when it went into a batch or was started before."""
        if function.idempotency is not None:
            try:
                value = function.idempotency.value({"event": event})
            except ExpressionError as error:
                _logger.warning("idempotency of %s is not applied: %s", function.id, error)
            else:
                # ``pkg/execution/ratelimit``: what is false limits nothing.
                if value is not False and value is not UNKNOWN:
                    key = f"idempotency/{function.id}/{canonical(value)}"
                    if not self._store.use_key(key, self._clock.now(), _DAY):
                        return None
        trace_id = trace_id or _new_trace_id()
        if function.batch is not None and _belongs_in_batch(function, function.batch, event):
            self._add_to_batch(function, function.batch, event, received, trace_id)
            return None
        return self._new_run(function, [canonical(event)], trace_id)

    def _add_to_batch(
        self,
        function: FunctionConfig,
        rule: BatchRule,
        event: dict[str, Json],
        received: ReceivedEvent | None,
        trace_id: str,
    ) -> None:
        group = "null"
        if rule.key is not None:
            try:
                value = rule.key.value({"event": event})
                group = "null" if value is UNKNOWN else canonical(value)
            except ExpressionError as error:
                _logger.warning("batch of %s: key is null: %s", function.id, error)
        key = f"{function.id}/{group}"
        batch = self._store.batches.get(key)
        if batch is None:
            batch = OpenBatch(key, function.id, trace_id=trace_id)
            due = self._clock.now() + rule.timeout
            self._store.put_job(Job(_batch_job(key), "batch", "", due, step=key))
        batch.events.append(canonical(event))
        if received is not None:
            batch.received.append(received.internal_id)
        self._store.save_batch(batch)
        if len(batch.events) >= rule.max_size:
            self.close_batch(key)

    def _new_run(
        self,
        function: FunctionConfig,
        events: list[str],
        trace_id: str,
        steps: Sequence[StepState] = (),
    ) -> RunState:
        run_id = self._new_id()
        now = self._clock.now()
        run = RunState(
            id=run_id,
            function_id=function.id,
            events=events,
            queued_at=now,
            trace_id=trace_id,
            state_trace_id=trace_and_span_id(decode_ulid(run_id))[0],
        )
        for step in steps:
            if step.has_memo:
                run.take_memo(step)
        self._store.add_run(run)
        for step in steps:
            self._store.save_step(run, step)
        led_by = run.stack[-1] if run.stack else ""
        self._store.put_job(Job(f"{run_id}/start", "edge", run_id, now, led_by=led_by))
        self._run_started(run)
        return run


def _holds(source: str, run: RunState, event: dict[str, Json], where: str) -> bool:
    try:
        variables = {"event": json.loads(run.events[0]), "async": event}
        return parse_expression(source).matches(variables)
    except ExpressionError as error:
        _logger.warning("%s does not match: %s", where, error)
        return False


def _belongs_in_batch(function: FunctionConfig, rule: BatchRule, event: dict[str, Json]) -> bool:
    if rule.condition is None:
        return True
    try:
        return rule.condition.matches({"event": event})
    except ExpressionError as error:
        _logger.warning("batch of %s: event goes alone: %s", function.id, error)
        return False


def _accepts(function: FunctionConfig, trigger: Trigger, event: Mapping[str, Json]) -> bool:
    try:
        return trigger.accepts(event)
    except ExpressionError as error:
        _logger.warning("trigger of %s does not match: %s", function.id, error)
        return False


def _new_trace_id() -> str:
    return os.urandom(16).hex()


def _batch_job(key: str) -> str:
    return f"batch/{key}"
