"""The facts about a run's steps and requests, as immutable snapshots.

Times are seconds since the Unix epoch as the engine's clock saw them (with a virtual clock they
run ahead of the wall clock by the time that was jumped over).
"""

from __future__ import annotations

import dataclasses
import json
import typing
import urllib.parse

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

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
        failure: Why there was no usable answer (crash of the app, not JSON, too slow), else None.
    """

    number: int
    query: Mapping[str, str]
    request_headers: Mapping[str, str]
    response_headers: Mapping[str, str]
    status: int
    started_at: float
    ended_at: float | None
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
        checkpointed: Whether its result came by a checkpoint, while its request went on.
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
    checkpointed: bool = False

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


DeferStatus = typing.Literal["AfterRun", "Started", "Aborted", "Rejected"]
"""The life of what a run deferred.

``AfterRun``: starts when the run has ended. ``Started``: it has. ``Aborted``: the run took it back.
``Rejected``: malformed, or beyond a limit (the run itself goes on, as on the server).
"""


@dataclasses.dataclass(frozen=True)
class DeferRecord:
    """One deferred function of a run, as the engine knows it.

    Attributes:
        id: The id as the user wrote it.
        hashed_id: The engine's id, 40 hex digits.
        function_id: The full id of the function that starts when the run has ended.
        status: See `DeferStatus`.
        input: What it is called with, as stored; None when it was aborted or rejected.
        run_ids: The runs that it started; empty before the end of the run.
    """

    id: str
    hashed_id: str
    function_id: str
    status: DeferStatus
    input: Json
    run_ids: tuple[str, ...]
