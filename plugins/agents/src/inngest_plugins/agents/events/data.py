"""The data of an agent's events: ids stay readable, everything else may be sealed."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import inngest
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


DataT = TypeVar("DataT", bound=EventData)


def read_event(kind: type[DataT], event: inngest.Event, purpose: str) -> DataT:
    """Read the data of an event that a wait has received.

    Args:
        kind: what the data must be.
        event: the event.
        purpose: what the event does, for the error.

    Raises:
        inngest.NonRetriableError: it is anything else. The error names the places, not the values.
    """
    try:
        return kind.model_validate(event.data)
    except ValidationError as err:
        places = ", ".join(".".join(map(str, each["loc"])) for each in err.errors())
        raise inngest.NonRetriableError(
            f"the event {event.name!r} that {purpose} is no {kind.__name__}: see {places}"
        ) from None
