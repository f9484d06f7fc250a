"""`SchemaRegistry`: the schema of each event name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import inngest

from inngest_plugins.validation.schemas.schema import (
    CompiledSchema,
    EngineName,
    Rejection,
    SchemaError,
    Secrets,
    check_engine,
    check_secrets,
)

from .event_type import EventType
from .payloads import ENGINE_PREFIX, is_pattern, matches_name, payload_of, specificity

_HOW_TO = 'write [EventType("shop/order.placed", Order)], or {"shop/order.placed": Order}'


class SchemaRegistry:
    """Schemas by event name: the exact name first, then the narrowest pattern that matches.

    Args:
        events: Event types, a mapping of names (or patterns such as "shop/*") to schemas, or the
            path of a folder of `.json` and `.yaml` files, where `shop/order.placed.json` holds
            the schema of `shop/order.placed`.
        engine: The JSON Schema engine for schemas that are not compiled yet.
        secrets: What to do with secrets, for schemas that are not compiled yet: see `EventType`.

    Raises:
        SchemaError: A schema is wrong, or a name has two.

    Example:
        ```python
        registry = SchemaRegistry([order_placed])
        registry.add("shop/*", {"type": "object", "required": ["shop_id"]})
        ```
    """

    def __init__(
        self,
        events: Iterable[EventType[Any]] | Mapping[str, object] | Path | str = (),
        *,
        engine: EngineName = "auto",
        secrets: Secrets = "refuse",
    ) -> None:
        check_engine(engine)
        check_secrets(secrets)
        self._secrets: Secrets = secrets
        self._engine: EngineName = engine
        self._exact: dict[str, EventType[Any]] = {}
        self._patterns: list[EventType[Any]] = []
        given: object = events
        if events == "":
            # The path of the working directory, but that is hardly what an empty setting means.
            msg = 'events is "", the path of no folder: for the working directory write "."'
            raise SchemaError(msg)
        if isinstance(events, str | Path):
            self.add_folder(events)
        elif isinstance(events, Mapping):
            for name, schema in cast("Mapping[str, object]", events).items():
                self.add(name, schema)
        elif isinstance(given, Iterable) and not isinstance(given, type):
            for event in events:
                if not isinstance(event, EventType):
                    msg = f"events holds EventType objects, not {_kind_of(event)}: {_HOW_TO}"
                    raise SchemaError(msg)
                self.add(event)
        else:
            msg = f"events is a list of EventType objects, not {_kind_of(events)}: {_HOW_TO}"
            raise SchemaError(msg)

    def add(self, event: EventType[Any] | str, schema: object = None) -> None:
        """Register an event type, or a name or pattern with its schema.

        Raises:
            SchemaError: The schema is wrong, or the name has one already.
        """
        if isinstance(event, EventType):
            event_type: EventType[Any] = event
        elif isinstance(schema, EventType):
            named: EventType[Any] = schema
            event_type = EventType[Any].of(event, named.compiled)
        else:
            event_type = EventType[Any](event, schema, engine=self._engine, secrets=self._secrets)
        name = event_type.name
        if name.startswith(ENGINE_PREFIX):
            msg = f"event {name}: {ENGINE_PREFIX}* are the engine's own events and take no schema"
            raise SchemaError(msg)
        if any(each.name == name for each in self):
            msg = f"event {name}: it has a schema already"
            raise SchemaError(msg)
        if is_pattern(name):
            self._patterns.append(event_type)
            self._patterns.sort(key=lambda each: specificity(each.name))
        else:
            self._exact[name] = event_type

    def add_folder(self, folder: Path | str) -> None:
        """Register every schema of a folder. See `SchemaRegistry`.

        Files may refer to one another, and to nothing else.

        Raises:
            SchemaError: A file or its schema is wrong.
        """
        from inngest_plugins.validation.schemas.documents import read_folder
        from inngest_plugins.validation.schemas.json_schema import JsonSchema

        library, events = read_folder(Path(folder))
        for name, uri in events.items():
            compiled = JsonSchema(
                library.documents[uri],
                where=f"event {name} ({folder})",
                engine=self._engine,
                library=library,
                base_uri=uri,
            )
            self.add(name, compiled)

    def find(self, name: str) -> CompiledSchema[Any] | None:
        """The schema for an event's name, or None."""
        found = self._exact.get(name)
        if found is not None:
            return found.compiled
        for each in self._patterns:
            if matches_name(each.name, name):
                return each.compiled
        return None

    def for_trigger(self, trigger: str) -> tuple[CompiledSchema[Any], ...]:
        """The schemas of the events that a function's trigger matches; it may be a pattern."""
        found = self.find(trigger)
        if found is not None or not is_pattern(trigger):
            return () if found is None else (found,)
        return tuple(each.compiled for each in self if matches_name(trigger, each.name))

    def validate(self, event: inngest.Event) -> Any:
        """Check an event by its schema.

        Returns:
            Its data as the schema's type; the data itself where there is no schema.

        Raises:
            ValidationFailed: The data breaks the schema.
        """
        schema = self.find(event.name)
        if schema is None:
            return event.data
        try:
            return schema.parse(payload_of(event.name, event.data))
        except Rejection as found:
            rejection = found
        raise rejection.failure(f"event {event.name}", "incoming")

    def __iter__(self) -> Iterator[EventType[Any]]:
        """All event types: exact names in order of registration, then patterns, narrowest first."""
        yield from self._exact.values()
        yield from self._patterns

    def __len__(self) -> int:
        return len(self._exact) + len(self._patterns)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def __repr__(self) -> str:
        return f"SchemaRegistry({[each.name for each in self]!r})"


def _kind_of(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"one {type(value).__name__}" if isinstance(value, EventType) else type(value).__name__


def event_triggers(function: inngest.Function[Any]) -> tuple[str, ...]:
    """The event names and patterns that trigger a function."""
    # The URL only fills in where the engine would call; nothing is sent there.
    triggers = function.get_config("http://localhost").main.triggers
    return tuple(trigger.event for trigger in triggers if isinstance(trigger, inngest.TriggerEvent))
