"""The engine's own records of a run: what is kept in memory and written to the journal.

Small on purpose (an idle run must cost well under 20 KiB): slotted classes, wire bodies as bytes,
nothing decoded before somebody asks.
"""

from __future__ import annotations

import dataclasses
import json
import typing

from ._run import HookTiming, Json, RequestRecord, RunStatus, StepRecord, StepStatus


@dataclasses.dataclass(slots=True)
class StepState:
    """One step of a run. The fields are those of `StepRecord`."""

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

    @property
    def key(self) -> str:
        """``id`` for the first use, ``id:n`` for the following ones."""
        return f"{self.id}:{self.index}" if self.index else self.id

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
    hooks: tuple[HookTiming, ...] = ()
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
            hooks=self.hooks,
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
        request_version: -1 until the first 206 was processed, then what its header said.
        force_plan: Whether a parallel group is open, so that requests must not execute eagerly.
        pending: Hashes of the open parallel group that have no memo yet.
        parent: ``(run id, step hash)`` of the invoke that started this run.
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
    stack: list[str] = dataclasses.field(default_factory=list[str])
    requests: list[RequestState] = dataclasses.field(default_factory=list[RequestState])
    metadata: dict[str, dict[str, dict[str, Json]]] = dataclasses.field(
        default_factory=dict[str, dict[str, dict[str, typing.Any]]]
    )
    metadata_bytes: int = 0
    request_version: int = -1
    force_plan: bool = False
    pending: set[str] = dataclasses.field(default_factory=set[str])
    parent: tuple[str, str] | None = None
    trace_id: str = ""
    state_trace_id: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the run can still do something."""
        return self.status in ("Queued", "Running")
