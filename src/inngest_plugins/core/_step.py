"""A step as the hooks see it."""

from __future__ import annotations

from typing import Any

from ._keys import Keyed


class Step(Keyed):
    """One step of the function that this request has reached.

    Attributes:
        id: the id that the user gave.
        hashed_id: the id under which the engine keeps the result: the lower-case hex SHA-1 of
            `id`, or of `"<id>:<index>"` when the id is used again.
        index: 0 for the first use of `id` in the function, 1 for the second, and so on.
        op: the engine's opcode: "StepRun", "InvokeFunction", "WaitForEvent", "Sleep" or
            "AIGateway".
        name: the event name for a wait, the wake-up time for a sleep, else the id.
        parallel: whether the step stands in a `group.parallel`.
        input: the arguments that leave for the engine, as on the wire: for an invoke
            `{"function_id", "payload": {"data", "v"}, "timeout"}`, for a wait `{"if", "timeout"}`,
            for an AI inference the request. None for a step that has none. Assign or edit it in
            `transform_step_input`.
    """

    __slots__ = ("attachments", "hashed_id", "id", "index", "input", "name", "op", "parallel")

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        hashed_id: str,
        index: int,
        op: str,
        name: str,
        parallel: bool,
        input: dict[str, Any] | None,  # noqa: A002
    ) -> None:
        super().__init__()
        self.id = id
        self.hashed_id = hashed_id
        self.index = index
        self.op = op
        self.name = name
        self.parallel = parallel
        self.input = input
        self.attachments: dict[str, Any] | None = None

    def attach(self, key: str, value: Any) -> None:
        """Send a value along with an invoke, beside the data and hidden from the handler.

        The plugins of the invoked function's app read it with `call.event_attachment(key)`. It is
        added outside of validation and inside of encryption.

        Args:
            key: by convention the plugin's name.
            value: any JSON value.

        Raises:
            ValueError: the step is not an invoke; nothing else carries data to another run.
        """
        if self.op != "InvokeFunction":
            raise ValueError(
                f"step {self.id!r} is a {self.op}: only an InvokeFunction step carries attachments"
            )
        if self.attachments is None:
            self.attachments = {}
        self.attachments[key] = value

    def __repr__(self) -> str:
        return f"<Step {self.id!r} {self.op}>"
