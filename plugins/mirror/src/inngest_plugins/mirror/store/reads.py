"""Reads pages of runs, and one run with its steps, within a user's scope."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inngest_plugins.core import class_name
from inngest_plugins.mirror._errors import MirrorError

from .rows import OPEN, LogLine, RunStatus
from .scope import Scope
from .tables import attempts, logs, runs, steps, tags
from .values import text

MAX_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class MirroredRun:
    """A run as the database has it.

    Attributes:
        run_id: ULID.
        app_id: the app.
        function_id: the id given to `create_function`.
        function_name: the readable name.
        status: "Queued", "Running", "Completed", "Failed", "Cancelled" or "Lost".
        tenant: whose it is.
        event_name: name of its event.
        event_id: id of its event.
        attempt: number of the attempt, from 0.
        queued_at: when it was made.
        started_at: when its first request began.
        ended_at: when it ended.
        seen_at: when one of its requests was last written.
        confirmed_at: when the engine last confirmed the status.
        error_class: of its error.
        error_message: of its error, as the engine has it.
        fields: what `store_fields` names, by path.
        tags: what `tags` returned.
    """

    run_id: str
    app_id: str
    function_id: str
    function_name: str | None
    status: str
    tenant: str | None
    event_name: str | None
    event_id: str | None
    attempt: int
    queued_at: dt.datetime | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    seen_at: dt.datetime | None
    confirmed_at: dt.datetime | None
    error_class: str | None
    error_message: str | None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_open(self) -> bool:
        """Whether the run goes on, as far as is known."""
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class MirroredStep:
    """A step as the database has it; see `MirroredRun`.

    Attributes:
        hashed_id: the engine's id of the step.
        step_id: what the user calls it; None while no request has named it.
        step_index: how often the id had been used before.
        name: the engine's name of it.
        op: the opcode, such as "StepRun" or "Sleep".
        position: how many steps the function reached before it.
        status: "Planned", "Waiting", "Running", "Retrying", "Completed" or "Failed".
        attempts: how often it was tried, where known.
        started_at: when its last attempt began, where known.
        ended_at: when it ended, where known.
        duration_ms: how long the last attempt took, where known.
        output_bytes: size of the result as the engine stores it.
        error_class: of its error.
        error_message: of its error, as the engine has it.
        fields: what `store_fields` names, by path.
    """

    hashed_id: str
    step_id: str | None
    step_index: int | None
    name: str | None
    op: str | None
    position: int | None
    status: str
    attempts: int | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    duration_ms: float | None
    output_bytes: int | None
    error_class: str | None
    error_message: str | None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class MirroredAttempt:
    """An attempt as the database has it.

    Attributes:
        hashed_id: the step, or "" for the function itself.
        attempt: from 0.
        status: "Completed" or "Failed".
        started_at: when it began.
        ended_at: when it ended.
        duration_ms: how long it took.
        error_class: of its error.
        error_message: of its error, as the engine has it.
        tokens: of its model calls, where known.
        cost: of its model calls in US dollars, where known.
    """

    hashed_id: str
    attempt: int
    status: str
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    duration_ms: float | None
    error_class: str | None
    error_message: str | None
    tokens: int | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One run with all that is known of it.

    Attributes:
        run: the run.
        steps: in the order in which the function reached them.
        attempts: of the steps and of the function.
        lines: of `log`, in order.
    """

    run: MirroredRun
    steps: tuple[MirroredStep, ...]
    attempts: tuple[MirroredAttempt, ...]
    lines: tuple[LogLine, ...]

    @property
    def tokens(self) -> int | None:
        """Tokens of all model calls, where known."""
        known = [one.tokens for one in self.attempts if one.tokens is not None]
        return sum(known) if known else None

    @property
    def cost(self) -> float | None:
        """What all model calls cost in US dollars, where known."""
        known = [one.cost for one in self.attempts if one.cost is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of runs, latest first.

    Attributes:
        runs: the runs.
        next: the `after` of the next page, or None on the last.
    """

    runs: tuple[MirroredRun, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a page of runs; None means all.

    Attributes:
        status: the status.
        function_id: the function.
        event_name: the event's name.
        tag: a name and its value.
        after: the `next` of the page before.

    Raises:
        MirrorError: names the filter that no run could have.
    """

    status: str | None = None
    function_id: str | None = None
    event_name: str | None = None
    tag: tuple[str, str] | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        for name in ("status", "function_id", "event_name", "after"):
            if getattr(self, name) is not None:
                checked_text(name, getattr(self, name))
        known = get_args(RunStatus)
        if self.status is not None and self.status not in known:
            raise MirrorError(f"runs: status is one of {', '.join(known)}, written like that")
        tag: Any = self.tag
        is_pair = isinstance(tag, tuple | list) and len(cast("Sequence[object]", tag)) == 2
        if tag is not None and not (is_pair and all(isinstance(each, str) for each in tag)):
            raise MirrorError('runs: tag is a name and its value, such as ("plan", "pro")')


def checked_limit(limit: object) -> int:
    """Return how many runs a page has, at most `MAX_LIMIT`.

    Raises:
        MirrorError: it is no whole number.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise MirrorError(f"runs: limit is a whole number, not {class_name(limit)}")
    return max(1, min(limit, MAX_LIMIT))


def checked_text(name: str, value: object) -> str:
    """Return an argument that is a text.

    Raises:
        MirrorError: it is another value, which no run could have.
    """
    if not isinstance(value, str):
        raise MirrorError(f"runs: {name} is a text, not {class_name(value)}")
    return value


async def read_page(
    connection: AsyncConnection, scope: Scope, filters: Filters, limit: int
) -> Page:
    """Read a page of the runs that a scope shows."""
    query = sa.select(runs).where(scope.condition()).order_by(runs.c.run_id.desc())
    for name in ("status", "function_id", "event_name"):
        if (wanted := getattr(filters, name)) is not None:
            query = query.where(runs.c[name] == text(wanted))
    if filters.tag is not None:
        name, value = filters.tag
        query = query.where(
            sa.exists().where(
                tags.c.run_id == runs.c.run_id,
                tags.c.name == text(name),
                tags.c.value == text(value),
            )
        )
    if filters.after is not None:
        query = query.where(runs.c.run_id < text(filters.after))
    rows = (await connection.execute(query.limit(limit + 1))).mappings().all()
    found = await _with_tags(connection, rows[:limit])
    return Page(found, found[-1].run_id if len(rows) > limit else None)


async def read_run(connection: AsyncConnection, scope: Scope, run_id: str) -> RunDetail | None:
    """Read a run, or None when there is none that the scope shows."""
    key = text(run_id, 64)
    query = sa.select(runs).where(scope.condition(), runs.c.run_id == key)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return None
    (run,) = await _with_tags(connection, [row])
    found_steps = await _rows(connection, steps, key, steps.c.position, steps.c.started_at)
    found_attempts = await _rows(connection, attempts, key, attempts.c.started_at)
    found_lines = await _rows(connection, logs, key, logs.c.logged_at, logs.c.number)
    return RunDetail(
        run,
        tuple(MirroredStep(**_opened(each)) for each in found_steps),
        tuple(MirroredAttempt(**each) for each in found_attempts),
        tuple(LogLine(**each) for each in found_lines),
    )


async def _rows(
    connection: AsyncConnection, table: sa.Table, run_id: str, *order: sa.ColumnElement[Any]
) -> list[dict[str, Any]]:
    columns = [column for column in table.columns if column.name != "run_id"]
    # NULLs come first in one database and last in the other.
    keys = [key for each in order for key in (each.is_(None), each)]
    query = sa.select(*columns).where(table.c.run_id == run_id).order_by(*keys)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def _with_tags(
    connection: AsyncConnection, rows: Sequence[sa.RowMapping]
) -> tuple[MirroredRun, ...]:
    by_run: dict[str, dict[str, str]] = {row["run_id"]: {} for row in rows}
    if by_run:
        query = sa.select(tags).where(tags.c.run_id.in_(by_run))
        for tag in await connection.execute(query):
            by_run[tag.run_id][tag.name] = tag.value
    return tuple(MirroredRun(**_opened(dict(row)), tags=by_run[row["run_id"]]) for row in rows)


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its fields read."""
    return {**row, "fields": json.loads(row["fields"]) if row["fields"] else {}}
