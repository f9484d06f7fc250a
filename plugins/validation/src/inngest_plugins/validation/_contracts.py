"""One value held to its schema, in the ways the plugin's options ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import inngest

from ._compiled import CompiledSchema
from ._event_names import ENGINE_PREFIX, INVOKED
from ._parsed import ENGINE_KEYS, payload_of
from ._registry import SchemaRegistry
from ._violations import Rejection


class Verdict(NamedTuple):
    """A value that passed. A tuple, for it is made once an event."""

    schema: CompiledSchema[Any] | None
    """The schema it satisfied; None where there is none for it."""

    parsed: Any
    """The value as the schema's type."""

    handed_on: Any
    """What goes on: the very value, or its coerced form."""


@dataclass(frozen=True)
class Contracts:
    """The schemas of events and how they are applied."""

    registry: SchemaRegistry
    require_schema: bool
    coerce: bool

    def check(
        self, value: Any, schemas: Sequence[CompiledSchema[Any]], *, mask_keys: bool
    ) -> Verdict:
        """Hold a value to one of several schemas.

        Raises:
            Rejection: It satisfies none; the verdict of the schema that came closest.
        """
        closest: Rejection | None = None
        for schema in schemas:
            try:
                parsed = schema.parse(value, mask_keys=mask_keys)
                if self.coerce and schema.coerces:
                    return Verdict(
                        schema, parsed, self._dumped(schema, parsed, mask_keys=mask_keys)
                    )
            except Rejection as found:  # noqa: PERF203
                if closest is None or _count(found) < _count(closest):
                    closest = found
            else:
                return Verdict(schema, parsed, value)
        if closest is not None:
            raise closest
        if self.require_schema:
            raise Rejection.of("schema", "a registered schema (require_schema is set)")
        return Verdict(None, value, value)

    def _dumped(self, schema: CompiledSchema[Any], parsed: Any, *, mask_keys: bool) -> Any:
        dumped = schema.dump(parsed)
        # A model whose JSON form it would not accept itself (other names on the way out) would
        # hand on what the next one to validate refuses.
        schema.parse(dumped, mask_keys=mask_keys)
        return dumped

    def check_event(self, name: str, data: Mapping[str, Any], *, mask_keys: bool) -> Verdict:
        """Hold an event's data to the schema of its name. The engine's own events pass.

        Raises:
            Rejection: It breaks the schema, or has none and needs one.
        """
        if name.startswith(ENGINE_PREFIX):
            return Verdict(None, data, data)
        schema = self.registry.find(name)
        if schema is None or self.coerce:
            return self.check(data, () if schema is None else (schema,), mask_keys=mask_keys)
        return Verdict(schema, schema.parse(data, mask_keys=mask_keys), data)

    def check_invoked(
        self, function: inngest.Function[Any], data: Mapping[str, Any], *, mask_keys: bool
    ) -> Verdict:
        """Hold the data of an invoke to the schemas of the function's triggers.

        Args:
            function: The invoked function.
            data: What the caller passed; the engine's own key in it is neither checked nor lost.
            mask_keys: See `CompiledSchema.parse`.

        Raises:
            Rejection: The data satisfies none of them.
        """
        schemas: list[CompiledSchema[Any]] = []
        for trigger in event_triggers(function):
            found = self.registry.for_trigger(trigger)
            if not found and not self.require_schema:
                # It may be meant for a trigger that promises nothing.
                return Verdict(None, data, data)
            schemas.extend(found)
        payload = payload_of(INVOKED, data)
        verdict = self.check(payload, schemas, mask_keys=mask_keys)
        if verdict.handed_on is payload:
            return Verdict(verdict.schema, verdict.parsed, data)
        extra = {key: value for key, value in data.items() if key in ENGINE_KEYS}
        return Verdict(verdict.schema, verdict.parsed, {**verdict.handed_on, **extra})


def _count(rejection: Rejection) -> int:
    return len(rejection.violations) + rejection.omitted


def event_triggers(function: inngest.Function[Any]) -> tuple[str, ...]:
    """The event names and patterns that trigger a function."""
    # The URL only fills in where the engine would call; nothing is sent there.
    triggers = function.get_config("http://localhost").main.triggers
    return tuple(trigger.event for trigger in triggers if isinstance(trigger, inngest.TriggerEvent))
