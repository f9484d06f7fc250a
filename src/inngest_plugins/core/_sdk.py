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
* Memos by id, and a constant-time lookup for them: `StepMemos._memos` and `pop`.
* The operation of a result: `CallResult.multi[0].step.op`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, cast

import httpx
import inngest
from inngest._internal import client_lib, errors, execution_lib, net, server_lib, step_lib, types
from inngest._internal import function as function_lib
from inngest._internal.middleware_lib import MiddlewareManager
from inngest._internal.step_lib import base as step_base

CallResult = execution_lib.CallResult
StepInfo = step_lib.StepInfo
Output = step_base.Output
MemoizedError = step_base.MemoizedError
ResponseInterrupt = step_lib.ResponseInterrupt
Manager = MiddlewareManager
AnyContext = execution_lib.Context | execution_lib.ContextSync

EMPTY: Final = types.empty_sentinel
"""What the SDK puts where there is no value, as None is a value."""

DEFAULT_RETRIES: Final = 4
"""What the engine allows a function that names no `retries` (SDK_SPEC, function configuration)."""


_RAN: Final = frozenset(
    {server_lib.Opcode.STEP_RUN, server_lib.Opcode.STEP_ERROR, server_lib.Opcode.STEP_FAILED}
)


def is_retriable(error: BaseException) -> bool:
    """Tell whether the SDK lets the engine try again after this error."""
    return not isinstance(error, Exception) or errors.is_retriable(error)


def is_interrupt(error: BaseException) -> bool:
    """Tell whether this is the SDK's control flow and no failure."""
    return isinstance(
        error, (step_lib.ResponseInterrupt, step_lib.SkipInterrupt, step_lib.NestedStepInterrupt)
    )


# ---------------------------------------------------------------- the request


def target_of(ctx: AnyContext) -> str | None:
    """Return the hashed id of the step that the engine targets, or None."""
    target: str | None = ctx.step._execution._target_hashed_id  # type: ignore[union-attr]
    return target


def max_attempts_of(ctx: AnyContext, function: inngest.Function[Any], *, on_failure: bool) -> int:
    """Return how many attempts the engine allows the current job."""
    sent: int | None = ctx.step._execution._request.ctx.max_attempts
    if sent is not None:
        return sent
    if on_failure:
        return 1
    retries = function._opts.retries
    return (DEFAULT_RETRIES if retries is None else retries) + 1


def handler_of(function: inngest.Function[Any], *, on_failure: bool) -> Callable[..., Any]:
    """Return what the user gave: the function itself, or its failure handler."""
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


class ReplayedStep(execution_lib.ReportedStep):
    """What an async function's `step` gets for a step that has a memo.

    The SDK makes two futures for each, a good part of what replaying a step costs; nothing awaits
    them.
    """

    _done_signal = _NoSignal()  # type: ignore[assignment]

    def __init__(self, info: StepInfo, memo: Output) -> None:
        self.error: inngest.StepError | None = None
        self.info = info
        self.output: object = EMPTY
        self.skip = False
        error = memo.error
        if error is None:
            self.output = memo.data
        else:
            self.error = inngest.StepError(
                message=error.message, name=error.name, stack=error.stack
            )


def before_execution_of(ctx: AnyContext) -> Callable[[], Awaitable[object]]:
    """Return what the execution awaits when an async function comes to its last memo."""
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


def replace_send_event(ctx: AnyContext, wrap: Callable[[Any], Any]) -> None:
    """Put a wrapper in front of this request's `ctx.step.send_event`."""
    ctx.step.send_event = wrap(ctx.step.send_event)  # type: ignore[method-assign]


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
    """Tell whether a result is that of a step whose handler ran, well or not."""
    return op in _RAN


def notice_start(manager: Manager, started: Callable[[], None], *, is_async: bool) -> None:
    """Have `started` called when all of a request's middleware has let it in.

    The SDK calls the function next. No hook tells a function that raised at once from one that was
    never called because middleware behind ours refused the input.
    """
    if is_async:
        transform_input = manager.transform_input

        async def noticing(*args: Any) -> Exception | None:
            error = await transform_input(*args)
            if error is None:
                started()
            return error

        manager.transform_input = noticing  # type: ignore[method-assign, assignment]
    else:
        transform_input_sync = manager.transform_input_sync

        def noticing_sync(*args: Any) -> Exception | None:
            error = transform_input_sync(*args)
            if error is None:
                started()
            return error

        manager.transform_input_sync = noticing_sync  # type: ignore[method-assign, assignment]


def in_parallel() -> bool:
    """Tell whether the code runs inside `group.parallel`."""
    return step_lib.in_parallel.get()


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
        if current.__context__ is not None and is_interrupt(current.__context__):
            current.__context__ = None
        if current.__cause__ is not None and is_interrupt(current.__cause__):
            current.__cause__ = None
        found += [current.__context__, current.__cause__]


def error_in(interrupt: BaseException | None) -> BaseException | None:
    """Return what a step's handler raised, given what came out of the step's `with` block."""
    if isinstance(interrupt, step_lib.ResponseInterrupt):
        error = interrupt.responses[0].original_error if interrupt.responses else None
        return error if isinstance(error, BaseException) else None
    return interrupt


# ---------------------------------------------------------------- the result


def settle(result: CallResult, *, is_final_attempt: bool) -> None:
    """Make the operation of a step that ran agree with the result that middleware left it with.

    The SDK sends the opcode it had chosen before: a value beside an error set later, or a failure
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


def failed(error: Exception) -> CallResult:
    """Make the result of a call whose function failed with `error`."""
    return CallResult(error)


# ---------------------------------------------------------------- the wrappers

AroundCall = Callable[..., Any]
_installed: Final[list[tuple[type, str, Any]]] = []


def install(
    *,
    call: AroundCall,
    call_sync: AroundCall,
    send: AroundCall,
    send_sync: AroundCall,
) -> None:
    """Route the SDK's calls and sends through the core; done once, when the core is imported.

    Each wrapper is called with the original as its first argument, then with the original's own.
    """
    if _installed:
        return
    for owner, name, wrapper in (
        (function_lib.Function, "call", call),
        (function_lib.Function, "call_sync", call_sync),
        (client_lib.Inngest, "send", send),
        (client_lib.Inngest, "send_sync", send_sync),
    ):
        original = owner.__dict__[name]
        _installed.append((owner, name, original))
        setattr(owner, name, _wrapped(original, wrapper))


def uninstall() -> None:
    """Undo `install`; for tests that compare with the bare SDK."""
    while _installed:
        owner, name, original = _installed.pop()
        setattr(owner, name, original)


def _wrapped(original: Any, wrapper: AroundCall) -> Any:
    if inspect.iscoroutinefunction(wrapper):
        # Starlette's background tasks, for one, ask `client.send` whether it wants to be awaited.
        @functools.wraps(original)
        async def coroutine_method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await wrapper(original, self, *args, **kwargs)

        return coroutine_method

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(original, self, *args, **kwargs)

    return method


def middleware_of(function: inngest.Function[Any]) -> list[Any]:
    """Return a function's own `middleware=[...]`."""
    return function._middleware


def entries_of(manager: Manager) -> list[Any]:
    """Return the request's middleware, as a list that may be changed."""
    return manager._middleware


def raw_request_of(manager: Manager) -> object:
    """Return what the web framework gave for this request."""
    return manager._raw_request


# ---------------------------------------------------------------- HTTP


def send_authenticated(
    client: inngest.Inngest, method: str, url: str, *, timeout: float, **options: Any
) -> httpx.Response:
    """Send a request as the SDK does: its headers, its signing keys, the fallback key on a 401.

    Raises:
        httpx.HTTPError: no answer came.
    """
    http = client._http_client
    headers = net.create_headers(env=client.env, framework=None, server_kind=None)
    headers.update({name.lower(): value for name, value in options.pop("headers").items()})
    request = http.build_httpx_request(method, url, headers=headers, timeout=timeout, **options)
    response = net.fetch_with_auth_fallback_sync(
        http._http_client_sync,
        request,
        signing_key=client.signing_key,
        signing_key_fallback=client.signing_key_fallback,
    )
    if isinstance(response, Exception):
        # The SDK wraps what httpx raised in a plain Exception.
        cause = response.__cause__
        raise cause if isinstance(cause, httpx.HTTPError) else response
    return response


@contextlib.contextmanager
def transport_swapped(
    client: inngest.Inngest,
    transport: httpx.AsyncBaseTransport,
    transport_sync: httpx.BaseTransport,
) -> Iterator[None]:
    """Answer everything that a client sends from these transports while the context is open.

    Covers events, registration and state fetches, async and sync, and `EngineApi`.
    """
    http = client._http_client
    kept = http._http_client, http._http_client_sync
    replacement = type(kept[0])(transport=transport).initialize()
    # The SDK sends through the sync client when called from another thread than the one that
    # made the async client; both end at the same place here.
    http._http_client, http._http_client_sync = replacement, httpx.Client(transport=transport_sync)
    try:
        yield
    finally:
        http._http_client, http._http_client_sync = kept
