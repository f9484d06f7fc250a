"""`on_register`: once for each plugin and client, before anything else of the plugin runs."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import inngest

from inngest_plugins.core.stack.stack import BoundHook, Stack, StackEntry

from .dispatch import Dispatcher, OnError, Sequence


def _running() -> Future[None]:
    future: Future[None] = Future()
    # One that runs cannot be cancelled by those who wait for it.
    future.set_running_or_notify_cancel()
    return future


@dataclass(eq=False, repr=False, slots=True)
class _Meeting:
    """A plugin that has met a client, or is about to.

    Attributes:
        plugin: the plugin; another one may get its `id()` when it is gone.
        ended: done when `on_register` has run, whether it failed or not.
    """

    plugin: weakref.ref[StackEntry]
    ended: Future[None] = field(default_factory=_running)


_of_client: Final[weakref.WeakKeyDictionary[inngest.Inngest, dict[int, _Meeting]]] = (
    weakref.WeakKeyDictionary()
)
_lock: Final = threading.Lock()
_registering: Final[ContextVar[tuple[_Meeting, ...]]] = ContextVar(
    "inngest_plugins_registering", default=()
)
"""The meetings that the current code is a part of: an `on_register` may send events."""


def meet(
    client: inngest.Inngest,
    stack: Stack,
    dispatcher: Dispatcher,
    on_error: OnError,
    *,
    is_async: bool,
) -> Sequence:
    """Run `on_register` of plugins that are new to a client; wait where another request does.

    A plugin that fails closed, or is interrupted, is new again afterwards.

    Args:
        client: the client.
        stack: the plugins.
        dispatcher: calls the hooks.
        on_error: judges what a hook raised.
        is_async: whether the request or the send is.
    """
    by_owner: dict[int, list[BoundHook]] = {}
    for bound in stack.hooks["on_register"]:
        by_owner.setdefault(id(bound.owner), []).append(bound)
    for hooks in by_owner.values():
        owner = hooks[0].owner
        meeting, is_new = _begin(client, owner)
        while not is_new and not meeting.ended.done() and _may_wait(meeting, is_async=is_async):
            yield _end_of(meeting)
            meeting, is_new = _begin(client, owner)
        if is_new:
            yield from _register(client, tuple(hooks), meeting, dispatcher, on_error)


def _begin(client: inngest.Inngest, plugin: StackEntry) -> tuple[_Meeting, bool]:
    """Return the meeting of a plugin and a client, and whether it has just been made."""
    with _lock:
        meetings = _of_client.setdefault(client, {})
        known = meetings.get(id(plugin))
        if known is not None and known.plugin() is plugin:
            return known, False
        made = meetings[id(plugin)] = _Meeting(weakref.ref(plugin))
        return made, True


def _may_wait(meeting: _Meeting, *, is_async: bool) -> bool:
    if meeting in _registering.get():
        return False
    if is_async:
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    # A sync send in the thread of an event loop, which may be the loop that has to go on.
    return False


async def _end_of(meeting: _Meeting) -> None:
    await asyncio.wrap_future(meeting.ended)


def _register(
    client: inngest.Inngest,
    hooks: tuple[BoundHook, ...],
    meeting: _Meeting,
    dispatcher: Dispatcher,
    on_error: OnError,
) -> Sequence:
    has_failed = False

    def failed(bound: BoundHook, err: Exception) -> None:
        nonlocal has_failed
        has_failed = has_failed or bound.closed
        on_error(bound, err)

    token = _registering.set((*_registering.get(), meeting))
    try:
        yield from dispatcher.fire(hooks, (client,), failed)
    except BaseException:
        has_failed = True
        raise
    finally:
        if has_failed:
            with _lock:
                _of_client[client].pop(id(hooks[0].owner), None)
        # Before the variable: resetting raises in another context, which is where the collector
        # closes what an event loop has left behind.
        meeting.ended.set_result(None)
        _registering.reset(token)
