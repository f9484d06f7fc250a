"""The events that the engine sends when a run has ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState
from inngest_plugins.local.wire.protocol import (
    Failure,
    canonical,
    reported_result,
    standard_error,
)

_QUIET = ("inngest/function.failed", "inngest/function.finished")


def lifecycle_events(
    run: RunState, failure: Failure | None, new_id: Callable[[], str]
) -> Iterator[dict[str, Json]]:
    """The events of a run's end: finished, then failed or cancelled.

    One set for the run's first event, and one for every event that invoked it. Runs that were
    started by such events themselves end quietly.
    """
    label = "Cancelled" if run.status == "TimedOut" else run.status
    events: list[dict[str, Json]] = [json.loads(event) for event in run.events]
    plain = [
        {key: value for key, value in event.items() if key != "user" or value} for event in events
    ]
    for position, event in enumerate(events):
        if event["name"] in _QUIET:
            continue
        envelope = (event["data"] or {}).get("_inngest")
        correlation_id = envelope.get("correlation_id") if isinstance(envelope, dict) else None
        if correlation_id is None and position > 0:
            continue
        data: dict[str, Json] = {
            "_inngest": {"status": label},
            "event": {**event, "data": event["data"] or {}},
            "events": plain,
            "function_id": run.function_id,
            "run_id": run.id,
        }
        if correlation_id is not None:
            data["correlation_id"] = correlation_id
        if run.status == "Completed":
            data["result"] = _json_or_text(run.output)
        elif failure is not None:
            data["error"] = standard_error(failure)
            if not failure.is_without_result:
                data["result"] = reported_result(failure)
        common = {"data": data, "ts": int((run.ended_at or 0) * 1000), "user": {}}
        yield {"name": "inngest/function.finished", "id": new_id(), **common}
        if label != "Completed":
            yield {"name": f"inngest/function.{label.lower()}", "id": run.id, **common}


def _json_or_text(output: Json) -> Json:
    # A function may return NaN, which the SDK sends and no JSON document can hold.
    try:
        canonical(output)
    except ValueError:
        return json.dumps(output)
    return output
