"""The engine's own records of a run: what is kept in memory and written to the journal.

Small on purpose (an idle run must cost well under 20 KiB): slotted classes, wire bodies as bytes,
nothing decoded before somebody asks.
"""

from __future__ import annotations

import dataclasses
import json
import typing

from .records import (
    DeferRecord,
    DeferStatus,
    Json,
    RequestRecord,
    RunStatus,
    StepRecord,
    StepStatus,
)


def size(text: str) -> int:
    """Bytes of a text as it is stored."""
    return len(text.encode("utf-8", "replace"))


@dataclasses.dataclass(slots=True)
class StepState:
    """One step of a run. The fields are those of `StepRecord`.

    ``input`` is what a rerun gives the step in place of its own input, as JSON. ``position`` is
    the step's place among those of the run that have a memo.
    """

    id: str
    index: int
    hashed_id: str
    op: str
    status: StepStatus
    started_at: float
    attempts: int = 0
    ended_at: float | None = None
    memo: str = "null"
    has_memo: bool = False
    errors: list[str] = dataclasses.field(default_factory=list[str])
    opts: Json = None
    invoked_run_id: str | None = None
    race: bool = False
    checkpointed: bool = False
    input: str | None = None
    position: int | None = None

    @property
    def key(self) -> str:
        """``id`` for the first use, ``id:n`` for the following ones."""
        return f"{self.id}:{self.index}" if self.index else self.id

    def copied(self) -> StepState:
        """The same step for another run."""
        return dataclasses.replace(self, errors=list(self.errors))

    def again(self, given: Json) -> StepState:
        """The step for another run, to be run with another input."""
        return dataclasses.replace(
            self,
            status="Planned",
            attempts=0,
            ended_at=None,
            memo="null",
            has_memo=False,
            errors=[],
            checkpointed=False,
            position=None,
            input=json.dumps(given, separators=(",", ":")),
        )

    def record(self) -> StepRecord:
        """An immutable copy for the outside."""
        return StepRecord(
            key=self.key,
            id=self.id,
            index=self.index,
            hashed_id=self.hashed_id,
            op=self.op,
            status=self.status,
            attempts=self.attempts,
            started_at=self.started_at,
            ended_at=self.ended_at,
            memo=json.loads(self.memo),
            errors=tuple(json.loads(error) for error in self.errors),
            opts=self.opts,
            invoked_run_id=self.invoked_run_id,
            checkpointed=self.checkpointed,
        )


@dataclasses.dataclass(slots=True)
class DeferState:
    """One deferred function of a run. The fields are those of `DeferRecord`; input as JSON.

    ``meta`` goes onto the event that starts it.
    """

    hashed_id: str
    id: str
    function_id: str
    status: DeferStatus
    input: str = ""
    meta: Json = None
    run_ids: list[str] = dataclasses.field(default_factory=list[str])

    def record(self) -> DeferRecord:
        """An immutable copy for the outside."""
        return DeferRecord(
            id=self.id,
            hashed_id=self.hashed_id,
            function_id=self.function_id,
            status=self.status,
            input=json.loads(self.input) if self.input else None,
            run_ids=tuple(self.run_ids),
        )


@dataclasses.dataclass(slots=True)
class RequestState:
    """One call of the app. The fields are those of `RequestRecord`."""

    number: int
    fn_id: str
    step_id: str
    request_headers: dict[str, str]
    request_bytes: bytes
    started_at: float
    status: int = 0
    response_headers: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    response_bytes: bytes = b""
    ended_at: float | None = None
    failure: str | None = None

    def record(self) -> RequestRecord:
        """An immutable copy for the outside."""
        return RequestRecord(
            number=self.number,
            query={"fnId": self.fn_id, "stepId": self.step_id},
            request_headers=self.request_headers,
            response_headers=self.response_headers,
            status=self.status,
            started_at=self.started_at,
            ended_at=self.ended_at,
            failure=self.failure,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
        )


@dataclasses.dataclass(slots=True)
class RunState:
    """One run. The public fields are those of `Run`.

    Attributes:
        events: The trigger events as wire JSON.
        stack: Hashes of finished steps, in the order in which they finished.
        memo_bytes: Bytes of all memos, counted as they are saved.
        events_sent: Events that the run sent, as wire JSON.
        sent_at: When they came in, by their ids.
        request_version: -1 until the first 206 was processed, then what its header said.
        force_plan: Whether a parallel group is open, so that requests must not execute eagerly.
        pending: Hashes of the open parallel group that have no memo yet.
        parent: ``(run id, step hash)`` of the invoke that started this run.
        defers: Deferred functions by hash.
        trace_id: The trace id in ``traceparent`` (inherited by the runs that this run causes).
        state_trace_id: The run's own, deterministic trace id, in ``tracestate``.
    """

    id: str
    function_id: str
    events: list[str]
    queued_at: float
    status: RunStatus = "Queued"
    reason: str = ""
    output: Json = None
    error: dict[str, Json] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    events_sent: list[str] = dataclasses.field(default_factory=list[str])
    sent_at: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    steps: dict[str, StepState] = dataclasses.field(default_factory=dict[str, StepState])
    defers: dict[str, DeferState] = dataclasses.field(default_factory=dict[str, DeferState])
    stack: list[str] = dataclasses.field(default_factory=list[str])
    requests: list[RequestState] = dataclasses.field(default_factory=list[RequestState])
    metadata: dict[str, dict[str, dict[str, Json]]] = dataclasses.field(
        default_factory=dict[str, dict[str, dict[str, typing.Any]]]
    )
    metadata_bytes: int = 0
    memo_bytes: int = 0
    request_version: int = -1
    force_plan: bool = False
    pending: set[str] = dataclasses.field(default_factory=set[str])
    parent: tuple[str, str] | None = None
    trace_id: str = ""
    state_trace_id: str = ""

    @property
    def event_ids(self) -> list[str]:
        """Ids of the events that started the run."""
        return [json.loads(event)["id"] for event in self.events]

    @property
    def is_open(self) -> bool:
        """Whether the run can still do something."""
        return self.status in ("Queued", "Running")

    def take_memo(self, step: StepState) -> None:
        """A step has got its memo: it is the next of the stack."""
        step.position = len(self.stack)
        self.stack.append(step.hashed_id)
        self.memo_bytes += size(step.memo)

    def take_event(self, event: str, received_at: float) -> None:
        """The run has sent an event, given as wire JSON."""
        self.events_sent.append(event)
        self.sent_at[json.loads(event)["id"]] = received_at
