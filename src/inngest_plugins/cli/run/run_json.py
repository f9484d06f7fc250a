"""A run as JSON: what ``inngest-plugins run --json`` prints."""

from __future__ import annotations

import typing

from inngest_plugins.local.report.bodies import request_bodies

if typing.TYPE_CHECKING:
    from inngest_plugins.local import StepRecord
    from inngest_plugins.local.report.story_model import Mark, RequestRow, RunStory, Story

Json = typing.Any


def story_to_json(story: Story, *, values: bool) -> dict[str, Json]:
    """Make the document.

    Each event and memo is in it once, with its run and its step. Requests refer to them, as
    `request_bodies` describes.

    Args:
        story: The runs.
        values: Whether outputs, errors' messages, event data and step values are in it.
    """
    return {
        "ok": all(run.run.status == "Completed" for run in story.runs),
        "runs": [_run(run, values=values) for run in story.runs],
    }


def _run(story: RunStory, *, values: bool) -> dict[str, Json]:
    run = story.run
    return {
        "id": run.id,
        "function_id": run.function_id,
        "status": run.status,
        **(
            {"reason": run.reason, "output": run.output, "metadata": run.metadata} if values else {}
        ),
        "error": _error(run.error, values=values),
        "cause": story.cause,
        "parent_run_id": run.parent_run_id,
        "queued_at": run.queued_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "retries": story.retries,
        "events": [_event(event, values=values) for event in run.events],
        "events_sent": [_event(event, values=values) for event in run.events_sent],
        "steps": [_step(step, values=values) for step in story.steps.values()],
        "deferred": [
            {
                "id": each.id,
                "hashed_id": each.hashed_id,
                "function_id": each.function_id,
                "status": each.status,
                "run_ids": list(each.run_ids),
                **({"input": each.input} if values else {}),
            }
            for each in run.deferred.values()
        ],
        "requests": [
            {**_request(row, values=values), **({"request": body} if values else {})}
            for row, body in zip(story.requests, request_bodies(story), strict=True)
        ],
        "hooks": [
            {
                "plugin": total.plugin,
                "calls": dict(total.counts),
                "duration": total.duration,
                "errors": total.errors,
            }
            for total in story.hooks
        ],
    }


def _event(event: dict[str, Json], *, values: bool) -> dict[str, Json]:
    return event if values else {key: event[key] for key in ("id", "name", "ts") if key in event}


def _error(error: dict[str, Json] | None, *, values: bool) -> dict[str, Json] | None:
    return error if values or error is None else {"name": error.get("name")}


def _step(step: StepRecord, *, values: bool) -> dict[str, Json]:
    return {
        "key": step.key,
        "id": step.id,
        "hashed_id": step.hashed_id,
        "op": step.op,
        "status": step.status,
        "attempts": step.attempts,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "errors": [_error(error, values=values) for error in step.errors],
        "invoked_run_id": step.invoked_run_id,
        **({"memo": step.memo} if values else {}),
    }


def _request(row: RequestRow, *, values: bool) -> dict[str, Json]:
    record = row.record
    return {
        "number": record.number,
        "attempt": record.attempt,
        "target": row.target,
        "status": record.status,
        "started_at": record.started_at,
        "duration": record.duration,
        "marks": [_mark(mark, values=values) for mark in row.marks],
        "hooks": [
            {
                "plugin": hook.plugin,
                "hook": hook.hook,
                "calls": hook.count,
                "offset": hook.offset,
                "duration": hook.duration,
                "errors": hook.errors,
                "error": hook.error,
            }
            for hook in row.hooks
        ],
        **({"response": record.response} if values else {}),
    }


def _mark(mark: Mark, *, values: bool) -> dict[str, Json]:
    entry = {"step": mark.step, "kind": mark.kind, "text": mark.text}
    return {**entry, "message": mark.message} if values and mark.message else entry
