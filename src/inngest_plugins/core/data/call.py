"""One request of one run, as the hooks see it."""

from __future__ import annotations

import contextlib
import contextvars
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import inngest

from inngest_plugins.core.base.errors import RegistrationError
from inngest_plugins.core.base.layers import Phase
from inngest_plugins.core.base.sync_async import Portal
from inngest_plugins.core.sdk.assignments import provide, put_event, put_events
from inngest_plugins.core.sdk.door import Output, StepInfo, identity_of
from inngest_plugins.core.stack.stack import Stack

from .attachments import is_joined
from .call_contexts import in_async_hook
from .call_identity import CallIdentity
from .deferral import DeferredBy, take_carrier
from .memos import Memos
from .step import Step

if TYPE_CHECKING:
    from inngest_plugins.core.engine.call_engine import CallEngine

T = TypeVar("T")

current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    "inngest_plugins_call", default=None
)
current_branch: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar(
    "inngest_plugins_branch", default=()
)
current_step: contextvars.ContextVar[Step | None] = contextvars.ContextVar(
    "inngest_plugins_step", default=None
)


class Call(CallIdentity):
    """One request of one run.

    Attributes:
        run_id: ULID of the run.
        function_id: the engine's id of the function, `"<app>-<function>"`.
        local_id: the id given to `create_function`.
        function_name: the human-readable name.
        app_id: the client's app id.
        attempt: number of the attempt of the current job, from 0.
        max_attempts: how many attempts the engine allows (retries + 1).
        handler_kind: "main", "on_failure" for the function's failure handler, or "deferred" for a
            function that another run deferred to its end.
        deferred_by: the run that deferred this one; None for other runs. It is not in the event:
            the data of that is what was deferred.
        handler: what the user wrote: the function itself, or its failure handler.
        is_async: whether the function is `async def`.
        event: the triggering event, the first of a batch. Assignable in `transform_input`.
        events: all triggering events. Assignable in `transform_input`. `event` is an object of its
            own, not `events[0]`: change both.
        memos: the memoized step results by hashed id.
        memo_count: how many memos came with the request.
        consumed: hashed ids of the memos that the function has received so far, in order.
        left_groups: the `group.parallel` calls that raised an error so far, in order, each as the
            start of its steps' `Step.branch`. The function reaches their other steps no more.
        target: hashed id of the step that this request is to run, or None.
        request_id: the engine's id of this request, or None.
        job_id: the engine's id of the queue job, stable over its attempts, or None.
        client: the client.
        function: the SDK's function object.
        ctx: the context that the function receives.
        raw_request: what the web framework gave, or the message of a `connect` worker.
        stack: the stack whose hooks run.
        failure: an exception of a plugin or of foreign middleware that fails this request although
            neither a step nor the function raised it; else None.
        cancelled: whether the request was cancelled.
    """

    __slots__ = (
        "_after_race",
        "_engine",
        "_event_attachments",
        "_executing",
        "_failed_steps",
        "_op_rules",
        "_provided",
        "_replayed",
        "_started",
        "_step_input_hooks",
        "app_id",
        "cancelled",
        "consumed",
        "deferred_by",
        "failure",
        "left_groups",
        "memo_count",
        "memos",
        "stack",
        "target",
    )

    def __init__(
        self,
        *,
        client: inngest.Inngest,
        function: inngest.Function[Any],
        ctx: inngest.Context | inngest.ContextSync,
        stack: Stack,
        memos: dict[str, Output],
        max_attempts: int,
        target: str | None,
        is_async: bool,
        on_failure: bool,
        raw_request: object,
        portal: Portal | None = None,
        headers: Mapping[str, str] | None,
    ) -> None:
        super().__init__(is_async=is_async, portal=portal)
        self.client = client
        self.function = function
        self.ctx = ctx
        self.stack = stack
        self.memos = Memos(memos)
        self.memo_count = len(memos)
        self.consumed: list[str] = []
        self.left_groups: list[tuple[int, ...]] = []
        self._replayed: dict[str, StepInfo] = {}
        # The errors that the SDK made of stored ones, each with its step. Weak, so that the frames
        # of the function's code go when it has handled one.
        self._failed_steps: list[tuple[weakref.ref[BaseException], str]] = []
        self.max_attempts = max_attempts
        self.target = target
        self.deferred_by: DeferredBy | None = take_carrier(ctx.event, *ctx.events)
        self.handler_kind: Literal["main", "on_failure", "deferred"] = (
            "on_failure" if on_failure else "main" if self.deferred_by is None else "deferred"
        )
        self.raw_request = raw_request
        self.app_id = client.app_id
        self.failure: BaseException | None = None
        self.cancelled = False
        self._headers = headers
        self._executing = False
        # Whether the function has reached no stored result since it left a race of steps. Several
        # requests can be at that place at once: the engine makes one as each member ends.
        self._after_race = False
        self._started = time.time()
        self._engine: CallEngine | None = None
        self._provided: dict[str, str] | None = None
        self._op_rules: dict[str, tuple[frozenset[str], Exception]] | None = None
        self._event_attachments: dict[str, Any] | None = None
        self._step_input_hooks: Callable[[Step], Awaitable[None] | None] | None = None

    # ------------------------------------------------------------ the run

    @staticmethod
    def current() -> Call | None:
        """Return the call that the current code runs in, or None outside of a run.

        Works in the function's body, in steps and in hooks, sync and async, and in tasks and
        threads that were started with a copy of the context.
        """
        return current_call.get()

    @property
    def event(self) -> inngest.Event:
        """The triggering event, the first of a batch."""
        return self.ctx.event

    @event.setter
    def event(self, value: inngest.Event) -> None:
        put_event(self.ctx, value)

    @property
    def events(self) -> list[inngest.Event]:
        """All triggering events."""
        return self.ctx.events

    @events.setter
    def events(self, value: list[inngest.Event]) -> None:
        put_events(self.ctx, value)

    @property
    def logger(self) -> Any:
        """The run's logger, silent while the function is replayed."""
        return self.ctx.logger

    @property
    def phase(self) -> Phase:
        """Whether the function's code is being replayed or is new."""
        return Phase.EXECUTING if self._executing else Phase.REPLAYING

    @property
    def step(self) -> Step | None:
        """The step whose handler runs right now in this task or thread, else None."""
        return current_step.get()

    @property
    def branch(self) -> tuple[int, ...]:
        """The branch of `group.parallel` that the current code stands in; see `Step.branch`."""
        return current_branch.get()

    @property
    def in_body(self) -> bool:
        """Whether the running code is the function's own, which can reach steps.

        It is not in a step's handler, in a hook, and in what closes when the call ends.
        """
        running = self.running_hook
        in_hook = in_async_hook.get() or (running.bound is not None and not running.awaits)
        return not (self._ended or in_hook or current_step.get() is not None)

    @property
    def engine(self) -> CallEngine:
        """The engine as this request knows it: identity, deferred functions, operations."""
        if self._engine is None:
            from inngest_plugins.core.engine.call_engine import CallEngine

            self._engine = CallEngine(
                self.client, self.ctx, request_id=self.request_id, started=self._started
            )
        return self._engine

    # ------------------------------------------------------------ what plugins open

    def provide(self, name: str, value: object) -> None:
        """Add to what `ctx` offers: the user's function finds the value as `ctx.<name>`.

        Args:
            name: a Python identifier that `ctx` does not have yet.
            value: anything.

        Raises:
            RegistrationError: `ctx` has the name already, from the SDK or from another plugin.
        """
        provided = self._provided
        running = self._running
        who = "the function" if running is None else running.owner.name
        if provided is not None and name in provided:
            raise RegistrationError(
                f"plugin {who!r} provides ctx.{name}, which plugin {provided[name]!r} provides too"
            )
        if hasattr(self.ctx, name) or not name.isidentifier():
            raise RegistrationError(
                f"plugin {who!r} cannot provide ctx.{name}: "
                + ("it is not a name" if not name.isidentifier() else "the SDK has it already")
            )
        if provided is None:
            provided = self._provided = {}
        provided[name] = who
        provide(self.ctx, name, value)

    def require_op(self, hashed_id: str, ops: Collection[str], error: Exception) -> None:
        """Allow a memoized result for certain operations only.

        A request does not say which operation a memo belongs to. That is known when the function
        reaches the step. If it is another one then, the run fails with the error, whatever the
        function would catch.

        Args:
            hashed_id: engine-side id of the step.
            ops: the opcodes that may get the result, as in `Step.op`.
            error: what to fail with.
        """
        if self._op_rules is None:
            self._op_rules = {}
        self._op_rules[hashed_id] = frozenset(ops), error

    def identity_of(self, hashed_id: str) -> tuple[str, int] | None:
        """Return the user's id of a step whose memo the function has received.

        Args:
            hashed_id: engine-side id of the step, such as `consumed` lists them.

        Returns:
            The step's id and how often that id had been used before, as `step.id` and
            `step.index`; None for a step that the function has not reached.
        """
        info = self._replayed.get(hashed_id)
        return None if info is None else identity_of(info)

    def op_of(self, hashed_id: str) -> str | None:
        """Return the engine's opcode of a step whose memo the function has received.

        Args:
            hashed_id: engine-side id of the step, such as `consumed` lists them.

        Returns:
            As `Step.op`; None for a step that the function has not reached.
        """
        info = self._replayed.get(hashed_id)
        if info is None:
            return None
        op: str = info.op.value
        return op

    def failed_step(self, error: BaseException) -> str | None:
        """Return the step whose stored failure the function received as this exception.

        An `inngest.StepError` names neither its step nor what kind of step that is.

        Args:
            error: an exception of the function.

        Returns:
            The step's engine-side id, for `identity_of` and `op_of`; None for any other exception.
        """
        for given, hashed_id in self._failed_steps:
            if given() is error:
                return hashed_id
        return None

    # ------------------------------------------------------------ what plugins send

    def run_step_input_hooks(self, step: Step) -> Awaitable[None] | None:
        """Run the `transform_step_input` hooks on an input that a plugin sends to the engine.

        For operations that are not steps of the function, such as "DeferAdd": the hooks of the
        whole stack see the step, from innermost to outermost, and what they leave in `step.input`
        is what is to be sent. What a plugin that fails closed raises is raised here.

        Args:
            step: describes the operation; its `input` is changed in place.

        Returns:
            None when all hooks have run, which is always so in a sync function. In an async one
            what is left from the first `async def` hook on, to be awaited before the input leaves.

        Raises:
            CallEndedError: the call is over.
        """
        self._check_open("run_step_input_hooks")
        run = self._step_input_hooks
        return None if run is None else run(step)

    # ------------------------------------------------------------ attachments

    def attachment(self, hashed_id: str, key: str) -> Any:
        """Return what `outcome.attach(key, ...)` kept with a memoized result, or None.

        If the function has not reached the result, the result is opened for this.

        Args:
            hashed_id: engine-side id of the step.
            key: the key it was attached under.
        """
        attached = self.memos.attachments_of(hashed_id)
        if attached is None and hashed_id in self.memos:
            attached = self._sealed_attachments(hashed_id)
        return None if attached is None else attached.get(key)

    def _sealed_attachments(self, hashed_id: str) -> dict[str, Any] | None:
        from inngest_plugins.core.stack.sealed_place import SealedPlace

        function_id = self.local_id
        if self.handler_kind == "on_failure":
            function_id += "-failure"
        place = SealedPlace("step", self.app_id, function_id, self.run_id, hashed_id)
        opened = self.memos[hashed_id].data
        for plugin in self.stack.plugins:
            # What cannot be opened has no attachments that anybody could read.
            with contextlib.suppress(Exception):
                opened = plugin.open_sealed(opened, place)
        return opened["attachments"] if is_joined(opened) else None

    def event_attachment(self, key: str) -> Any:
        """Return what `step.attach(key, ...)` sent along with the invoke of this run, or None.

        Args:
            key: the key it was attached under.
        """
        return None if self._event_attachments is None else self._event_attachments.get(key)

    def __repr__(self) -> str:
        return f"<Call {self.function_id} run={self.run_id} attempt={self.attempt}>"
