"""Checks the events of a request before the function sees them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import inngest

from inngest_plugins.core import Call, CallKey
from inngest_plugins.validation.events.payloads import FAILED, INVOKED, PARSED, Parsed, ParsedEvents
from inngest_plugins.validation.schemas.schema import (
    Rejection,
    ValidationFailed,
    Violation,
    failure_of,
    pointer_to,
)

from .contracts import Contracts, Verdict

OnInvalid = Literal["fail", "drop"]
FunctionById = Callable[[str], "inngest.Function[Any] | None"]

_logger = logging.getLogger("inngest_plugins.validation")


@dataclass(frozen=True)
class DroppedEvent:
    """An event of a batch that broke its schema and was left out."""

    id: str
    name: str
    errors: tuple[Violation, ...]


_DROPPED = CallKey[tuple[DroppedEvent, ...]]("validation.dropped")


def dropped_events() -> tuple[DroppedEvent, ...]:
    """The events that `on_invalid="drop"` left out of the batch of the current run.

    The same on every replay. Empty outside a run.
    """
    call = Call.current()
    return () if call is None else call.get(_DROPPED, ())


class Incoming:
    """Checks incoming events against their contracts.

    Args:
        contracts: The contracts.
        on_invalid: What to do with a bad event of a batch.
        function_by_id: Finds a function of the app by the engine's id.
    """

    def __init__(
        self, contracts: Contracts, on_invalid: OnInvalid, function_by_id: FunctionById
    ) -> None:
        self._contracts = contracts
        self._on_invalid: OnInvalid = on_invalid
        self._function_by_id = function_by_id

    def admit(self, call: Call) -> None:
        """Check the events of a request; replace what is coerced, leave out what is dropped.

        Raises:
            ValidationFailed: An event breaks its schema, and is not dropped.
        """
        parsed = call[PARSED] = ParsedEvents()
        first = call.event
        events = call.events
        admitted: list[inngest.Event] = []
        rejected: list[tuple[int | None, str, Rejection]] = []
        leading: inngest.Event | None = None
        leading_is_bad = False
        for index, event in enumerate(events):
            same = leading is None and not leading_is_bad and _same(event, first)
            try:
                self._admit_one(call, event, parsed)
            except Rejection as found:
                place = index if len(events) > 1 else None
                rejected.append((place, f"event {event.name}", found))
                leading_is_bad = leading_is_bad or same
            else:
                admitted.append(event)
                leading = event if same else leading
        if leading is None and not leading_is_bad:
            # The engine sends the first event twice; were it another one, it is checked as well.
            try:
                self._admit_one(call, first, parsed)
            except Rejection as found:
                rejected.append((None, f"event {first.name}", found))
                leading_is_bad = True
        if rejected and (self._on_invalid == "fail" or not admitted):
            raise failure_of(rejected, "incoming")
        if leading is not None:
            first.data = leading.data
        elif leading_is_bad:
            call.event = admitted[0].model_copy()
        if rejected:
            call.events = admitted
            self._report(call, events, rejected)

    def _admit_one(self, call: Call, event: inngest.Event, parsed: ParsedEvents) -> None:
        if event.name == FAILED:
            self._admit_failed(call, event)
            return
        verdict = self._verdict(call, event.name, event.data, call.function)
        if verdict.passed_on is not event.data:
            event.data = verdict.passed_on
        if verdict.schema is not None:
            parsed.add(Parsed(event, event.data, verdict.schema, verdict.parsed))

    def _verdict(
        self,
        call: Call,
        name: str,
        data: Mapping[str, Any],
        function: inngest.Function[Any] | None,
    ) -> Verdict:
        mask_keys = call.stack.secret_payloads
        if name == INVOKED:
            if function is None:
                return Verdict(None, data, data)
            return self._contracts.check_invoked(function, data, mask_keys=mask_keys)
        return self._contracts.check_event(name, data, mask_keys=mask_keys)

    def _admit_failed(self, call: Call, event: inngest.Event) -> None:
        """Check what `inngest/function.failed` carries: the events of the run that failed."""
        data = dict(event.data)
        function = self._function_by_id(str(data.get("function_id", "")))
        kept: list[Any] = []
        rejections: list[Rejection] = []
        found_events = data.get("events")
        events: list[Any] = found_events if isinstance(found_events, list) else []
        for index, inner in enumerate(events):
            try:
                kept.append(self._inner(call, inner, ("events", index), function))
            except Rejection as found:  # noqa: PERF203
                rejections.append(found)
        if rejections and (self._on_invalid == "fail" or not kept):
            raise _merged(rejections)
        if kept:
            data["events"] = kept
        if isinstance(data.get("event"), Mapping):
            try:
                data["event"] = self._inner(call, data["event"], ("event",), function)
            except Rejection:
                if self._on_invalid == "fail" or not kept:
                    raise
                data["event"] = kept[0]
        if self._contracts.coerce or rejections:
            event.data = data

    def _inner(
        self,
        call: Call,
        inner: Any,
        path: Sequence[str | int],
        function: inngest.Function[Any] | None,
    ) -> Any:
        if not isinstance(inner, Mapping):
            return inner
        fields = cast("Mapping[str, Any]", inner)
        name, data = fields.get("name"), fields.get("data") or {}
        if not isinstance(name, str) or not isinstance(data, Mapping):
            return fields
        try:
            verdict = self._verdict(call, name, cast("Mapping[str, Any]", data), function)
        except Rejection as found:
            rejection = found.below(pointer_to((*path, "data")))
        else:
            if verdict.passed_on is data:
                return fields
            return {**fields, "data": verdict.passed_on}
        raise rejection

    def receive(self, call: Call, event: inngest.Event) -> None:
        """Check the event that `wait_for_event` is about to return; replace what is coerced.

        Raises:
            ValidationFailed: It breaks its schema.
        """
        try:
            self._admit_one(call, event, call[PARSED])
        except Rejection as found:
            rejection = found
        else:
            return
        raise rejection.failure(f"event {event.name} (awaited)", "incoming")

    def _report(
        self,
        call: Call,
        events: Sequence[inngest.Event],
        rejected: Sequence[tuple[int | None, str, Rejection]],
    ) -> None:
        dropped: list[DroppedEvent] = []
        for index, subject, rejection in rejected:
            event = call.event if index is None else events[index]
            errors = rejection.addressed(subject, index=index)
            dropped.append(DroppedEvent(event.id, event.name, errors))
        call[_DROPPED] = tuple(dropped)
        if call.memo_count == 0 and call.attempt == 0 and call.target is None:
            # On the run's first request alone: every later one would repeat it.
            for each in dropped:
                failure = ValidationFailed(each.errors, direction="incoming")
                _logger.warning(
                    "dropped event %s from the batch of run %s of function %s: %s",
                    each.id,
                    call.run_id,
                    call.function_id,
                    failure,
                )


def _same(event: inngest.Event, other: inngest.Event) -> bool:
    return event is other or (
        event.id == other.id and event.name == other.name and event.data == other.data
    )


def _merged(rejections: Sequence[Rejection]) -> Rejection:
    violations = [each for rejection in rejections for each in rejection.violations]
    return Rejection(violations, omitted=sum(each.omitted for each in rejections))
