"""What a run looks like from outside: read-only views for people, tests and tools.

The engine writes to its own state (``_state.py``); the classes here only show it. A `Run` is
live: read it again after awaiting something and it shows the newer state. Everything it returns
(`StepRecord`, `RequestRecord`, `TimelineEntry`) is an immutable snapshot.

Times are seconds since the Unix epoch as the engine's clock saw them (with a virtual clock they
run ahead of the wall clock by the time that was jumped over).
"""

from __future__ import annotations

import dataclasses
import json
import typing
import urllib.parse

if typing.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._state import RunState

Json = typing.Any
"""A decoded JSON value: dict, list, str, int, float, bool or None."""

RunStatus = typing.Literal["Queued", "Running", "Completed", "Failed", "Cancelled", "TimedOut"]
"""The life of a run. The first two are open, the other four are final.

``Cancelled`` covers the cancel event, the API and the function's own ``timeouts=``; ``TimedOut``
means that the caller's ``timeout=`` ended it. `Run.reason` always says which and why.
"""

StepStatus = typing.Literal[
    "Planned",
    "Retrying",
    "Sleeping",
    "Waiting",
    "Invoking",
    "Completed",
    "Failed",
    "TimedOut",
]
"""The life of a step. The last three are final (the step has a memo).

``Planned``: announced by a parallel group, its own request is still to come. ``Retrying``: failed
at least once, another attempt is queued. ``TimedOut``: a wait or an invoke that got no answer in
time (the memo of a wait is then ``null``, that of an invoke an error).
"""


@dataclasses.dataclass(frozen=True)
class HookTiming:
    """How long one plugin hook took inside one request.

    Attributes:
        plugin: Name of the plugin.
        hook: Name of the hook, for example ``"transform_input"``.
        started_at: Seconds since the epoch.
        duration: Seconds.
    """

    plugin: str
    hook: str
    started_at: float
    duration: float


@dataclasses.dataclass(frozen=True)
class RequestRecord:
    """One call of the app by the engine: the wire, both ways.

    Attributes:
        number: Position in the run, from 0.
        query: The URL's query: ``fnId`` and ``stepId`` (``"step"`` or the targeted hash).
        request_headers: Headers as sent, names in lower case.
        response_headers: Headers as received, names in lower case. For a streamed answer (201)
            these are the inner ones, which are the ones that count.
        status: HTTP status (the inner one for a streamed answer); 0 when there was no answer.
        started_at: When the request left.
        ended_at: When the answer was complete; None while it is in flight.
        hooks: Timings of plugin hooks, when the app's stack reported them to the engine
            (`LocalEngine.record_hooks`); empty otherwise.
        failure: Why there was no usable answer (crash of the app, not JSON, too slow), else None.
    """

    number: int
    query: Mapping[str, str]
    request_headers: Mapping[str, str]
    response_headers: Mapping[str, str]
    status: int
    started_at: float
    ended_at: float | None
    hooks: tuple[HookTiming, ...]
    failure: str | None
    request_bytes: bytes
    response_bytes: bytes

    @property
    def request(self) -> Json:
        """The body as sent, decoded."""
        return json.loads(self.request_bytes)

    @property
    def response(self) -> Json:
        """The body as received, decoded; a string when it was not JSON, None when empty."""
        if not self.response_bytes:
            return None
        try:
            return json.loads(self.response_bytes)
        except ValueError:
            return self.response_bytes.decode("utf-8", "replace")

    @property
    def ops(self) -> list[dict[str, Json]]:
        """The step ops that the answer reported: empty unless the status is 206."""
        response = self.response if self.status == 206 else None
        return response if isinstance(response, list) else []

    @property
    def attempt(self) -> int:
        """The attempt of the queue job that this request belongs to, from 0."""
        return int(self.request["ctx"]["attempt"])

    @property
    def target(self) -> str | None:
        """The hash of the step that the request targets; None for a discovery request."""
        step_id = self.query.get("stepId")
        return None if step_id in (None, "step") else step_id

    @property
    def duration(self) -> float | None:
        """Seconds from sending to the complete answer; None while in flight."""
        return None if self.ended_at is None else self.ended_at - self.started_at

    @property
    def server_timing(self) -> dict[str, float]:
        """The SDK's own phases from its ``server-timing`` header, in seconds by phase name."""
        timings: dict[str, float] = {}
        for part in self.response_headers.get("server-timing", "").split(","):
            name, _, rest = part.strip().partition(";dur=")
            try:
                timings[name] = float(rest) / 1000
            except ValueError:
                continue
        return timings

    def __str__(self) -> str:
        query = urllib.parse.urlencode(dict(self.query))
        return f"#{self.number} POST ?{query} attempt {self.attempt} -> {self.status}"


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """One step of a run, as the engine knows it.

    Attributes:
        key: The key in `Run.steps`: the user's id, or ``"id:1"``, ``"id:2"``... for the second,
            third... use of the same id.
        id: The id as the user wrote it.
        index: 0 for the first use of the id, 1 for the second...
        hashed_id: The engine's id of the step, 40 hex digits (SHA-1 of `key`).
        op: ``StepRun``, ``Sleep``, ``WaitForEvent``, ``InvokeFunction``, ``AIGateway``, or
            ``StepPlanned`` while its own request is still to come.
        status: See `StepStatus`.
        attempts: How often its code was run (1 for steps that have no code).
        started_at: When the engine first heard of it.
        ended_at: When its memo was saved; None before.
        memo: The memo exactly as stored and sent back to the app (``{"data": ...}``,
            ``{"error": ...}``, a bare event, or None); None as well while there is no memo.
        errors: The error of every failed attempt, oldest first.
        opts: What the op asked for: sleep date, event and ``if``, invoke payload...
        invoked_run_id: The run that an invoke step started, if any.
    """

    key: str
    id: str
    index: int
    hashed_id: str
    op: str
    status: StepStatus
    attempts: int
    started_at: float
    ended_at: float | None
    memo: Json
    errors: tuple[Json, ...]
    opts: Json
    invoked_run_id: str | None

    @property
    def value(self) -> Json:
        """The stored value: the data inside the memo, or the memo when it has no envelope."""
        if isinstance(self.memo, dict) and self.memo.keys() <= {"data", "error"} and self.memo:
            return self.memo.get("data")
        return self.memo

    @property
    def error(self) -> Json:
        """The stored error (``name``, ``message``, ``stack``) of a failed step, else None."""
        if self.status in ("Failed", "TimedOut") and isinstance(self.memo, dict):
            return self.memo.get("error")
        return None


@dataclasses.dataclass(frozen=True)
class TimelineEntry:
    """One line of a run's story.

    Attributes:
        at: When, in seconds since the epoch.
        offset: Seconds since the run was created.
        kind: ``event``, ``request``, ``step``, ``sent`` (an event that the run sent), ``end``.
        label: What happened, in a few words.
        duration: Seconds, for things that last.
        detail: More words, possibly empty. Never contains payload values.
        depth: Indentation: steps sit below the request that reported them.
        failed: Whether the line reports a failure.
    """

    at: float
    offset: float
    kind: typing.Literal["event", "request", "step", "sent", "end"]
    label: str
    duration: float | None = None
    detail: str = ""
    depth: int = 0
    failed: bool = False

    def __str__(self) -> str:
        mark = "x" if self.failed else "-"
        lasted = "" if self.duration is None else f" ({_seconds(self.duration)})"
        detail = f"  {self.detail}" if self.detail else ""
        return f"{_seconds(self.offset):>9} {'  ' * self.depth}{mark} {self.label}{lasted}{detail}"


class Timeline(tuple[TimelineEntry, ...]):
    """The lines of a run's story in order; ``str()`` renders them for a terminal."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(str(entry) for entry in self)


class Run:
    """A run of a function: a live, read-only view.

    Two views of the same run are equal.
    """

    __slots__ = ("_state",)

    def __init__(self, state: RunState) -> None:
        self._state = state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.function_id}: {self.status}>"

    @property
    def id(self) -> str:
        """The run's ULID."""
        return self._state.id

    @property
    def function_id(self) -> str:
        """The full id of the function, ``"<app>-<function>"`` (``...-failure`` for on_failure)."""
        return self._state.function_id

    @property
    def status(self) -> RunStatus:
        """See `RunStatus`."""
        return self._state.status

    @property
    def reason(self) -> str:
        """Why the run has its status, in a sentence; empty when there is nothing to add."""
        return self._state.reason

    @property
    def is_ended(self) -> bool:
        """Whether the status is final."""
        return self._state.status not in ("Queued", "Running")

    @property
    def output(self) -> Json:
        """What the function returned, as JSON; None unless the run is Completed."""
        return self._state.output

    @property
    def error(self) -> dict[str, Json] | None:
        """The error of a run that did not complete: ``name``, ``message``, ``stack``, ``code``."""
        return self._state.error

    @property
    def events(self) -> list[dict[str, Json]]:
        """The events that started the run, as the app receives them (several for a batch)."""
        return [json.loads(event) for event in self._state.events]

    @property
    def events_sent(self) -> list[dict[str, Json]]:
        """The events that this run's code sent, in order, as the engine received them.

        An event counts for the run whose code called ``step.send_event`` or ``client.send``; the
        engine's own events (``inngest/function.*``) are not here.
        """
        return [json.loads(event) for event in self._state.events_sent]

    @property
    def steps(self) -> dict[str, StepRecord]:
        """Every step the engine heard of, in that order, keyed by the user's step id.

        The second use of an id has the key ``"id:1"``, the third ``"id:2"`` and so on.
        """
        records = (step.record() for step in self._state.steps.values())
        return {record.key: record for record in records}

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """Every call of the app for this run, in the order in which they left."""
        return [request.record() for request in self._state.requests]

    @property
    def queued_at(self) -> float:
        """When the run was created."""
        return self._state.queued_at

    @property
    def started_at(self) -> float | None:
        """When the first request left; None before."""
        return self._state.started_at

    @property
    def ended_at(self) -> float | None:
        """When the run ended; None before."""
        return self._state.ended_at

    @property
    def parent_run_id(self) -> str | None:
        """The run that invoked this one, if any."""
        return self._state.parent[0] if self._state.parent else None

    @property
    def parent_step(self) -> str | None:
        """The hashed id of the step that invoked this run, if any."""
        return self._state.parent[1] if self._state.parent else None

    @property
    def metadata(self) -> dict[str, dict[str, dict[str, Json]]]:
        """What ``POST /v1/runs/{id}/metadata`` stored: values by target, then by kind.

        The target is ``"run"``, or the key of a step as in `steps`, or ``"<step>@<attempt>"``
        when the update named an attempt.
        """
        return {
            target: {kind: dict(values) for kind, values in kinds.items()}
            for target, kinds in self._state.metadata.items()
        }

    def timeline(self) -> Timeline:
        """The run's story for people: events in, requests, steps, events out, the end."""
        sent = [(self._state.sent_at[event["id"]], event["name"]) for event in self.events_sent]
        return _timeline(self, sent)


def _timeline(run: Run, sent: Sequence[tuple[float, str]]) -> Timeline:
    zero = run.queued_at
    entries: list[TimelineEntry] = []

    def add(at: float, kind: typing.Any, label: str, **more: typing.Any) -> None:
        entries.append(TimelineEntry(at=at, offset=at - zero, kind=kind, label=label, **more))

    names = ", ".join(dict.fromkeys(event["name"] for event in run.events))
    add(zero, "event", f"event {names}", detail=f"starts {run.function_id}")
    reported: set[str] = set()
    steps = {step.hashed_id: step for step in run.steps.values()}
    for request in run.requests:
        attempt = f", attempt {request.attempt + 1}" if request.attempt else ""
        target = steps.get(request.target or "")
        add(
            request.started_at,
            "request",
            f"request {request.number + 1}{attempt}: HTTP {request.status or '...'}",
            duration=request.duration,
            detail=request.failure or (f"targets {target.key}" if target else ""),
            failed=request.status >= 400 or request.failure is not None,
        )
        for op in request.ops:
            step = steps.get(str(op.get("id")))
            if step is None or step.hashed_id in reported:
                continue
            if op.get("op") in ("StepError", "StepFailed"):
                failure = op.get("error") or {}
                label = f"step {step.key} failed: {failure.get('name', 'error')}"
                add(
                    request.ended_at or request.started_at,
                    "step",
                    label,
                    depth=1,
                    failed=True,
                )
            elif op.get("op") != "StepPlanned":
                reported.add(step.hashed_id)
                waited = step.op in (
                    "Sleep",
                    "WaitForEvent",
                    "InvokeFunction",
                    "AIGateway",
                )
                lasted = step.ended_at - step.started_at if waited and step.ended_at else None
                add(
                    request.ended_at or request.started_at,
                    "step",
                    f"step {step.key}",
                    duration=lasted,
                    detail=f"{step.op} {step.status}" if waited else "",
                    depth=1,
                    failed=step.status == "Failed",
                )
    for at, name in sent:
        add(at, "sent", f"sends {name}", depth=1)
    if run.ended_at is not None:
        label = f"{run.status}" + (f": {run.reason}" if run.reason else "")
        add(run.ended_at, "end", label, failed=run.status != "Completed")
    entries.sort(key=lambda entry: entry.at)
    return Timeline(entries)


def _seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"
