"""The middleware in the SDK's list, which passes the SDK's hooks on to the stack."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

import inngest

from inngest_plugins.core.data.call_identity import engine_headers
from inngest_plugins.core.data.records import recorder
from inngest_plugins.core.request.composition import compose, leads
from inngest_plugins.core.stack.list_entry import ListEntry
from inngest_plugins.core.stack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping


class SendTarget(Protocol):
    """Receives the SDK's hooks of a send from the middleware."""

    def on_before_send(self, events: list[inngest.Event]) -> Awaitable[None] | None:
        """Events are about to leave."""
        ...

    def on_after_send(self, result: inngest.SendEventsResult) -> Awaitable[None] | None:
        """Events have left, or failed to."""
        ...


class CallTarget(SendTarget, Protocol):
    """Receives all of the SDK's hooks from the middleware: the session of a call."""

    def on_transform_input(self) -> Awaitable[None] | None:
        """The request has arrived."""
        ...

    def on_before_execution(self) -> Awaitable[None] | None:
        """The last memo was consumed."""
        ...

    def on_after_execution(self) -> Awaitable[None] | None:
        """The function returned or was interrupted."""
        ...

    def on_transform_output(self, result: inngest.TransformOutputResult) -> Awaitable[None] | None:
        """There is a result."""
        ...

    def on_before_response(self) -> Awaitable[None] | None:
        """The answer is ready."""
        ...


sending: contextvars.ContextVar[SendTarget | None] = contextvars.ContextVar(
    "inngest_plugins_sending", default=None
)
"""The `client.send` that is going on, for the middleware that the SDK builds for it."""


class StackMiddleware(inngest.MiddlewareSync):
    """One per request or send. Its hooks return an awaitable where one is needed.

    The SDK awaits what a hook returns for an async function and ignores it for a sync one, where
    the session never returns any.
    """

    def __init__(self, client: inngest.Inngest, raw_request: object) -> None:
        self.client = client
        self.raw_request = raw_request
        self.target: CallTarget | None = None
        # Pool threads do not inherit context variables: what was asked for is noted here.
        self.records = recorder.get()
        # Flask's request is a proxy that the SDK's pool threads cannot read: read it here.
        self.headers: Mapping[str, str] | None = (
            engine_headers(raw_request) if type(raw_request).__name__ == "LocalProxy" else None
        )

    def transform_input(self, ctx: Any, function: Any, steps: Any) -> Any:
        """Pass the hook on to the session."""
        if self.target is not None:
            return self.target.on_transform_input()
        return None

    def before_execution(self) -> Any:
        """Pass the hook on to the session."""
        if self.target is not None:
            return self.target.on_before_execution()
        return None

    def after_execution(self) -> Any:
        """Pass the hook on to the session."""
        if self.target is not None:
            return self.target.on_after_execution()
        return None

    def transform_output(self, result: inngest.TransformOutputResult) -> Any:
        """Pass the hook on to the session."""
        if self.target is not None:
            return self.target.on_transform_output(result)
        return None

    def before_response(self) -> Any:
        """Pass the hook on to the session."""
        if self.target is not None:
            return self.target.on_before_response()
        return None

    def before_send_events(self, events: list[inngest.Event]) -> Any:
        """Pass the hook on to the session, or to the send that is going on."""
        target: SendTarget | None = self.target or sending.get()
        return None if target is None else target.on_before_send(events)

    def after_send_events(self, result: inngest.SendEventsResult) -> Any:
        """Pass the hook on to the session, or to the send that is going on."""
        target: SendTarget | None = self.target or sending.get()
        return None if target is None else target.on_after_send(result)


class Inert(inngest.MiddlewareSync):
    """Stands in the SDK's list for every plugin but the first."""

    def __init__(self) -> None:
        """Make the only one: it has neither client nor request."""


INERT = Inert()


class StackEntrance:
    """Gives each entry of `middleware=[...]` its middleware for one request or send.

    The first entry of a client's list carries the whole stack. The others are inert, so that each
    costs no more than the SDK's own loop.
    """

    def join(
        self, entry: ListEntry, client: inngest.Inngest, raw_request: object
    ) -> inngest.MiddlewareSync:
        """Return the middleware of one entry."""
        return StackMiddleware(client, raw_request) if leads(entry, client) else INERT

    def stack_of(self, client: inngest.Inngest, function: inngest.Function[Any] | None) -> Stack:
        """Return the stack of a client or of one of its functions."""
        return compose(client, function).stack
