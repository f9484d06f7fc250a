"""One request of one run, as the hooks see it."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import inngest

from ._drive import NotWaitingError
from ._errors import CallEndedError, RegistrationError
from ._keys import Keyed
from ._layers import Phase
from ._sdk import StepInfo, handler_of, identity_of

if TYPE_CHECKING:
    from ._dispatch import Dispatcher
    from ._drive import Portal
    from ._memos import Memos
    from ._stack import BoundHook, Stack
    from ._step import Step

T = TypeVar("T")

current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    "inngest_plugins_call", default=None
)
current_step: contextvars.ContextVar[Step | None] = contextvars.ContextVar(
    "inngest_plugins_step", default=None
)

_TRACE_HEADERS = ("traceparent", "tracestate")
_HEADERS = (*_TRACE_HEADERS, "x-request-id", "x-inngest-job-id")


class Call(Keyed):
    """One request of one run.

    Attributes:
        run_id: ULID of the run.
        function_id: the engine's id of the function, `"<app>-<function>"`.
        local_id: the id given to `create_function`.
        function_name: the human-readable name.
        app_id: the client's app id.
        attempt: number of the attempt of the current job, from 0.
        max_attempts: how many attempts the engine allows (retries + 1).
        handler_kind: "main", or "on_failure" for the function's failure handler.
        handler: what the user wrote: the function itself, or its failure handler.
        is_async: whether the function is `async def`.
        event: the triggering event, the first of a batch. Assignable in `transform_input`.
        events: all triggering events. Assignable in `transform_input`. `event` is an object of its
            own, not `events[0]`: change both.
        memos: the memoized step results by hashed id.
        memo_count: how many memos came with the request.
        consumed: hashed ids of the memos that the function has been handed so far, in order.
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
        "_attachments",
        "_contexts",
        "_dispatcher",
        "_ended",
        "_event_attachments",
        "_executing",
        "_headers",
        "_op_rules",
        "_portal",
        "_provided",
        "_replayed",
        "_thread",
        "app_id",
        "cancelled",
        "client",
        "consumed",
        "ctx",
        "failure",
        "function",
        "handler_kind",
        "is_async",
        "max_attempts",
        "memo_count",
        "memos",
        "raw_request",
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
        memos: Memos,
        max_attempts: int,
        target: str | None,
        is_async: bool,
        on_failure: bool,
        raw_request: object,
        headers: Mapping[str, str] | None,
    ) -> None:
        self._data = None
        self.client = client
        self.function = function
        self.ctx = ctx
        self.stack = stack
        self.memos = memos
        self.memo_count = len(memos)
        self.consumed: list[str] = []
        self._replayed: dict[str, StepInfo] = {}
        self.max_attempts = max_attempts
        self.target = target
        self.is_async = is_async
        self.handler_kind: Literal["main", "on_failure"] = "on_failure" if on_failure else "main"
        self.raw_request = raw_request
        self.app_id = client.app_id
        self.failure: BaseException | None = None
        self.cancelled = False
        self._headers = headers
        self._executing = False
        self._ended = False
        self._contexts: Opened = []
        self._provided: dict[str, str] | None = None
        self._op_rules: dict[str, tuple[frozenset[str], Exception]] | None = None
        self._attachments: dict[str, dict[str, Any]] | None = None
        self._event_attachments: dict[str, Any] | None = None
        self._dispatcher: Dispatcher | None = None
        self._portal: Portal | None = None
        self._thread = threading.get_ident()

    # ------------------------------------------------------------ the run

    @staticmethod
    def current() -> Call | None:
        """Return the call that the current code runs in, or None outside of a run.

        Works in the function's body, in steps and in hooks, sync and async, and in tasks and
        threads that were started with a copy of the context.
        """
        return current_call.get()

    @property
    def run_id(self) -> str:
        """ULID of the run."""
        return self.ctx.run_id

    @property
    def attempt(self) -> int:
        """Number of the attempt of the current job, from 0."""
        return self.ctx.attempt

    @property
    def is_final_attempt(self) -> bool:
        """Whether the engine will not try the current job again if it fails now."""
        return self.ctx.attempt + 1 >= self.max_attempts

    @property
    def function_id(self) -> str:
        """The engine's id of the function, `"<app>-<function>"`."""
        return self.function.id

    @property
    def local_id(self) -> str:
        """The id given to `create_function`."""
        return self.function.local_id

    @property
    def function_name(self) -> str:
        """The human-readable name of the function."""
        return self.function.name

    @property
    def handler(self) -> Callable[..., Any]:
        """What the user wrote: the function itself, or its failure handler."""
        return handler_of(self.function, on_failure=self.handler_kind == "on_failure")

    @property
    def event(self) -> inngest.Event:
        """The triggering event, the first of a batch."""
        return self.ctx.event

    @event.setter
    def event(self, value: inngest.Event) -> None:
        self.ctx.event = value

    @property
    def events(self) -> list[inngest.Event]:
        """All triggering events."""
        return self.ctx.events

    @events.setter
    def events(self, value: list[inngest.Event]) -> None:
        self.ctx.events = value

    @property
    def request_id(self) -> str | None:
        """The engine's id of this request; None under SDKs that do not hand it on."""
        request_id: str | None = getattr(self.ctx, "request_id", None)
        # Releases of the SDK before 0.5.19 do not pass it on.
        return request_id or self._engine_headers().get("x-request-id")

    @property
    def job_id(self) -> str | None:
        """The engine's id of the queue job; None under SDKs that do not hand it on."""
        job_id: str | None = getattr(self.ctx, "job_id", None)
        return job_id or self._engine_headers().get("x-inngest-job-id")

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
    def trace_headers(self) -> Mapping[str, str]:
        """The W3C headers `traceparent` and `tracestate` that the engine sent, if it did."""
        headers = self._engine_headers()
        return {name: headers[name] for name in _TRACE_HEADERS if name in headers}

    def _engine_headers(self) -> Mapping[str, str]:
        if self._headers is None:
            self._headers = engine_headers(self.raw_request)
        return self._headers

    # ------------------------------------------------------------ what plugins open

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context manager that is closed when the call ends, however it ends.

        Contexts are closed in reverse order, after the last hook. One that was entered while the
        function failed is closed with the exception; it cannot swallow it.

        Args:
            context: a sync context manager.

        Returns:
            What entering it returned.

        Raises:
            TypeError: it is an async context manager (use `await call.enter_async(...)`), or this
                is a thread that neither runs a sync function nor a hook of it.
            CallEndedError: the call is over.

        An `async def` hook of a sync function runs in another thread than the function, which
        enters the context meanwhile: context variables are set for the function, its steps and
        the hooks that follow, and not for the rest of that hook.
        """
        self._check_open("enter")
        if not hasattr(context, "__enter__"):
            advice = (
                "use `await call.enter_async(...)`"
                if self.is_async
                else "a sync function can only enter a sync one"
            )
            if hasattr(context, "__aenter__"):
                raise TypeError(f"{type(context).__name__} is an async context manager: {advice}")
            raise TypeError(f"{type(context).__name__} is no context manager")
        if self._portal is None or threading.get_ident() == self._thread:
            value = context.__enter__()
        else:
            try:
                # What it sets has to be there for the function, and to be undone where it was set.
                value = self._portal.in_function_thread(context.__enter__)
            except NotWaitingError:
                raise TypeError(
                    "call.enter was used from another thread than that of the sync function "
                    f"{self.function_id!r}: use it in the function or in a hook"
                ) from None
        self._contexts.append((self._running, context))
        return value

    async def enter_async(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter an async context manager that is closed when the call ends, however it ends.

        Args:
            context: an async context manager.

        Returns:
            What entering it returned.

        Raises:
            TypeError: the function is sync; enter a sync context manager with `enter`.
            CallEndedError: the call is over.
        """
        self._check_open("enter_async")
        if not self.is_async:
            raise TypeError(
                f"call.enter_async needs an async function, and {self.function_id!r} is sync: "
                "use call.enter with a sync context manager"
            )
        running = self._running
        value = await context.__aenter__()
        self._contexts.append((running, AsyncContext(context)))
        return value

    def set_context(self, variable: contextvars.ContextVar[T], value: T) -> None:
        """Set a context variable for the rest of the call; it is reset when the call ends.

        Args:
            variable: the variable.
            value: its value for the function, its steps and the hooks.
        """
        self.enter(_ContextVariable(variable, value))

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
                + ("it is no identifier" if not name.isidentifier() else "the SDK has it already")
            )
        if provided is None:
            provided = self._provided = {}
        provided[name] = who
        setattr(self.ctx, name, value)

    def require_op(self, hashed_id: str, ops: Collection[str], error: Exception) -> None:
        """Allow a memoized result for certain operations only.

        A request does not tell which operation a memo belongs to: that shows when the function
        reaches the step. If it is another one then, the run fails with the error, whatever the
        function would catch.

        Args:
            hashed_id: engine-side id of the step.
            ops: the opcodes that may be handed the result, as in `Step.op`.
            error: what to fail with.
        """
        if self._op_rules is None:
            self._op_rules = {}
        self._op_rules[hashed_id] = frozenset(ops), error

    def identity_of(self, hashed_id: str) -> tuple[str, int] | None:
        """Return what the user calls a step whose memo the function has been handed.

        Args:
            hashed_id: engine-side id of the step, such as `consumed` lists them.

        Returns:
            The step's id and how often that id had been used before, as `step.id` and
            `step.index`; None for a step that the function has not come to.
        """
        info = self._replayed.get(hashed_id)
        return None if info is None else identity_of(info)

    # ------------------------------------------------------------ attachments

    def attachment(self, hashed_id: str, key: str) -> Any:
        """Return what `outcome.attach(key, ...)` kept beside a memoized result, or None.

        Args:
            hashed_id: engine-side id of the step.
            key: the key it was attached under.
        """
        if self._attachments is None:
            return None
        return self._attachments.get(hashed_id, {}).get(key)

    def event_attachment(self, key: str) -> Any:
        """Return what `step.attach(key, ...)` sent along with the invoke of this run, or None.

        Args:
            key: the key it was attached under.
        """
        return None if self._event_attachments is None else self._event_attachments.get(key)

    @property
    def _running(self) -> BoundHook | None:
        return None if self._dispatcher is None else self._dispatcher.running

    def _check_open(self, method: str) -> None:
        if self._ended:
            raise CallEndedError(
                f"call.{method} was used after the request of run {self.run_id} had ended: "
                "nothing would close what it opens"
            )

    def __repr__(self) -> str:
        return f"<Call {self.function_id} run={self.run_id} attempt={self.attempt}>"


class AsyncContext:
    """Marks an async context manager among the contexts of a call."""

    __slots__ = ("context",)

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self.context = context


Opened: TypeAlias = "list[tuple[BoundHook | None, AbstractContextManager[Any] | AsyncContext]]"
"""Contexts to be closed, each with the hook that opened it, if a hook did."""


class _ContextVariable:
    """A context variable's value as a context manager."""

    __slots__ = ("token", "value", "variable")

    def __init__(self, variable: contextvars.ContextVar[T], value: T) -> None:
        self.variable = variable
        self.value = value
        self.token: contextvars.Token[Any] | None = None

    def __enter__(self) -> None:
        self.token = self.variable.set(self.value)

    def __exit__(self, *_: object) -> None:
        if self.token is not None:
            self.variable.reset(self.token)


def engine_headers(raw_request: object) -> dict[str, str]:
    """Read what a call needs of the engine's headers off whatever a framework calls a request.

    A `connect` worker gets no HTTP request but a protobuf message, whose `system_trace_ctx` is the
    same headers as a JSON object.
    """
    try:
        carrier = getattr(raw_request, "system_trace_ctx", None)
        headers = getattr(raw_request, "headers", None)
    except RuntimeError:
        # Flask's request is a proxy, which means nothing in the SDK's pool threads.
        return {}
    if isinstance(carrier, bytes):
        return _from_carrier(carrier)
    if headers is None and isinstance(raw_request, Mapping):
        event: Any = raw_request.get("http", raw_request)
        headers = event.get("headers") if isinstance(event, Mapping) else None
    if headers is None or not hasattr(headers, "get"):
        return {}
    found = ((name, headers.get(name)) for name in _HEADERS)
    return {name: value for name, value in found if isinstance(value, str) and value}


def _from_carrier(carrier: bytes) -> dict[str, str]:
    try:
        parsed = json.loads(carrier or b"{}")
    except ValueError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    lowered = {str(name).lower(): value for name, value in parsed.items()}
    return {n: lowered[n] for n in _TRACE_HEADERS if isinstance(lowered.get(n), str)}
