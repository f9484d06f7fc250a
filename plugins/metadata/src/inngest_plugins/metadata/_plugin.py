"""The plugin: one run's metadata from request to request."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Token
from types import TracebackType

import anyio.to_thread

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Stack, Step, check_switch

from ._errors import MetadataKeyError
from ._frame import Frame
from ._limits import Limits, check_run_id, checked_limits
from ._live import Publisher
from ._proxy import RUNS
from ._sender import Sender
from ._state import ATTACHMENT, CURRENT, RUNNING, STATE, RunState


class MetadataPlugin(Plugin):
    """Structured metadata of runs and steps, updated while the run runs.

    Record with `metadata`; see there. What a step records travels with its memoized result, so it
    is there on every later replay, on any worker, and needs no store. What is new in a request goes
    to the engine before the request is answered, where the dashboard shows it.

    A failure to send never fails the run; what is wrong with the data raises where it is recorded.

    Args:
        strict: whether using `metadata` outside of a run raises. False: it is ignored, in the whole
            process, for as long as this plugin lives.
        realtime: whether changes are published on the run's realtime channel, for `subscribe`.
        limits: sizes to keep; for a self-hosted server that allows others.
        timeout: seconds that one request to the engine may take.

    Raises:
        TypeError: `limits` are no `Limits`, or a switch is neither True nor False.
        ValueError: `timeout` is no positive number.
    """

    layer = Layer.CONTEXT
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
            RUNS.be_lenient(self)

    def transform_input(self, call: Call) -> Awaitable[None] | None:
        """Open the run's metadata; it is closed, and sent, when the call ends."""
        state = RunState(call, self._limits, self._sender)
        link = call.event_attachment(ATTACHMENT)
        if isinstance(link, dict):
            state.parent, state.root = _linked(link.get("parent")), _linked(link.get("root"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if self._realtime:
            state.publisher = Publisher(call.client, call.run_id, state.snapshot, self._timeout)
        call[STATE] = state
        call.set_context(CURRENT, state)
        # Not a step's that the caller may be in: an engine in process may run one run inside of
        # another's step.
        call.set_context(RUNNING, None)
        if call.is_async:
            return call.enter_async(_AsyncSession(state))
        call.enter(_Session(state))
        return None

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Tell an invoked run who its parent and root are."""
        state = call.get(STATE)
        if step.op == "InvokeFunction" and state is not None:
            root = state.root or call.run_id
            step.attach(ATTACHMENT, {"parent": call.run_id, "root": root})

    def around_step(self, call: Call, step: Step) -> AbstractContextManager[None]:
        """Collect what the step's handler records."""
        return _StepSession(call[STATE], step)

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Let what the step recorded travel with its result."""
        state = call[STATE]
        state.outcome = outcome
        if outcome.step is not None and outcome.error is None:
            envelope = state.envelope_of(outcome.step)
            if envelope is not None:
                outcome.attach(ATTACHMENT, envelope)

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Warn that encryption does not cover what is sent to the dashboard."""
        if stack.secret_payloads:
            yield (
                "metadata is readable at the engine although this stack encrypts payloads: "
                "record nothing secret"
            )


class _StepSession:
    """Held open around a step's handler."""

    __slots__ = ("_frame", "_state", "_step", "_token")

    def __init__(self, state: RunState, step: Step) -> None:
        self._state = state
        self._step = step
        self._frame: Frame | None = None
        self._token: Token[Frame | None] | None = None

    def __enter__(self) -> None:
        self._frame = self._state.enter_step(self._step)
        self._token = RUNNING.set(self._frame)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._frame is not None and self._token is not None:
            RUNNING.reset(self._token)
            self._state.leave_step(self._frame, exc)


class _Session(AbstractContextManager[None]):
    """Held open during a call of a sync function; closing it sends what is new."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        updates = self._state.conclude()
        if updates is not None:
            self._state.deliver(updates)


class _AsyncSession(AbstractAsyncContextManager[None]):
    """The same for an async function."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        updates = self._state.conclude()
        if updates is not None:
            await anyio.to_thread.run_sync(self._state.deliver, updates, abandon_on_cancel=True)


def _linked(run_id: object) -> str | None:
    if not isinstance(run_id, str):
        return None
    try:
        return check_run_id(run_id)
    except MetadataKeyError:
        return None
