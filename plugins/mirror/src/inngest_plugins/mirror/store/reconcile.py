"""Compares the mirror with the engine's list of runs: finds cancelled and lost runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import inngest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inngest_plugins.core import EngineApi, EngineApiError, class_name, parse_timestamp
from inngest_plugins.mirror._errors import MirrorError

from .rows import OPEN, RunStatus, StepFacts, StepStatus
from .tables import runs, steps
from .values import optional, text
from .writes import insert_into, write_steps

_PAGE: Final = 100
_FIRST: Final = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)
_UNKNOWN: Final = (400, 404, 405, 501)
_STATUSES: Final[Mapping[str, RunStatus]] = {
    "QUEUED": "Queued",
    "RUNNING": "Running",
    "COMPLETED": "Completed",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
}
_STEP_STATUSES: Final[Mapping[str, StepStatus]] = {
    "COMPLETED": "Completed",
    "FAILED": "Failed",
    "RUNNING": "Running",
    "WAITING": "Waiting",
    "QUEUED": "Planned",
}
_OPS: Final = {
    "RUN": "StepRun",
    "SLEEP": "Sleep",
    "WAIT_FOR_EVENT": "WaitForEvent",
    "WAIT_FOR_SIGNAL": "WaitForSignal",
    "INVOKE": "InvokeFunction",
    "AI_GATEWAY": "AIGateway",
}


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a comparison found.

    Attributes:
        compared: how many runs the engine listed.
        corrected: how many of them the mirror did not have, or had with another status.
        lost: how many open runs the engine does not know any more.
    """

    compared: int
    corrected: int
    lost: int


@dataclass(frozen=True, slots=True)
class EngineRun:
    """A run as the engine knows it.

    Attributes:
        row: its columns in the mirror.
        asked_at: when the engine was queried.
    """

    row: dict[str, Any]
    asked_at: dt.datetime


def moments(
    since: dt.timedelta, lost_after: dt.timedelta
) -> tuple[dt.datetime, dt.datetime, dt.datetime]:
    """Return the time, from when on runs are compared, and before when silent ones are lost.

    Raises:
        MirrorError: an argument is no `timedelta`.
    """
    now = dt.datetime.now(dt.timezone.utc)
    for name, span in (("since", since), ("lost_after", lost_after)):
        given: object = span
        if not isinstance(given, dt.timedelta):
            raise MirrorError(f"reconcile: {name} is a timedelta, not {class_name(given)}")
    # There were no runs before the first; a date has no years without end.
    return now, now - min(since, now - _FIRST), now - min(lost_after, now - _FIRST)


class EngineRuns:
    """The runs of an app, read from the engine.

    Args:
        client: the app's client.
    """

    def __init__(self, client: inngest.Inngest) -> None:
        self._api = EngineApi(client)
        self._app_id = client.app_id

    async def since(self, oldest: dt.datetime) -> AsyncIterator[EngineRun]:
        """Go through the runs that were made after a moment, latest first."""
        cursor: str | None = None
        while True:
            asked_at = dt.datetime.now(dt.timezone.utc)
            params = {"limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
            answer = await self._get("/api/v2/runs", params)
            for listed in answer["data"]:
                run = _engine_run(listed, asked_at)
                if (queued := run.row["queued_at"]) is not None and queued < oldest:
                    return
                if run.row["app_id"] == self._app_id:
                    yield run
            cursor = answer["page"].get("cursor")
            if not answer["page"].get("hasMore") or not cursor:
                return

    async def one(self, run_id: str) -> EngineRun | None:
        """Return a run, or None when the engine does not know it."""
        asked_at = dt.datetime.now(dt.timezone.utc)
        answer = await self._get(f"/api/v2/runs/{quote(run_id, safe='')}", unknown=_UNKNOWN)
        if answer is None:
            return None
        listed = answer["data"]
        if not listed.get("endedAt"):
            listed = await self._listed(listed) or {**listed, "status": "RUNNING"}
        return _engine_run(listed, asked_at)

    async def _listed(self, listed: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a run as the server lists it.

        For one run the server reads the trace, where a sleeping run is COMPLETED, and a completed
        one may be QUEUED. Its lists are right, so they are used.
        """
        for event_id in listed.get("trigger", {}).get("eventIds") or ():
            path = f"/api/v2/events/{quote(event_id, safe='')}/runs"
            answer = await self._get(path, {"limit": "40"}, unknown=_UNKNOWN)
            for run in () if answer is None else answer["data"]:
                if run["id"] == listed["id"]:
                    return dict(run)
        return None

    async def steps_of(self, run_id: str) -> list[StepFacts]:
        """Return the steps of a run, without their outputs."""
        answer = await self._get(f"/api/v2/runs/{quote(run_id, safe='')}/trace", unknown=(404,))
        if answer is None:
            return []
        spans = answer["data"]["rootSpan"].get("children", [])
        # The server lists a step twice, in any order: as it was planned, and as it ended.
        spans = [span for span in spans if span.get("stepId")]
        spans.sort(key=lambda span: span.get("status") in ("COMPLETED", "FAILED"))
        found = {span["stepId"]: span for span in spans}
        return [_step(hashed_id, span) for hashed_id, span in found.items()]

    async def _get(
        self, path: str, params: Mapping[str, str] | None = None, unknown: tuple[int, ...] = ()
    ) -> Any:
        response = await self._api.request("GET", path, params=params)
        if response.status_code in unknown:
            return None
        if not response.is_success:
            raise EngineApiError(
                f"GET {path} answered {response.status_code}: the mirror cannot be compared",
                status=response.status_code,
            )
        return response.json()


def _engine_run(listed: Mapping[str, Any], asked_at: dt.datetime) -> EngineRun:
    ended_at = _time(listed.get("endedAt"))
    status = _STATUSES.get(listed["status"], "Running")
    event_ids = listed.get("trigger", {}).get("eventIds") or [None]
    return EngineRun(
        {
            "run_id": text(listed["id"], 64),
            "app_id": text(listed["app"]["id"]),
            "function_id": text(listed["function"]["id"]),
            "function_name": optional(listed["function"].get("name")),
            "status": status,
            "event_id": optional(event_ids[0]),
            "queued_at": _time(listed.get("queuedAt")),
            "started_at": _time(listed.get("startedAt")),
            "ended_at": ended_at,
            "confirmed_at": asked_at,
        },
        asked_at,
    )


def _step(hashed_id: str, span: Mapping[str, Any]) -> StepFacts:
    status = _STEP_STATUSES.get(span.get("status", ""), "Running")
    ended = _time(span.get("endedAt")) if status in ("Completed", "Failed") else None
    return StepFacts(
        hashed_id,
        status,
        step_id=span.get("name"),
        op=_OPS.get(span.get("stepOp", "")),
        started_at=_time(span.get("startedAt")),
        ended_at=ended,
    )


def _time(value: Any) -> dt.datetime | None:
    seconds = parse_timestamp(value) if isinstance(value, str) else None
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, tz=dt.timezone.utc)


async def known_runs(
    connection: AsyncConnection, app_id: str, oldest: dt.datetime
) -> dict[str, sa.RowMapping]:
    """Return the mirror's runs to compare, by id: the open and the recent ones."""
    query = sa.select(runs.c.run_id, runs.c.status, runs.c.seen_at, runs.c.confirmed_at).where(
        runs.c.app_id == text(app_id),
        sa.or_(runs.c.status.in_(OPEN), runs.c.queued_at >= oldest),
    )
    return {row["run_id"]: row for row in (await connection.execute(query)).mappings()}


async def runs_with_open_steps(connection: AsyncConnection, app_id: str) -> set[str]:
    """Return the runs that the engine has not confirmed and of which a step has not ended."""
    query = (
        sa.select(runs.c.run_id)
        .join(steps, steps.c.run_id == runs.c.run_id)
        .where(
            runs.c.app_id == text(app_id),
            runs.c.confirmed_at.is_(None),
            steps.c.status.not_in(("Completed", "Failed")),
        )
        .distinct()
    )
    return set((await connection.execute(query)).scalars())


async def write_confirmed(
    connection: AsyncConnection, run: EngineRun, found: list[StepFacts]
) -> None:
    """Write what the engine knows of a run.

    The engine's word replaces what requests wrote, unless the run ended after the query.
    """
    insert = insert_into(connection, runs)
    new = insert.excluded
    is_overtaken = runs.c.seen_at >= run.asked_at
    changes: dict[str, Any] = {
        name: sa.func.coalesce(new[name], runs.c[name])
        for name in ("function_name", "event_id", "queued_at", "started_at")
    }
    if run.row["status"] in OPEN:
        changes |= {
            name: sa.case((is_overtaken, runs.c[name]), else_=new[name])
            for name in ("status", "ended_at")
        }
    else:
        # The server's list may leave out when a run ended.
        changes |= {
            "status": new.status,
            "ended_at": sa.func.coalesce(new.ended_at, runs.c.ended_at),
        }
    changes["confirmed_at"] = new.confirmed_at
    if run.row["status"] in ("Completed", "Cancelled"):
        changes |= {"error_class": None, "error_message": None}
    await connection.execute(
        insert.on_conflict_do_update(index_elements=["run_id"], set_=changes), run.row
    )
    await write_steps(connection, run.row["run_id"], found)


async def mark_lost(connection: AsyncConnection, run_ids: list[str], now: dt.datetime) -> None:
    """Mark open runs that the engine does not know as lost."""
    await connection.execute(
        sa.update(runs)
        .where(runs.c.run_id.in_(run_ids), runs.c.status.in_(OPEN))
        .values(status="Lost", confirmed_at=now)
    )
