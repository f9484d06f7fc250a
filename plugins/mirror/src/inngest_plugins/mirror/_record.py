"""Collects the facts that one request learns of its run, and makes a report of them."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from inngest_plugins.core import (
    USAGE,
    Call,
    CallKey,
    Memo,
    Outcome,
    SealedPlace,
    Step,
    class_name,
    open_sealed,
    safe_text,
    ulid_time,
)

from ._fields import Place, StoredFields
from .store.rows import (
    AttemptFacts,
    Failure,
    LogLine,
    Report,
    RunFacts,
    RunStatus,
    StepFacts,
    StepStatus,
)

RECORDS: Final = CallKey[list["RunRecord"]]("mirror.records")
"""The records of a call, one for each mirror in the stack."""


Progress: TypeAlias = tuple[object, ...]
"""A value that differs when a request has more to show."""

_STATUSES: Final[Mapping[str, StepStatus]] = {
    "running": "Running",
    "planned": "Planned",
    "skipped": "Planned",
    "waiting": "Waiting",
}


class RunRecord:
    """What one request knows of its run.

    Args:
        call: the request.
        fields: the parts of payloads that are stored.
        is_written: returns whether a step's end is in the database already.
    """

    def __init__(self, call: Call, fields: StoredFields, is_written: Callable[[str], bool]) -> None:
        self._call = call
        self._fields = fields
        self._is_written = is_written
        self._started = now()
        self._reached: dict[str, Step] = {}
        self._memos: dict[str, Memo] = {}
        self._ended: dict[str, StepFacts] = {}
        self._attempts: list[AttemptFacts] = []
        self._lines: list[LogLine] = []
        self._counts: dict[tuple[str, int], int] = {}
        self._has_delivered = False
        self._status: RunStatus = "Running"
        self._ended_at: dt.datetime | None = None
        self._failure: Failure | None = None
        self._run_fields: dict[str, object] = {}
        self.tenant: str | None = None
        self.tags: dict[str, str] = {}
        self.is_closed = False

    def close(self) -> None:
        """Stop collecting: the request is about to be answered, or failed."""
        self.is_closed = True

    def note_event(self) -> None:
        """Take the named fields of the event, which is in plaintext now."""
        if self._fields.any_in("event"):
            self._run_fields |= self._fields.of("event", self._call.event.data)

    def note_step(self, step: Step) -> None:
        """Note a step that the function has reached."""
        hashed_id = step.hashed_id
        self._reached.setdefault(hashed_id, step)
        if step.status == "memoized" and not self._is_written(hashed_id):
            # Read it now, as the engine stores it: soon the function consumes it.
            self._memos[hashed_id] = self._call.memos.get(hashed_id) or Memo()

    def note_delivered(self) -> None:
        """Note that the engine has stored a step while the request goes on: attempts start at 0."""
        self._has_delivered = True

    def note_outcome(self, outcome: Outcome) -> None:
        """Note the end of a step or of the function."""
        if outcome.step is None:
            self._note_end(outcome)
        else:
            self._note_step_end(outcome, outcome.step)

    def add_line(self, text: str, level: str) -> None:
        """Add a log line of the running step, or of the body."""
        step = self._call.step
        place = ("", 0) if step is None else (step.hashed_id, self._attempt)
        number = self._counts[place] = self._counts.get(place, -1) + 1
        self._lines.append(LogLine(*place, number, level, text, now()))

    def report(self) -> Report:
        """Return all that is known of the run."""
        steps = [
            facts for each in self._all_steps() if (facts := self._facts_of(*each)) is not None
        ]
        return Report(self._run_facts(), tuple(steps), tuple(self._attempts), tuple(self._lines))

    def progress(self) -> Progress:
        """Return a value that differs when there is more to show; another thread may call it."""
        running = tuple(step.hashed_id for step in self._running_steps())
        return (running, len(self._ended), len(self._attempts), len(self._lines))

    def report_meanwhile(self) -> Report:
        """Return what is known while the function runs; another thread may call it.

        It has only the steps that run or ended in this request: reading the others would interfere
        with the function.
        """
        steps = [*self._ended.copy().values()]
        steps += [
            StepFacts(
                **self._names(step),
                status="Running",
                attempts=self._attempt + 1,
                started_at=started_at(step),
            )
            for step in self._running_steps()
        ]
        attempts, lines = self._attempts.copy(), self._lines.copy()
        return Report(self._run_facts(), tuple(steps), tuple(attempts), tuple(lines))

    def _running_steps(self) -> list[Step]:
        reached = self._reached.copy().values()
        return [
            step
            for step in reached
            if step.status == "running" and step.hashed_id not in self._ended
        ]

    def _run_facts(self) -> RunFacts:
        call = self._call
        return RunFacts(
            run_id=call.run_id,
            app_id=call.app_id,
            function_id=self._function_id,
            function_name=call.function_name,
            status=self._status,
            attempt=call.attempt,
            seen_at=now(),
            tenant=self.tenant,
            tags=self.tags,
            event_name=call.event.name,
            event_id=call.event.id or None,
            queued_at=made_at(call.run_id),
            started_at=self._started,
            ended_at=self._ended_at,
            failure=self._failure,
            fields=self._run_fields.copy(),
        )

    @property
    def _function_id(self) -> str:
        of_failure = self._call.handler_kind == "on_failure"
        return f"{self._call.local_id}-failure" if of_failure else self._call.local_id

    @property
    def _attempt(self) -> int:
        """The attempt of the step that runs."""
        return 0 if self._has_delivered else self._call.attempt

    def _note_end(self, outcome: Outcome) -> None:
        ended = now()
        failure = failure_of(outcome.error)
        if failure is not None:
            self._attempts.append(
                AttemptFacts(
                    "", self._call.attempt, "Failed", self._started, ended, failure=failure
                )
            )
            # A step whose error ends the request, such as a NonRetriableError, has no end of its
            # own: the engine is told that the function failed.
            for step in self._running_steps():
                self._ended[step.hashed_id] = StepFacts(
                    **self._names(step),
                    status="Retrying" if outcome.will_retry else "Failed",
                    attempts=self._attempt + 1,
                    started_at=started_at(step),
                    ended_at=None if outcome.will_retry else ended,
                    failure=failure,
                )
        if outcome.will_retry:
            return
        self._status, self._ended_at = ("Failed" if failure else "Completed"), ended
        self._failure = failure
        if failure is None:
            self._run_fields |= self._opened("output", outcome.output, None)

    def _note_step_end(self, outcome: Outcome, step: Step) -> None:
        self.note_step(step)
        failure = failure_of(outcome.error)
        attempt = self._attempt
        started = started_at(step)
        ended = started + dt.timedelta(microseconds=step.duration_ns / 1000)
        duration = step.duration_ns / 1e6
        status: StepStatus = "Completed"
        if failure is not None:
            status = "Retrying" if outcome.will_retry else "Failed"
        self._ended[step.hashed_id] = StepFacts(
            **self._names(step),
            status=status,
            attempts=attempt + 1,
            started_at=started,
            ended_at=None if status == "Retrying" else ended,
            duration_ms=duration,
            output_bytes=None if failure else size_of(outcome.output),
            failure=failure,
            fields={} if failure else self._opened("step", outcome.output, step.hashed_id),
        )
        tokens, cost = usage_of(outcome)
        self._attempts.append(
            AttemptFacts(
                step.hashed_id,
                attempt,
                "Failed" if failure else "Completed",
                started,
                ended,
                duration,
                failure,
                tokens,
                cost,
            )
        )

    def _all_steps(self) -> list[tuple[str, Step | None]]:
        """The steps reached, in order, and results that the function has not reached."""
        reached: list[tuple[str, Step | None]] = list(self._reached.items())
        return reached + [(each, None) for each in self._call.memos if each not in self._reached]

    def _facts_of(self, hashed_id: str, step: Step | None) -> StepFacts | None:
        if hashed_id in self._ended:
            return self._ended[hashed_id]
        is_stored = step is None or step.status == "memoized"
        if is_stored and self._is_written(hashed_id):
            return None
        names: dict[str, Any] = {"hashed_id": hashed_id} if step is None else self._names(step)
        if step is not None and not is_stored:
            return StepFacts(**names, status=_STATUSES.get(step.status, "Running"))
        memo = self._memos.get(hashed_id) or self._call.memos.get(hashed_id) or Memo()
        if memo.error is not None:
            failure = Failure(memo.error.name, memo.error.message)
            return StepFacts(**names, status="Failed", failure=failure)
        return StepFacts(
            **names,
            status="Completed",
            output_bytes=size_of(memo.data),
            fields=self._opened("step", memo.data, hashed_id),
        )

    def _names(self, step: Step) -> dict[str, Any]:
        position = list(self._reached).index(step.hashed_id)
        return {
            "hashed_id": step.hashed_id,
            "step_id": step.id,
            "step_index": step.index,
            "name": step.name,
            "op": step.op,
            "position": position,
        }

    def _opened(self, place: Place, value: Any, hashed_id: str | None) -> dict[str, object]:
        """Return the named fields of a value, which plugins may have sealed."""
        if not self._fields.any_in(place):
            return {}
        call = self._call
        where = SealedPlace(
            "output" if hashed_id is None else "step",
            call.app_id,
            self._function_id,
            call.run_id,
            hashed_id,
        )
        return self._fields.of(place, open_sealed(call.stack, value, where))


def now() -> dt.datetime:
    """The time, in UTC."""
    return dt.datetime.now(dt.timezone.utc)


def started_at(step: Step) -> dt.datetime:
    """Return when a step's handler began."""
    return dt.datetime.fromtimestamp((step.started_ns or time.time_ns()) / 1e9, tz=dt.timezone.utc)


def made_at(ulid: str) -> dt.datetime | None:
    """Return the time in a ULID, or None for another text."""
    millis = ulid_time(ulid)
    if millis is None:
        return None
    try:
        return dt.datetime.fromtimestamp(millis / 1000, tz=dt.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None


def failure_of(error: BaseException | None) -> Failure | None:
    """Return an error as it is sent, safely: its own code may be hostile."""
    return None if error is None else Failure(class_name(error), safe_text(error))


def size_of(value: Any) -> int | None:
    """Return the size of a result as it is stored, in bytes of JSON; None if it is not JSON."""
    try:
        return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError):
        return None


def usage_of(outcome: Outcome) -> tuple[int | None, float | None]:
    """Return tokens and cost, in US dollars, of the model calls of a step's attempt.

    A plugin that counts them keeps the figures on the step; without one, the metadata of model
    calls that goes with the result says. None is unknown.
    """
    used = None if outcome.step is None else outcome.step.get(USAGE)
    if used is not None and used.calls:
        priced = used.unpriced_calls < used.calls
        return used.tokens, float(used.cost_usd) if priced else None
    tokens: int | None = None
    cost: float | None = None
    for entry in outcome.metadata or ():
        if entry["kind"] != "inngest.ai":
            continue
        values = entry["values"]
        for name in ("input_tokens", "output_tokens"):
            if isinstance(count := values.get(name), int):
                tokens = (tokens or 0) + count
        if isinstance(price := values.get("estimated_cost"), (int, float)):
            cost = (cost or 0.0) + price
    return tokens, cost
