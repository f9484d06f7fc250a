"""The data of an agent's events: ids stay readable, everything else may be sealed."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError, model_validator

_SEALED = "encrypted"
"""The field of an event's data that encryption seals by default."""


class EventData(BaseModel):
    """Base of the data of an agent's events.

    The engine matches on ids, which stay readable. Everything else may stand under `encrypted`,
    the field that the encryption plugin seals by default; it is read from there and from the top.
    """

    readable: ClassVar[frozenset[str]]
    """The fields that stay readable."""

    @model_validator(mode="before")
    @classmethod
    def _opened(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get(_SEALED), dict):
            return {**{k: v for k, v in data.items() if k != _SEALED}, **data[_SEALED]}
        return data

    def event_data(self, *, secret: bool = False) -> dict[str, Any]:
        """Return the event's data.

        Args:
            secret: put everything but the ids under `encrypted`. Agents do so by themselves where
                a plugin of the stack keeps payloads secret.
        """
        data = self.model_dump(mode="json", exclude_none=True)
        if not secret:
            return data
        readable = {name: value for name, value in data.items() if name in self.readable}
        return {**readable, _SEALED: {k: v for k, v in data.items() if k not in readable}}


def places_of(error: ValidationError) -> str:
    """Return where the data of an event is wrong. Its values are not repeated."""
    return ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
