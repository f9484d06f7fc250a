"""Where the SDK's calls and sends enter the core."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import inngest

from . import _sdk
from ._bridge import Bridge, sending
from ._call import Call, current_call, current_step
from ._call_session import CallSession
from ._composition import compose, unmet
from ._dispatch import Dispatcher
from ._drive import Portal, run_async
from ._memos import Memos
from ._records import recorder
from ._send import Send
from ._send_session import SendRefused, SendSession, copied
from ._stack import Stack

Events = inngest.Event | list[inngest.Event]

_CLOSING_SECONDS = 10
"""How long a cancelled request may take to close what its plugins opened."""


def call(
    original: Callable[..., Awaitable[_sdk.CallResult]],
    function: inngest.Function[Any],
    client: inngest.Inngest,
    ctx: inngest.Context,
    fn_id: str,
    middleware: _sdk.Manager,
) -> Awaitable[_sdk.CallResult]:
    """`Function.call`: one request of an async function."""
    try:
        stack = compose(client, function).stack
    except Exception as err:
        return _answer(_sdk.failed(err))
    if not stack.plugins:
        return original(function, client, ctx, fn_id, middleware)
    return _call(original, stack, function, client, ctx, fn_id, middleware)


async def _answer(result: _sdk.CallResult) -> _sdk.CallResult:
    return result


async def _call(
    original: Callable[..., Awaitable[_sdk.CallResult]],
    stack: Stack,
    function: inngest.Function[Any],
    client: inngest.Inngest,
    ctx: inngest.Context,
    fn_id: str,
    middleware: _sdk.Manager,
) -> _sdk.CallResult:
    session = _open(stack, function, client, ctx, fn_id, middleware, portal=None)
    _sdk.replace_report_step(ctx, session.steps.report_async)
    if stack.sends:
        _sdk.replace_send_event(ctx, _copying_async(session))
    token = current_call.set(session.call)
    try:
        result = await original(function, client, ctx, fn_id, middleware)
        settled: _sdk.CallResult = await run_async(session.finish(result))
    except BaseException as err:
        with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
            await run_async(session.abandon(err))
        raise
    finally:
        current_call.reset(token)
    return settled


def call_sync(
    original: Callable[..., _sdk.CallResult],
    function: inngest.Function[Any],
    client: inngest.Inngest,
    ctx: inngest.ContextSync,
    fn_id: str,
    middleware: _sdk.Manager,
) -> _sdk.CallResult:
    """`Function.call_sync`: one request of a sync function.

    It runs in a copy of the context: the SDK's pool threads, and the threads of a WSGI server,
    would carry what plugins set into the next run.
    """
    try:
        stack = compose(client, function).stack
    except Exception as err:
        return _sdk.failed(err)
    if not stack.plugins:
        return original(function, client, ctx, fn_id, middleware)
    return contextvars.copy_context().run(
        _call_sync, original, stack, function, client, ctx, fn_id, middleware
    )


def _call_sync(
    original: Callable[..., _sdk.CallResult],
    stack: Stack,
    function: inngest.Function[Any],
    client: inngest.Inngest,
    ctx: inngest.ContextSync,
    fn_id: str,
    middleware: _sdk.Manager,
) -> _sdk.CallResult:
    portal = Portal(stack.portals)
    try:
        session = _open(stack, function, client, ctx, fn_id, middleware, portal=portal)
        _sdk.replace_report_step(ctx, session.steps.report_sync)
        if stack.sends:
            _sdk.replace_send_event(ctx, _copying_sync(session, portal))
        current_call.set(session.call)
        try:
            result = original(function, client, ctx, fn_id, middleware)
            settled: _sdk.CallResult = portal.run(session.finish(result))
        except BaseException as err:
            portal.run(session.abandon(err))
            raise
        return settled
    finally:
        portal.close()


def _open(
    stack: Stack,
    function: inngest.Function[Any],
    client: inngest.Inngest,
    ctx: _sdk.AnyContext,
    fn_id: str,
    middleware: _sdk.Manager,
    *,
    portal: Portal | None,
) -> CallSession:
    entries = _sdk.entries_of(middleware)
    for entry in entries:
        if type(entry) is Bridge:
            bridge = entry
            break
    else:
        # Only the function's own list names plugins: the stack stands at the head of that list.
        bridge = Bridge(client, _sdk.raw_request_of(middleware))
        entries.append(bridge)
    on_failure = fn_id != function.id and fn_id == function.on_failure_fn_id
    memos = _sdk.use_constant_time_lookup(ctx) if stack.constant_time_memos else _sdk.memos_of(ctx)
    call = Call(
        client=client,
        function=function,
        ctx=ctx,
        stack=stack,
        memos=Memos(memos),
        max_attempts=_sdk.max_attempts_of(ctx, function, on_failure=on_failure),
        target=_sdk.target_of(ctx),
        is_async=portal is None,
        on_failure=on_failure,
        raw_request=bridge.raw_request,
        headers=bridge.headers,
    )
    records = recorder.get()
    if records is None:
        records = bridge.records
    session = CallSession(
        call, Dispatcher(call, records, secret=stack.secret_payloads), memos, portal
    )
    bridge.target = session
    _sdk.notice_start(middleware, session.started, is_async=portal is None)
    return session


def _copying_async(session: CallSession) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        async def send_event(step_id: str, events: Events) -> list[str]:
            try:
                ids: list[str] = await original(step_id, copied(events))
            except BaseException as err:
                with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
                    await run_async(session.abandon_send(err))
                raise
            return ids

        return send_event

    return wrap


def _copying_sync(session: CallSession, portal: Portal) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def send_event(step_id: str, events: Events) -> list[str]:
            try:
                ids: list[str] = original(step_id, copied(events))
            except BaseException as err:
                portal.run(session.abandon_send(err))
                raise
            return ids

        return send_event

    return wrap


async def send(
    original: Callable[..., Awaitable[list[str]]],
    client: inngest.Inngest,
    events: Events,
    *,
    skip_middleware: bool = False,
) -> list[str]:
    """`Inngest.send`."""
    stack = None if skip_middleware else compose(client).stack
    if stack is None or not stack.sends:
        return await original(client, events, skip_middleware=skip_middleware)
    if current_call.get() is not None:
        return await _send(original, stack, client, events)
    # In a task of its own, so that what the plugins set stays out of the caller's context. A run
    # has one already.
    return await asyncio.create_task(_send(original, stack, client, events))


async def _send(
    original: Callable[..., Awaitable[list[str]]],
    stack: Stack,
    client: inngest.Inngest,
    events: Events,
) -> list[str]:
    session = _open_send(client, stack, portal=None)
    token = sending.set(session)
    try:
        await run_async(session.meet(unmet(client, stack)))
        return await original(client, copied(events))
    except SendRefused as err:
        refused = err.error
    except BaseException as err:
        with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
            await run_async(session.abandon(err))
        raise
    finally:
        sending.reset(token)
    raise refused


def send_sync(
    original: Callable[..., list[str]],
    client: inngest.Inngest,
    events: Events,
    *,
    skip_middleware: bool = False,
) -> list[str]:
    """`Inngest.send_sync`."""
    stack = None if skip_middleware else compose(client).stack
    if stack is None or not stack.sends:
        return original(client, events, skip_middleware=skip_middleware)
    if current_call.get() is not None:
        return _send_sync(original, stack, client, events)
    return contextvars.copy_context().run(_send_sync, original, stack, client, events)


def _send_sync(
    original: Callable[..., list[str]], stack: Stack, client: inngest.Inngest, events: Events
) -> list[str]:
    portal = Portal(stack.portals)
    session = _open_send(client, stack, portal=portal)
    token = sending.set(session)
    try:
        portal.run(session.meet(unmet(client, stack)))
        return original(client, copied(events))
    except SendRefused as err:
        refused = err.error
    except BaseException as err:
        portal.run(session.abandon(err))
        raise
    finally:
        sending.reset(token)
        portal.close()
    raise refused


def _open_send(client: inngest.Inngest, stack: Stack, *, portal: Portal | None) -> SendSession:
    run = current_call.get()
    send = Send([], call=run, step=current_step.get(), client=client, stack=stack)
    return SendSession(send, Dispatcher(run, recorder.get(), secret=stack.secret_payloads), portal)


def install() -> None:
    """Put the core between the SDK and its calls and sends."""
    _sdk.install(call=call, call_sync=call_sync, send=send, send_sync=send_sync)
