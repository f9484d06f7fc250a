"""What validation made of the events of one call, so that nothing is parsed twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import inngest

from inngest_plugins.core import CallKey

from ._compiled import CompiledSchema
from ._event_names import INVOKED

# In the data of an invoked function's event: the engine's own key, and that of the core, under
# which plugins send values along (taken out before this layer, but not in a failed run's event).
ENGINE_KEYS = frozenset({"_inngest", "_inngest_plugins"})


def payload_of(name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of an event's data that a user wrote."""
    if name == INVOKED and not ENGINE_KEYS.isdisjoint(data):
        return {key: value for key, value in data.items() if key not in ENGINE_KEYS}
    return data


@dataclass(frozen=True)
class Parsed:
    """An event's data after validation."""

    event: inngest.Event
    data: Mapping[str, Any]
    """The very data that was validated (or handed on instead of it)."""

    schema: CompiledSchema[Any]
    value: Any


class ParsedEvents:
    """The validated events of one call."""

    def __init__(self) -> None:
        self._found: list[Parsed] = []

    def add(self, parsed: Parsed) -> None:
        """Keep one."""
        self._found.append(parsed)

    def find(self, event: inngest.Event, schema: CompiledSchema[Any]) -> Parsed | None:
        """What validation by a schema made of an event.

        The SDK hands out copies of some events (the result of a wait), so an event with the same
        id, name and data is as good as the very one. Data edited in place is not noticed.
        """
        data = event.data
        for each in self._found:
            if each.schema is schema and (
                each.data is data
                or (
                    each.event.id == event.id
                    and each.event.name == event.name
                    and each.data == data
                )
            ):
                return each
        return None


PARSED = CallKey[ParsedEvents]("validation.parsed")
