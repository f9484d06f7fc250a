"""Matches event names and patterns such as `shop/*`, and keeps the validated data of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import inngest

from inngest_plugins.core import CallKey
from inngest_plugins.validation.schemas.schema import CompiledSchema

#: Events that the engine itself makes.
ENGINE_PREFIX = "inngest/"
INVOKED = "inngest/function.invoked"
FAILED = "inngest/function.failed"


def is_pattern(name: str) -> bool:
    """Whether a name has a wildcard. Only `*` is one, as in the engine's own triggers."""
    return "*" in name


def matches_name(pattern: str, name: str) -> bool:
    """Whether an event's name equals a name or matches a pattern. `*` also matches `/`."""
    if pattern == name:
        return True
    # fnmatch knows ? and [] too, which are ordinary characters in an event's name.
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return is_pattern(pattern) and fnmatchcase(name, literal)


def specificity(pattern: str) -> tuple[int, int]:
    """A sorting key that puts the narrower of two patterns first."""
    return -len(pattern.partition("*")[0]), -len(pattern)


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
    """The data that was validated, or the coerced data in its place."""

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
        """Return the validated form of an event under a schema.

        The SDK makes copies of some events (the result of a wait), so an event with the same
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
