"""`MetadataPlugin`: carries a run's metadata from request to request."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar, Final

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Stack, Step, check_switch

from ._current import LENIENT
from ._errors import MetadataKeyError
from ._keys import check_run_id
from ._live import Publisher
from ._objects import ATTACHMENT
from ._run_state import STATE, RunState
from ._sender import Sender
from ._values import Limits, checked_limits

_NOTHING: Final = contextlib.nullcontext()


class MetadataPlugin(Plugin):
    """Structured metadata of runs and steps, updated while the run runs.

    Record with `metadata`; see there. What a step records is stored beside its result, so every
    later replay has it, on any worker, without a store. What is new in a request reaches the engine
    with the step's operation, or else in requests of its own before the answer.

    A failure to send never fails the run; wrong data raises where it is recorded.

    Args:
        strict: whether using `metadata` outside of a run raises. False: it is ignored, in the whole
            process, for as long as this plugin lives.
        realtime: whether changes are published on the run's realtime channel, for `subscribe`.
        limits: sizes to keep; for a self-hosted server that allows others.
        timeout: seconds that one request to the engine may take.

    Raises:
        TypeError: `limits` is not a `Limits`, or a switch is neither True nor False.
        ValueError: `timeout` is not a positive number.
    """

    layer = Layer.CONTEXT
    one_per_list: ClassVar[bool] = True
    fail_open = True
    name = "metadata"

    def __init__(
        self,
        *,
        strict: bool = True,
        realtime: bool = False,
        limits: Limits | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._limits = checked_limits("MetadataPlugin", limits, timeout)
        check_switch("MetadataPlugin(strict=...)", strict)
        check_switch("MetadataPlugin(realtime=...)", realtime)
        self._realtime = realtime
        self._timeout = timeout
        self._sender = Sender(self._limits, timeout)
        if not strict:
            LENIENT.add(self)

    def transform_input(self, call: Call) -> Awaitable[None] | None:
        """Open the run's metadata; the end of the call closes and sends it."""
        state = RunState(call, self._limits, self._sender)
        link = call.event_attachment(ATTACHMENT)
        if isinstance(link, dict):
            state.parent, state.root = _linked(link.get("parent")), _linked(link.get("root"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if self._realtime:
            state.publisher = Publisher(call.client, call.run_id, state.snapshot, self._timeout)
        call[STATE] = state
        if call.is_async:
            return call.enter_async(_AsyncSession(state))
        call.enter(_Session(state))
        return None

    def transform_memo(self, call: Call, step: Step) -> None:
        """Add what a step recorded when it ran."""
        # Steps that ran in this request (with checkpointing) have added theirs already.
        if step.status == "memoized":
            call[STATE].replay_step(step.memo_attachment(ATTACHMENT))

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Send the ids of its parent and root along to an invoked or deferred run."""
        state = call.get(STATE)
        if step.op in ("InvokeFunction", "DeferAdd") and state is not None:
            root = state.root or call.run_id
            step.attach(ATTACHMENT, {"parent": call.run_id, "root": root})

    def around_step(self, call: Call, step: Step) -> AbstractContextManager[None]:
        """Separate what the body recorded before the step from what the step will record."""
        call[STATE].begin_step()
        return _NOTHING

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Store what the step recorded beside its result, and send it on the step's operation."""
        state = call[STATE]
        state.outcome = outcome
        if outcome.step is not None:
            state.end_step(outcome, outcome.step)

    def step_delivered(self, call: Call, step: Step) -> Awaitable[Any] | None:
        """Send what the step's operation cannot carry, once the engine has stored the result."""
        state = call[STATE]
        updates = state.deliver_step(step)
        if not updates:
            return None
        if call.is_async:
            import anyio.to_thread

            return anyio.to_thread.run_sync(state.send, updates)
        state.send(updates)
        return None

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Warn that encryption does not cover what the dashboard shows."""
        if stack.secret_payloads:
            yield (
                "metadata is readable at the engine although this stack encrypts payloads: "
                "record nothing secret"
            )


class _Session(AbstractContextManager[None]):
    """Sends new metadata at the end of a call of a sync function."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        updates = self._state.end_request()
        if updates is not None:
            self._state.deliver(updates)


class _AsyncSession(AbstractAsyncContextManager[None]):
    """The same for an async function."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        updates = self._state.end_request()
        if updates is not None:
            import anyio.to_thread

            await anyio.to_thread.run_sync(self._state.deliver, updates, abandon_on_cancel=True)


def _linked(run_id: object) -> str | None:
    if not isinstance(run_id, str):
        return None
    try:
        return check_run_id(run_id)
    except MetadataKeyError:
        return None
