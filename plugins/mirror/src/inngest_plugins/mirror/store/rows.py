"""What a request reports of a run, its steps and attempts: one dataclass for each table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

RunStatus: TypeAlias = Literal["Queued", "Running", "Completed", "Failed", "Cancelled", "Lost"]
"""The engine's words, and "Lost" for a run that the engine does not know any more."""

StepStatus: TypeAlias = Literal["Planned", "Waiting", "Running", "Retrying", "Completed", "Failed"]

OPEN: Final = ("Queued", "Running")
"""Statuses of a run from which it goes on."""

ENDED_STEPS: Final = ("Completed", "Failed")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is sent to the engine: sealed where a plugin seals errors.

    Attributes:
        error_class: name of its class.
        message: its text.
    """

    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a request knows of its run.

    Attributes:
        run_id: ULID.
        app_id: the app.
        function_id: the id given to `create_function`.
        function_name: the readable name.
        status: the status.
        attempt: number of the attempt, from 0.
        seen_at: when the request was written.
        tenant: whose run it is; None when unknown.
        tags: for filters.
        event_name: name of the first event.
        event_id: its id.
        queued_at: when the run was made.
        started_at: when this request began.
        ended_at: when the function ended for good.
        failure: the function's error.
        fields: what `store_fields` names, by path.
    """

    run_id: str
    app_id: str
    function_id: str
    function_name: str | None
    status: RunStatus
    attempt: int
    seen_at: dt.datetime
    tenant: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    event_name: str | None = None
    event_id: str | None = None
    queued_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    failure: Failure | None = None
    fields: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What a request knows of a step.

    Attributes:
        hashed_id: the engine's id of the step.
        status: the status.
        step_id: what the user calls it; None for a result that the function has not reached.
        step_index: how often that id had been used before.
        name: the engine's name of it.
        op: the opcode.
        position: how many steps the function reached before it.
        attempts: how often it was tried; None when unknown.
        started_at: when its last attempt began.
        ended_at: when it ended for good.
        duration_ms: how long the last attempt took.
        output_bytes: size of the result as the engine stores it.
        failure: its error.
        fields: what `store_fields` names, by path.
    """

    hashed_id: str
    status: StepStatus
    step_id: str | None = None
    step_index: int | None = None
    name: str | None = None
    op: str | None = None
    position: int | None = None
    attempts: int | None = None
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    duration_ms: float | None = None
    output_bytes: int | None = None
    failure: Failure | None = None
    fields: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One attempt of a step, or of the function itself.

    Attributes:
        hashed_id: the step, or "" for the function.
        attempt: from 0.
        status: "Completed" or "Failed".
        started_at: when it began.
        ended_at: when it ended.
        duration_ms: how long it took.
        failure: its error.
        tokens: of the model calls in it, where known.
        cost: of the model calls in it in US dollars, where known.
    """

    hashed_id: str
    attempt: int
    status: Literal["Completed", "Failed"]
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    duration_ms: float | None = None
    failure: Failure | None = None
    tokens: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the function or a step logged.

    Attributes:
        hashed_id: the step, or "" for the function's body.
        attempt: of the step; 0 for the body, whose lines are the same in every replay.
        number: position in that attempt.
        level: such as "INFO".
        message: the text.
        logged_at: when.
    """

    hashed_id: str
    attempt: int
    number: int
    level: str
    message: str
    logged_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Report:
    """All that a request knows of its run; written in one transaction.

    Attributes:
        run: the run.
        steps: its steps.
        attempts: attempts that were made in this request.
        lines: lines that were logged.
    """

    run: RunFacts
    steps: tuple[StepFacts, ...] = ()
    attempts: tuple[AttemptFacts, ...] = ()
    lines: tuple[LogLine, ...] = ()
