"""Events on their way out."""

from __future__ import annotations

import inngest

from inngest_plugins.core.base.keys import Keyed
from inngest_plugins.core.stack.stack import Stack

from .call import Call
from .step import Step


class Send(Keyed):
    """One `client.send` or `step.send_event`.

    Attributes:
        events: copies of the caller's events: edit them, or assign a new list.
        call: the run they are sent from, or None outside of one.
        step: the step they are sent from, or None.
        client: the client that sends.
        stack: the stack whose hooks run.
        ids: afterwards, the ids that the engine gave.
        error: afterwards, why sending failed, or None.
    """

    __slots__ = ("call", "client", "error", "events", "ids", "stack", "step")

    def __init__(
        self,
        events: list[inngest.Event],
        *,
        call: Call | None,
        step: Step | None,
        client: inngest.Inngest,
        stack: Stack,
    ) -> None:
        super().__init__()
        self.events = events
        self.call = call
        self.step = step
        self.client = client
        self.stack = stack
        self.ids: list[str] = []
        self.error: str | None = None

    def __repr__(self) -> str:
        return f"<Send of {len(self.events)} events>"
