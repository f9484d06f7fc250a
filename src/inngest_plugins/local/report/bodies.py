"""Request bodies with each event and memo by reference: the wire repeats them in every request."""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from inngest_plugins.local.journal.records import Json

    from .story_model import RunStory


def request_bodies(story: RunStory) -> list[dict[str, Json]]:
    """Return the bodies of a run's requests, in order, without what stands elsewhere in a report.

    A run of n steps sends n * n / 2 memos, since each request carries all memos so far. Here

    - ``event`` and ``events`` hold ids alone: the events stand with the run;
    - ``steps`` is ``{"repeated": 2, "new": ["charge"]}``: how many memos an earlier request carried
      already, and the keys of the steps whose memos are new. The memos stand with the steps;
    - ``ctx.stack.stack`` lacks the hashes of the request before, which ``repeated`` counts.

    Args:
        story: The run.
    """
    keys = {step.hashed_id: key for key, step in story.steps.items()}
    known: set[str] = set()
    stack: list[Json] = []
    bodies: list[dict[str, Json]] = []
    for row in story.requests:
        body = dict(row.record.request)
        memos: dict[str, Json] = body.get("steps") or {}
        new = [hashed_id for hashed_id in memos if hashed_id not in known]
        known.update(new)
        body["steps"] = {
            "repeated": len(memos) - len(new),
            "new": [keys.get(hashed_id, hashed_id) for hashed_id in new],
        }
        body["ctx"], stack = _context(body["ctx"], stack)
        if "event" in body:
            body["event"] = _reference(body["event"])
        if isinstance(body.get("events"), list):
            body["events"] = [_reference(event) for event in body["events"]]
        bodies.append(body)
    return bodies


def _context(context: dict[str, Json], before: list[Json]) -> tuple[dict[str, Json], list[Json]]:
    """The context without the part of its stack that the request before had, and its stack."""
    stack: dict[str, Json] = context.get("stack") or {}
    hashes: list[Json] = stack.get("stack") or []
    repeated = len(before) if hashes[: len(before)] == before else 0
    short = {**stack, "repeated": repeated, "stack": hashes[repeated:]}
    return {**context, "stack": short}, hashes


def _reference(event: Json) -> Json:
    return {"id": event["id"]} if isinstance(event, dict) and "id" in event else event
