"""Runs as people, tests and tools see them: as the engine stores them, and opened.

The engine writes to its own state (`journal.state`); the classes here only show it. A view is live:
read it again after awaiting something and it shows the newer state. Everything it returns is an
immutable snapshot.
"""

from __future__ import annotations

import dataclasses
import json
import typing

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from inngest_plugins.local.journal.records import (
        DeferRecord,
        Json,
        RequestRecord,
        RunStatus,
        StepRecord,
    )
    from inngest_plugins.local.journal.state import RunState

    from .opener import OpenerOfRun


class RunView:
    """A run as the engine stores it: a live, read-only view.

    Two views of the same run are equal.

    Args:
        state: The engine's own record of it.
    """

    __slots__ = ("_state",)

    def __init__(self, state: RunState) -> None:
        self._state = state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunView) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.function_id}: {self.status}>"

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

    def sent_at(self, event: dict[str, Json]) -> float:
        """When the engine received an event of `events_sent`."""
        return self._state.sent_at[event["id"]]

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
    def deferred(self) -> dict[str, DeferRecord]:
        """What the run deferred to its end, keyed by the user's id."""
        records = (deferred.record() for deferred in self._state.defers.values())
        return {record.id: record for record in records}

    @property
    def is_deferred(self) -> bool:
        """Whether another run deferred this one: `parent_run_id` is that run's."""
        return self._carrier is not None

    @property
    def _carrier(self) -> dict[str, Json] | None:
        event = json.loads(self._state.events[0])
        if event["name"] != "inngest/deferred.schedule":
            return None
        carrier: dict[str, Json] = event["data"]["_inngest"]
        return carrier

    @property
    def parent_run_id(self) -> str | None:
        """The run that invoked or deferred this one, if any."""
        if self._state.parent:
            return self._state.parent[0]
        carrier = self._carrier
        return None if carrier is None else str(carrier["parent_run_id"])

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


class OpenedRun(RunView):
    """A run as its code knows it: what the app's plugins sealed is opened.

    Shows what the function returned and raised, with tracebacks, the events, steps and answers.
    The body of a request (`RequestRecord.request`) stays as it was sent: the events and memos in
    it are those of `events` and `steps`.

    Args:
        state: The engine's own record of it.
        opener: Opens its values.
    """

    __slots__ = ("_opener",)

    def __init__(self, state: RunState, opener: OpenerOfRun) -> None:
        super().__init__(state)
        self._opener = opener

    @property
    def reason(self) -> str:
        """See `RunView.reason`."""
        stored = super().error or {}
        sealed, opened = stored.get("message"), (self.error or {}).get("message")
        if not sealed or sealed == opened:
            return super().reason
        return super().reason.replace(str(sealed), str(opened))

    @property
    def output(self) -> Json:
        """See `RunView.output`."""
        return self._opener.output(super().output)

    @property
    def error(self) -> dict[str, Json] | None:
        """See `RunView.error`."""
        stored = super().error
        return None if stored is None else self._opener.error(stored)

    @property
    def events(self) -> list[dict[str, Json]]:
        """See `RunView.events`."""
        return [self._opener.event(event) for event in super().events]

    @property
    def events_sent(self) -> list[dict[str, Json]]:
        """See `RunView.events_sent`."""
        return [self._opener.event(event) for event in super().events_sent]

    @property
    def steps(self) -> dict[str, StepRecord]:
        """See `RunView.steps`."""
        return {key: self._step(step) for key, step in super().steps.items()}

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """See `RunView.requests`."""
        return [self._request(record) for record in super().requests]

    @property
    def deferred(self) -> dict[str, DeferRecord]:
        """See `RunView.deferred`."""
        return {
            key: dataclasses.replace(record, input=self._opener.input(record.input))
            for key, record in super().deferred.items()
        }

    def _step(self, step: StepRecord) -> StepRecord:
        opener, hashed_id = self._opener, step.hashed_id
        return dataclasses.replace(
            step,
            memo=opener.memo(step.memo, hashed_id),
            errors=tuple(opener.error(error, hashed_id) for error in step.errors),
            opts=opener.options(step.opts),
        )

    def _request(self, record: RequestRecord) -> RequestRecord:
        body = record.response
        opened = self._opener.answer(body, record.status)
        if opened == body:
            return record
        return dataclasses.replace(record, response_bytes=json.dumps(opened).encode())
