"""A step as the hooks see it, and what a plugin gives in place of running its handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import inngest

from inngest_plugins.core.base.errors import ArgumentError
from inngest_plugins.core.base.keys import Keyed

from .memos import Memo

StepStatus: TypeAlias = Literal["memoized", "running", "planned", "waiting", "skipped"]


CARRYING_OPS: Final = ("InvokeFunction", "DeferAdd")
"""The operations that carry data to another run, and attachments with it."""


class Step(Keyed):
    """One step of the function that this request has reached.

    Attributes:
        id: the id that the user gave.
        hashed_id: the id under which the engine keeps the result: the lower-case hex SHA-1 of
            `id`, or of `"<id>:<index>"` when the id is used again.
        index: 0 for the first use of `id` in the function, 1 for the second, and so on.
        op: the engine's opcode: "StepRun", "InvokeFunction", "WaitForEvent", "Sleep" or
            "AIGateway"; "DeferAdd" for what is deferred, which `transform_step_input` alone sees.
        name: the event name for a wait, the wake-up time for a sleep, else the id.
        parallel: whether the step stands in a `group.parallel`.
        branch: where: () outside of groups, (2, 0) in the first branch of the function's third
            group, (2, 0, 1, 3) in a group within that. The same on every replay.
        input: the arguments that leave for the engine, as on the wire: for an invoke
            `{"function_id", "payload": {"data", "v"}, "timeout"}`, for a wait `{"if", "timeout"}`,
            for an AI inference the request, for what is deferred `{"fn_slug", "input"}`. None for
            a step that has none. Assign or edit it in `transform_step_input`.
        function: the function object that `step.invoke` names; None for `invoke_by_id` and for
            other steps. `input["function_id"]` is the engine's id of either's.
        args: in stacks with a plugin that overrides `answer_step`, what the function gave to
            `step.run` for the handler, to `step.send_event` (the list of events) or to `step.sleep`
            and `step.sleep_until`; () for other steps, whose arguments are in `input` and `name`.
        status: what becomes of the step in this request: "memoized" (its stored result is given
            to the function), "running" (its handler runs), "planned" (the engine will ask for it
            in a request of its own), "waiting" (it leaves for the engine: a sleep, a wait, an
            invoke), "skipped" (this request runs another step of the group).
        memo: the stored result of a memoized step; None before `transform_memo` and for steps
            without one. Assign another `Memo` in `transform_memo`.
        started_ns: when its handler began, in nanoseconds since the epoch; 0 before.
        duration_ns: how long the handler and what plugins hold around it took; 0 before it ended.
    """

    __slots__ = (
        "_answer",
        "_memo_attachments",
        "args",
        "attachments",
        "branch",
        "duration_ns",
        "function",
        "hashed_id",
        "id",
        "index",
        "input",
        "memo",
        "name",
        "op",
        "parallel",
        "started_ns",
        "status",
    )

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
        status: StepStatus = "running",
        branch: tuple[int, ...] = (),
        function: inngest.Function[Any] | None = None,
    ) -> None:
        self._data = None
        self.id = id
        self.hashed_id = hashed_id
        self.index = index
        self.op = op
        self.name = name
        self.parallel = parallel
        self.branch = branch
        self.input = input
        self.function = function
        self.status: StepStatus = status
        self.args: tuple[Any, ...] = ()
        self.memo: Memo | None = None
        self.attachments: dict[str, Any] | None = None
        # What a plugin has answered before the SDK has reported the step; an `Answer`.
        self._answer: object = None
        self._memo_attachments: dict[str, Any] | None = None
        self.started_ns = 0
        self.duration_ns = 0

    def attach(self, key: str, value: Any) -> None:
        """Send a value along with an invoke or a deferral, hidden from the handler.

        The plugins of the receiving function's app read it with `call.event_attachment(key)`. It is
        added outside of validation and inside of encryption.

        Args:
            key: by convention the plugin's name.
            value: any JSON value.

        Raises:
            ArgumentError: the step is another one; nothing else carries data to another run.
        """
        if self.op not in CARRYING_OPS:
            raise ArgumentError(
                f"step {self.id!r} is a {self.op}: only an InvokeFunction step carries "
                "attachments, and what is deferred"
            )
        if self.attachments is None:
            self.attachments = {}
        self.attachments[key] = value

    def memo_attachment(self, key: str) -> Any:
        """Return what `outcome.attach(key, ...)` kept with the stored result, or None.

        Plugins further in than WIRE see it in `transform_memo` and afterwards.

        Args:
            key: the key it was attached under.
        """
        return None if self._memo_attachments is None else self._memo_attachments.get(key)

    def __repr__(self) -> str:
        return f"<Step {self.id!r} {self.op}>"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result that `answer_step` returns for a step whose handler is then not run.

    It takes the way of any result: outbound hooks see it, the engine stores it, later requests
    replay it.

    Attributes:
        value: what the handler would have returned.
        error: what the handler would have raised; `value` then means nothing.
        handler: what to run in the handler's place, called with `step.args`; sync or async. Then
            `around_step` is held around it as around the real one, and `value` and `error` mean
            nothing: it is what this returns or raises.
    """

    value: Any = None
    error: Exception | None = None
    handler: Callable[..., Any] | None = None
