"""Writes what a request knows of its run; writing it again changes nothing."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from .rows import ENDED_STEPS, OPEN, Failure, Report, RunFacts, StepFacts
from .tables import attempts, logs, runs, steps, tags
from .values import fields_text, message, optional, text


async def write_report(connection: AsyncConnection, report: Report) -> None:
    """Write a report in the connection's transaction.

    The run's row comes first: it makes requests of one run wait for each other and not lock each
    other out.
    """
    run_id = text(report.run.run_id, 64)
    rows: list[dict[str, Any]]
    await write_run(connection, report.run)
    await write_steps(connection, run_id, report.steps)
    if report.run.tags:
        rows = [
            {"run_id": run_id, "name": text(name), "value": text(value)}
            for name, value in sorted(report.run.tags.items())
        ]
        await _upsert(connection, tags, rows, {})
    if report.attempts:
        rows = [
            {
                "run_id": run_id,
                "hashed_id": text(one.hashed_id, 64),
                "attempt": one.attempt,
                "status": one.status,
                "started_at": one.started_at,
                "ended_at": one.ended_at,
                "duration_ms": one.duration_ms,
                "tokens": one.tokens,
                "cost": one.cost,
                **_failure(one.failure),
            }
            for one in report.attempts
        ]
        await _upsert(connection, attempts, rows, _all_but_keys(attempts))
    if report.lines:
        rows = [
            {
                "run_id": run_id,
                "hashed_id": text(line.hashed_id, 64),
                "attempt": line.attempt,
                "number": line.number,
                "level": text(line.level, 16),
                "message": message(line.message),
                "logged_at": line.logged_at,
            }
            for line in report.lines
        ]
        await _upsert(connection, logs, rows, {})


async def write_run(connection: AsyncConnection, run: RunFacts) -> None:
    """Insert or update a run's row.

    A run that has ended is not opened again by a request that was under way meanwhile, and what the
    engine said of a cancelled run stands.
    """
    row = {
        "run_id": text(run.run_id, 64),
        "app_id": text(run.app_id),
        "function_id": text(run.function_id),
        "function_name": optional(run.function_name),
        "status": run.status,
        "tenant": optional(run.tenant),
        "event_name": optional(run.event_name),
        "event_id": optional(run.event_id),
        "attempt": run.attempt,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "seen_at": run.seen_at,
        "fields": fields_text(run.fields),
        **_failure(run.failure),
    }
    await connection.execute(_run_statement(connection.dialect.name, run.status in OPEN), [row])


@functools.cache
def _run_statement(dialect: str, is_open: bool) -> sa.TextClause:  # noqa: FBT001
    insert = _insert(dialect, runs)
    new = insert.excluded
    stands = _is_one_of(runs.c.status, "Cancelled")
    if is_open:
        stands = _is_one_of(runs.c.status, "Completed", "Failed", "Cancelled")
    is_older = new.seen_at < runs.c.seen_at
    changes: dict[str, Any] = {
        name: sa.case((stands, runs.c[name]), else_=new[name])
        for name in ("status", "ended_at", "error_class", "error_message")
    }
    changes |= {
        name: sa.func.coalesce(runs.c[name], new[name])
        for name in ("tenant", "event_name", "event_id", "queued_at", "started_at")
    }
    changes |= {
        "function_name": sa.func.coalesce(new.function_name, runs.c.function_name),
        "fields": sa.func.coalesce(new.fields, runs.c.fields),
        # A report kept during an outage may be older than the row.
        "seen_at": sa.case((is_older, runs.c.seen_at), else_=new.seen_at),
        "attempt": sa.case((is_older, runs.c.attempt), else_=new.attempt),
    }
    statement = insert.on_conflict_do_update(index_elements=["run_id"], set_=changes)
    return _text(dialect, runs, statement, without=("confirmed_at",))


async def write_steps(connection: AsyncConnection, run_id: str, facts: Iterable[StepFacts]) -> None:
    """Insert or update steps' rows; a step that has ended stays so, what was known stays known."""
    ended: list[dict[str, Any]] = []
    open_: list[dict[str, Any]] = []
    for step in sorted(facts, key=lambda each: each.hashed_id):
        row = {
            "run_id": run_id,
            "hashed_id": text(step.hashed_id, 64),
            "step_id": optional(step.step_id),
            "step_index": step.step_index,
            "name": optional(step.name),
            "op": optional(step.op, 64),
            "position": step.position,
            "status": step.status,
            "attempts": step.attempts,
            "started_at": step.started_at,
            "ended_at": step.ended_at,
            "duration_ms": step.duration_ms,
            "output_bytes": step.output_bytes,
            "fields": fields_text(step.fields),
            **_failure(step.failure),
        }
        (ended if step.status in ENDED_STEPS else open_).append(row)
    dialect = connection.dialect.name
    for rows, has_ended in ((ended, True), (open_, False)):
        if rows:
            await connection.execute(_steps_statement(dialect, has_ended), rows)


@functools.cache
def _steps_statement(dialect: str, has_ended: bool) -> sa.TextClause:  # noqa: FBT001
    insert = _insert(dialect, steps)
    new = insert.excluded
    changes: dict[str, Any] = {
        name: sa.func.coalesce(new[name], steps.c[name]) for name in _all_but_keys(steps)
    }
    # A trace of the engine has a name where a request has the id.
    changes["step_id"] = sa.func.coalesce(steps.c.step_id, new.step_id)
    where: sa.ColumnElement[bool] | None = None
    if has_ended:
        # A completed step has no error, even if an earlier attempt had one.
        failed = _is_one_of(new.status, "Failed")
        for name in ("error_class", "error_message"):
            changes[name] = sa.case((failed, changes[name]), else_=sa.null())
        changes["status"] = new.status
    else:
        reached = _is_one_of(steps.c.status, "Running", "Retrying")
        is_behind = reached & _is_one_of(new.status, "Planned")
        changes["status"] = sa.case((is_behind, steps.c.status), else_=new.status)
        where = sa.not_(_is_one_of(steps.c.status, *ENDED_STEPS))
    statement = insert.on_conflict_do_update(
        index_elements=["run_id", "hashed_id"], set_=changes, where=where
    )
    return _text(dialect, steps, statement)


def _is_one_of(column: sa.ColumnElement[str], *values: str) -> sa.ColumnElement[bool]:
    """An `IN` of constants, because the statement is compiled to text once."""
    return sa.or_(*(column == sa.literal_column(f"'{value}'") for value in values))


def insert_into(connection: AsyncConnection, table: sa.Table) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT."""
    return _insert(connection.dialect.name, table)


def _insert(dialect: str, table: sa.Table) -> Any:
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


def _base_dialect(name: str) -> Any:
    """Return the class of a dialect without a driver: the driver's own adds casts of parameters.

    Each is imported by the apps that write to such a database, and by no other.
    """
    if name == "sqlite":
        from sqlalchemy.dialects.sqlite.base import SQLiteDialect

        return SQLiteDialect
    from sqlalchemy.dialects.postgresql.base import PGDialect

    return PGDialect


async def _upsert(
    connection: AsyncConnection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    names: Iterable[str],
) -> None:
    statement = _upsert_statement(connection.dialect.name, table, tuple(names))
    await connection.execute(statement, rows)


@functools.cache
def _upsert_statement(dialect: str, table: sa.Table, names: tuple[str, ...]) -> sa.TextClause:
    insert = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    changes = {name: insert.excluded[name] for name in names}
    if changes:
        statement = insert.on_conflict_do_update(index_elements=keys, set_=changes)
    else:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    return _text(dialect, table, statement)


def _text(
    dialect: str, table: sa.Table, statement: Any, without: tuple[str, ...] = ()
) -> sa.TextClause:
    """Compile an INSERT of all columns once.

    SQLAlchemy compiles one with ON CONFLICT anew each time, which takes longer than the database.
    """
    columns = [column for column in table.columns if column.name not in without]
    compiled = statement.compile(
        dialect=_base_dialect(dialect)(paramstyle="named"),
        column_keys=[column.name for column in columns],
    )
    types = [sa.bindparam(column.name, type_=column.type) for column in columns]
    return sa.text(str(compiled)).bindparams(*types)


def _all_but_keys(table: sa.Table) -> list[str]:
    return [column.name for column in table.columns if not column.primary_key]


def _failure(failure: Failure | None) -> dict[str, str | None]:
    if failure is None:
        return {"error_class": None, "error_message": None}
    return {"error_class": text(failure.error_class), "error_message": message(failure.message)}
