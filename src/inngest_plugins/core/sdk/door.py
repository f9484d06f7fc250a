"""The one door to the SDK: everything the core needs of `inngest` that its public names lack.

No other module of the project imports `inngest._internal` or reads a private attribute of one of
its objects. The repository's tests pin every name used here against the oldest and the newest
supported release.

What is needed, and why the public names do not do:

* A place *around* a call. The SDK's hooks end with the response, so that a cancelled task or a
  raising neighbour leaves everything open, and its pool threads keep context variables from one
  run to the next. `Function.call` and `Function.call_sync` are wrapped for that (`install`).
* A place around a send. `before_send_events` cannot tell an async send from a sync one, works on
  the caller's own objects, and is not paired with `after_send_events` when the engine is away.
  `Inngest.send` and `Inngest.send_sync` are wrapped for that.
* The moment a step is reached, with its engine-side id: the execution's `report_step`.
* What the function gave a step: `report_step` gets neither the arguments of a handler nor the
  function object of an invoke, so that the tools of `ctx.step` are wrapped.
* Memos by id, and a constant-time lookup for them: `StepMemos._memos` and `pop`.
* The operation of a result: `CallResult.multi[0].step.op`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, cast

import inngest
from inngest._internal import errors, execution_lib, server_lib, step_lib, types
from inngest._internal.execution_lib import models as execution_models
from inngest._internal.middleware_lib import MiddlewareManager
from inngest._internal.middleware_lib.manager import DEFAULT_CLIENT_MIDDLEWARE
from inngest._internal.step_lib import base as step_base

CallResult = execution_lib.CallResult
ReportedStepSync = execution_models.ReportedStepSync
StepInfo = step_lib.StepInfo
Output = step_base.Output
MemoizedError = step_base.MemoizedError
ResponseInterrupt = step_lib.ResponseInterrupt
NestedStepInterrupt = step_base.NestedStepInterrupt
Manager = MiddlewareManager
AnyContext = execution_lib.Context | execution_lib.ContextSync

EMPTY: Final = types.empty_sentinel
"""The SDK's mark for a missing value, as None is a value."""

DEFAULT_RETRIES: Final = 4
"""What the engine allows a function that names no `retries` (SDK_SPEC, function configuration)."""


_CHAIN: Final = (BaseException.__dict__["__context__"], BaseException.__dict__["__cause__"])
"""The context and the cause of an exception, read past any property of its class."""

_RAN: Final = frozenset(
    {server_lib.Opcode.STEP_RUN, server_lib.Opcode.STEP_ERROR, server_lib.Opcode.STEP_FAILED}
)


def is_retriable(error: BaseException) -> bool:
    """Return whether the SDK lets the engine try again after this error.

    True for an error whose own `is_retriable` raises.
    """
    try:
        return not isinstance(error, Exception) or errors.is_retriable(error) is not False
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a property of a class of the user
        return True


def is_interrupt(error: BaseException) -> bool:
    """Return whether this is the SDK's control flow and no failure."""
    return issubclass(
        type(error),
        (step_lib.ResponseInterrupt, step_lib.SkipInterrupt, step_lib.NestedStepInterrupt),
    )


# ---------------------------------------------------------------- the request


def job_of(
    ctx: AnyContext, function: inngest.Function[Any], *, on_failure: bool
) -> tuple[str | None, int]:
    """Return the hashed id of the step that the engine targets or None, and its attempts.

    Returns:
        The target, and how many attempts the engine allows the current job.
    """
    execution: Any = ctx.step._execution
    sent: int | None = execution._request.ctx.max_attempts
    if sent is None:
        retries = 0 if on_failure else function._opts.retries
        sent = (DEFAULT_RETRIES if retries is None else retries) + 1
    return execution._target_hashed_id, sent


def handler_of(function: inngest.Function[Any], *, on_failure: bool) -> Callable[..., Any]:
    """Return the user's function, or its failure handler."""
    return cast(
        "Callable[..., Any]", function._opts.on_failure if on_failure else function._handler
    )


def memos_of(ctx: AnyContext) -> dict[str, Output]:
    """Return the SDK's own dict of memos, keyed by hashed id."""
    memos: dict[str, Output] = ctx.step._execution._memos._memos  # type: ignore[union-attr]
    return memos


def use_constant_time_lookup(ctx: AnyContext) -> dict[str, Output]:
    """Give this request's memos a constant-time `pop`, and return the dict it works on.

    The SDK's `StepMemos.pop` copies the remaining dict for each step, which makes a request
    quadratic in its memos. This one removes the entry in place; what it returns is the same.
    """
    steps = ctx.step._execution._memos  # type: ignore[union-attr]
    memos: dict[str, Output] = dict(steps._memos)

    def pop(hashed_id: str) -> Output | types.EmptySentinel:
        return memos.pop(hashed_id, EMPTY)

    steps._memos = memos
    steps.pop = pop
    return memos


class _NoSignal:
    """A future that nobody waits for."""

    def set_result(self, result: object) -> None: ...


class UnsignalledStep(execution_lib.ReportedStep):
    """The object for a step of an async function, without the two futures that the SDK makes.

    Nothing awaits them, and they are a good part of what a step costs.
    """

    _done_signal = _NoSignal()  # type: ignore[assignment]

    def __init__(self, info: StepInfo) -> None:
        self.error: inngest.StepError | None = None
        self.info = info
        self.output: object = EMPTY
        self.skip = False


class ReplayedStep(UnsignalledStep):
    """The object for a step of an async function that has a memo."""

    def __init__(self, info: StepInfo, memo: Output) -> None:
        super().__init__(info)
        error = memo.error
        if error is None:
            self.output = memo.data
        else:
            self.error = inngest.StepError(
                message=error.message, name=error.name, stack=error.stack
            )


def before_execution_of(ctx: AnyContext) -> Callable[[], Awaitable[object]]:
    """Return what the execution awaits when an async function reaches its last memo."""
    manager: Manager = ctx.step._execution._middleware  # type: ignore[union-attr]
    return manager.before_execution


def replace_report_step(ctx: AnyContext, wrap: Callable[[Any], Any]) -> None:
    """Put a wrapper in front of this request's `report_step`.

    Args:
        ctx: the context of this request.
        wrap: given the original (a coroutine function for an async function), returns the new.
    """
    execution = ctx.step._execution
    execution.report_step = wrap(execution.report_step)  # type: ignore[method-assign]


def replace_tool(ctx: AnyContext, name: str, wrap: Callable[[Any], Any]) -> None:
    """Put a wrapper in front of a method of this request's `ctx.step`.

    The SDK's own tools use each other's wrappers: `send_event` is a `run`, `sleep` a `sleep_until`.
    """
    setattr(ctx.step, name, wrap(getattr(ctx.step, name)))


def is_race(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Return whether a `group.parallel` that is called with this goes on as each member ends."""
    mode = args[0] if args else options.get("parallel_mode")
    return getattr(mode, "value", None) == "race"


def replace_parallel(ctx: AnyContext, wrap: Callable[[Any], Any]) -> None:
    """Put a wrapper in front of this request's `ctx.group.parallel`."""
    ctx.group.parallel = wrap(ctx.group.parallel)  # type: ignore[method-assign]


def identity_of(info: StepInfo) -> tuple[str, int]:
    """Return the id that the user gave a step, and how often it had been used before.

    Older SDKs have no field for the latter: their display name of a reused id is `"<id>:<n>"`.
    """
    userland = getattr(info, "userland", None)
    if userland is not None:
        return info.display_name, userland.index or 0
    step_id, _, number = info.display_name.rpartition(":")
    if step_id and number.isdecimal():
        return step_id, int(number)
    return info.display_name, 0


def has_run(op: server_lib.Opcode) -> bool:
    """Return whether a result is that of a step whose handler ran, well or not."""
    return op in _RAN


def was_called(ctx: AnyContext) -> bool:
    """Return whether the SDK has called the function: all middleware has let the request in.

    No hook tells a function that raised at once from one that was never called because middleware
    behind ours refused the input. The SDK measures the time that it takes.
    """
    timing = ctx.step._execution._timings.function  # type: ignore[union-attr]
    return timing._start_counter is not None


def status_of(
    ctx: AnyContext, info: StepInfo
) -> Literal["running", "planned", "waiting", "skipped"]:
    """Return what the SDK will do with a step without a memo, by the rules of its `report_step`."""
    execution = ctx.step._execution
    target: str | None = execution._target_hashed_id  # type: ignore[union-attr]
    if target is not None and target != info.id:
        return "skipped"
    if info.op is not server_lib.Opcode.STEP_RUN:
        return "waiting"
    if target is None and (
        step_lib.in_parallel.get() or execution._request.ctx.disable_immediate_execution is True
    ):
        return "planned"
    return "running"


def output_of(client: inngest.Inngest, info: StepInfo, value: object) -> BaseException:
    """Make the exception by which the SDK takes a value for what a step's handler returned."""
    output = client._serialize(value, types.EmptySentinel)
    return step_lib.ResponseInterrupt(step_lib.StepResponse(output=output, step=info))


def error_of(ctx: AnyContext, info: StepInfo, error: Exception) -> BaseException:
    """Make the exception by which the SDK takes an error for what a step's handler raised."""
    if isinstance(error, (errors.NonRetriableError, errors.RetryAfterError)):
        # The SDK lets these two pass on to the function.
        return error
    sent = ctx.step._execution._request.ctx
    last = sent.max_attempts is not None and sent.attempt + 1 >= sent.max_attempts
    info.op = server_lib.Opcode.STEP_FAILED if last else server_lib.Opcode.STEP_ERROR
    return step_lib.ResponseInterrupt(step_lib.StepResponse(original_error=error, step=info))


def in_parallel() -> bool:
    """Return whether the code runs inside `group.parallel`."""
    return step_lib.in_parallel.get()


def nested_step_error() -> Exception:
    """Make the error by which the SDK fails a step in whose handler another step is called."""
    return errors.CodedError(
        server_lib.ErrorCode.STEP_NESTED, "Nested steps are not supported.", is_retriable=False
    )


def interrupt_at(info: StepInfo) -> BaseException:
    """Make the exception that ends the handler's code here, past any `except Exception`."""
    return step_lib.ResponseInterrupt(step_lib.StepResponse(step=info))


def forget_interrupts(error: BaseException | None) -> None:
    """Cut the SDK's control flow out of what an exception says it happened during.

    An exception that a plugin or middleware raises while the SDK handles a step's interrupt has
    that interrupt as its context, and its text is the step's output in the clear. The traceback
    that is sent as the error's stack, or reported elsewhere, would carry it along.
    """
    found = [error]
    seen: set[int] = set()
    while found:
        current = found.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        for slot in _CHAIN:
            linked = slot.__get__(current)
            if linked is not None and is_interrupt(linked):
                slot.__set__(current, None)
            else:
                found.append(linked)


def error_in(interrupt: BaseException | None) -> BaseException | None:
    """Return what a step's handler raised, given what came out of the step's `with` block."""
    if isinstance(interrupt, step_lib.ResponseInterrupt):
        error = interrupt.responses[0].original_error if interrupt.responses else None
        return error if isinstance(error, BaseException) else None
    return interrupt


# ---------------------------------------------------------------- the result


def settle(result: CallResult, *, is_final_attempt: bool) -> None:
    """Make the operation of a step that ran agree with the result that middleware left it with.

    The SDK sends the opcode it had chosen before: a value with an error set later, or a failure
    without an error.

    Args:
        result: what `Function.call` returned.
        is_final_attempt: whether the engine has no attempt left.
    """
    for item in result.multi or [result]:
        if item.error is not None:
            forget_interrupts(item.error)
        if item.step is None or not has_run(item.step.op):
            continue
        if item.error is None:
            if item.step.op is not server_lib.Opcode.STEP_RUN:
                item.step.op = server_lib.Opcode.STEP_RUN
        elif item.step.op is server_lib.Opcode.STEP_RUN:
            final = is_final_attempt or not is_retriable(item.error)
            item.output = EMPTY
            item.step.op = server_lib.Opcode.STEP_FAILED if final else server_lib.Opcode.STEP_ERROR


def put_outcome(
    result: inngest.TransformOutputResult,
    *,
    output: object,
    error: Exception | None,
    before: Exception | None,
) -> None:
    """Write an outcome as the plugins left it into the SDK's result, for the next middleware.

    Args:
        result: the result.
        output: the value to leave, used where there is no error.
        error: the error to leave, or None.
        before: the error that the plugins were shown, or None.
    """
    if error is not before:
        result.error = error
    if error is None:
        result.output = output
    elif before is None:
        result.output = EMPTY


def failed(error: Exception) -> CallResult:
    """Make the result of a call whose function failed with `error`."""
    return CallResult(error)


def middleware_of(function: inngest.Function[Any]) -> list[Any]:
    """Return a function's own `middleware=[...]`."""
    return function._middleware


def entries_of(manager: Manager) -> list[Any]:
    """Return the request's middleware, as a list that may be changed."""
    return manager._middleware


def stand_aside(manager: Manager, function: inngest.Function[Any], ours: tuple[type, ...]) -> bool:
    """Take our middleware out of a request that has no other; return whether it went.

    The SDK calls each middleware at each of its hooks.

    Args:
        manager: the request's middleware.
        function: the function that is called.
        ours: the classes of our middleware.
    """
    if function._middleware:
        return False
    others = [entry for entry in manager._middleware if type(entry) not in ours]
    if len(others) > len(DEFAULT_CLIENT_MIDDLEWARE):
        return False
    manager._middleware = others
    return True


def raw_request_of(manager: Manager) -> object:
    """Return what the web framework gave for this request."""
    return manager._raw_request
