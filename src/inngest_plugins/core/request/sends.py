"""One `client.send` or `step.send_event`, with the hooks around it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

import inngest

from inngest_plugins.core.base.safe_text import class_name, safe_text
from inngest_plugins.core.base.sync_async import Portal, start_async
from inngest_plugins.core.data.send import Send
from inngest_plugins.core.stack.stack import BoundHook

from .dispatch import Dispatcher, Sequence


class SendRefused(BaseException):
    """Carries a plugin's exception out of `client.send`.

    The oldest supported SDKs drop an `Exception` of `before_send_events` there and send the events
    all the same.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class SendSession:
    """Takes a send's hooks to the stack.

    Attributes:
        send: what the hooks see.
        portal: runs `async def` hooks of a sync send; None for an async one.
    """

    def __init__(
        self, send: Send, dispatcher: Dispatcher, portal: Portal | None, *, in_step: bool = False
    ) -> None:
        self.send = send
        self.portal = portal
        self._in_step = in_step
        self._dispatcher = dispatcher
        self._is_open = False
        self._failed_at = 0

    def on_before_send(self, events: list[inngest.Event]) -> Awaitable[None] | None:
        """Run `before_send_events`, and put the events as the plugins left them into the list."""
        return self._start(self._before(events))

    def on_after_send(self, result: inngest.SendEventsResult) -> Awaitable[None] | None:
        """Run `after_send_events`."""
        return self._start(self.after(ids=result.ids, error=result.error))

    def after(self, *, ids: list[str], error: str | None) -> Sequence:
        """Run `after_send_events`, unless the send never began or it ran already."""
        if not self._is_open:
            return
        self._is_open = False
        self.send.ids, self.send.error = list(ids), error
        hooks = self.send.stack.hooks["after_send_events"]
        if self._failed_at:
            hooks = tuple(bound for bound in hooks if bound.index >= self._failed_at)
        # Never raised: the events are out, and a retry would send them once more.
        yield from self._dispatcher.fire(hooks, (self.send,), self._dispatcher.ignored)

    def abandon(self, error: BaseException) -> Sequence:
        """The events were not sent; run `after_send_events` where its opening hook ran."""
        yield from self.after(ids=[], error=f"{class_name(error)}: {safe_text(error)}")

    def meet(self) -> Sequence:
        """Run `on_register` of plugins that are new to the client."""
        send = self.send
        if send.stack.hooks["on_register"]:
            from .meeting import meet

            is_async = self.portal is None
            yield from meet(
                send.client, send.stack, self._dispatcher, self._failed, is_async=is_async
            )

    def _before(self, events: list[inngest.Event]) -> Sequence:
        self._is_open = True
        self.send.events = events
        try:
            yield from self._dispatcher.fire(
                self.send.stack.hooks["before_send_events"], (self.send,), self._failed_before
            )
        except Exception as err:
            yield from self.abandon(err)
            if self._in_step:
                raise
            raise SendRefused(err) from None
        if self.send.events is not events:
            events[:] = self.send.events

    def _failed_before(self, bound: BoundHook, err: Exception) -> None:
        if bound.closed:
            # Innermost first: what lies further out was not reached.
            self._failed_at = bound.index
        self._failed(bound, err)

    def _failed(self, bound: BoundHook, err: Exception) -> None:
        if bound.closed:
            raise err
        self._dispatcher.ignored(bound, err)

    def _start(self, sequence: Sequence) -> Awaitable[None] | None:
        if self.portal is None:
            return start_async(sequence)
        self.portal.run(sequence)
        return None


def copied(events: inngest.Event | list[inngest.Event]) -> list[inngest.Event]:
    """Return copies that plugins may edit freely; the caller's objects stay as they are."""
    if not isinstance(events, list):
        events = [events]
    return [event.model_copy(update={"data": _deep(event.data)}) for event in events]


_DEEPEST: Final = 256
"""Levels of nesting that the SDK sends at most. What goes deeper, as a cycle does, it refuses."""


def _deep(value: Any, level: int = 0) -> Any:
    if level > _DEEPEST:
        return value
    if isinstance(value, dict):
        return {key: _deep(item, level + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_deep(item, level + 1) for item in value]
    return value
