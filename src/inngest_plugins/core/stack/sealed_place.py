"""Where a sealed value was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SealedPlace:
    """Where a value was found. Encryption that binds values to their place needs to know.

    Attributes:
        kind: what the value is: the data of an event, the result of a step, what a function
            returned, an error (`{"name", "message", "stack"}`), or the arguments of a step.
        app_id: the app's id.
        function_id: local id of the function, or None outside of a run.
        run_id: the run, or None outside of a run.
        hashed_id: the step that the value belongs to, or None for the function's own.
        event_name: name of the event, for `event`.
    """

    kind: Literal["event", "step", "output", "error", "input"]
    app_id: str
    function_id: str | None = None
    run_id: str | None = None
    hashed_id: str | None = None
    event_name: str | None = None
