"""Checks one value against its schema, as the options of the plugin say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import inngest

from inngest_plugins.core import Stack
from inngest_plugins.validation.events.payloads import (
    ENGINE_KEYS,
    ENGINE_PREFIX,
    INVOKED,
    payload_of,
)
from inngest_plugins.validation.events.registry import SchemaRegistry, event_triggers
from inngest_plugins.validation.schemas.json_values import written_form
from inngest_plugins.validation.schemas.schema import CompiledSchema, Rejection, pointer_to


class Verdict(NamedTuple):
    """A value that passed."""

    # Made for each event, and a tuple is made fastest: row "jsonschema-rs, valid" of
    # benchmarks/validation.py.

    schema: CompiledSchema[Any] | None
    """The schema it satisfied; None where there is none for it."""

    parsed: Any
    """The value as the schema's type."""

    passed_on: Any
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
        """Check a value against several schemas, one of which it has to satisfy.

        Raises:
            Rejection: It satisfies none; the verdict of the schema that came closest.
        """
        closest: Rejection | None = None
        for schema in schemas:
            try:
                parsed = schema.parse(value, mask_keys=mask_keys)
                if self.coerce and schema.coerces:
                    return Verdict(schema, parsed, schema.dump(parsed, mask_keys=mask_keys))
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

    def check_event(
        self, name: str, data: Mapping[str, Any], *, mask_keys: bool, sent: bool = False
    ) -> Verdict:
        """Check an event's data against the schema of its name. The engine's own events pass.

        Args:
            name: The event's name.
            data: Its data.
            sent: Whether it is about to be sent, and may not be JSON yet.
            mask_keys: See `CompiledSchema.parse`.

        Raises:
            Rejection: It breaks the schema, or has none and needs one.
        """
        if name.startswith(ENGINE_PREFIX):
            return Verdict(None, data, data)
        schema = self.registry.find(name)
        if schema is None or (self.coerce and schema.coerces):
            return self.check(data, () if schema is None else (schema,), mask_keys=mask_keys)
        # A JSON Schema is for the JSON that the SDK will write: texts for dates, and the like.
        value = written_form(data) if sent and not schema.coerces else data
        return Verdict(schema, schema.parse(value, mask_keys=mask_keys), data)

    @staticmethod
    def check_sealed(
        schema: CompiledSchema[Any] | None, data: Mapping[str, Any], stack: Stack
    ) -> None:
        """Refuse the data of an event whose secrets would leave in the clear.

        Raises:
            Rejection: A field that holds a secret is encrypted by no plugin of the stack.
        """
        if schema is not None and schema.secrets == "encrypted":
            check_sealed((str(path[0]) for path in schema.secret_fields), data, stack)

    def check_invoked(
        self, function: inngest.Function[Any], data: Mapping[str, Any], *, mask_keys: bool
    ) -> Verdict:
        """Check the data of an invoke against the schemas of the function's triggers.

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
        if verdict.passed_on is payload:
            return Verdict(verdict.schema, verdict.parsed, data)
        extra = {key: value for key, value in data.items() if key in ENGINE_KEYS}
        return Verdict(verdict.schema, verdict.parsed, {**verdict.passed_on, **extra})


def check_sealed(fields: Iterable[str], data: Mapping[str, Any], stack: Stack) -> None:
    """Refuse data with fields that must be encrypted, and are not.

    Args:
        fields: The names of the fields; `*` for any.
        data: The data of an event.
        stack: The plugins that it will leave through.

    Raises:
        Rejection: It holds a field that no plugin of the stack encrypts.
    """
    for field in fields:
        if (field in data or field == "*") and not stack.seals_field(field):
            expected = "a field that a plugin encrypts, since it holds a secret"
            raise Rejection.of("secret", expected, pointer_to((field,)))


def _count(rejection: Rejection) -> int:
    return len(rejection.violations) + rejection.omitted
