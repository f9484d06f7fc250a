"""The middleware that stands in the SDK's list and takes its hooks to the stack."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

import inngest

from ._call import engine_headers
from ._records import recorder

if TYPE_CHECKING:
    from collections.abc import Mapping


class SendTarget(Protocol):
    """What a bridge passes the SDK's hooks of a send on to."""

    def on_before_send(self, events: list[inngest.Event]) -> Awaitable[None] | None: ...
    def on_after_send(self, result: inngest.SendEventsResult) -> Awaitable[None] | None: ...


class CallTarget(SendTarget, Protocol):
    """What a bridge passes all of the SDK's hooks on to: the session of a call."""

    def on_transform_input(self) -> Awaitable[None] | None: ...
    def on_before_execution(self) -> Awaitable[None] | None: ...
    def on_after_execution(self) -> Awaitable[None] | None: ...
    def on_transform_output(
        self, result: inngest.TransformOutputResult
    ) -> Awaitable[None] | None: ...
    def on_before_response(self) -> Awaitable[None] | None: ...


sending: contextvars.ContextVar[SendTarget | None] = contextvars.ContextVar(
    "inngest_plugins_sending", default=None
)
"""The `client.send` that is going on, for the bridge that the SDK builds for it."""


class Bridge(inngest.MiddlewareSync):
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
        if self.target is not None:
            return self.target.on_transform_input()
        return None

    def before_execution(self) -> Any:
        if self.target is not None:
            return self.target.on_before_execution()
        return None

    def after_execution(self) -> Any:
        if self.target is not None:
            return self.target.on_after_execution()
        return None

    def transform_output(self, result: inngest.TransformOutputResult) -> Any:
        if self.target is not None:
            return self.target.on_transform_output(result)
        return None

    def before_response(self) -> Any:
        if self.target is not None:
            return self.target.on_before_response()
        return None

    def before_send_events(self, events: list[inngest.Event]) -> Any:
        target: SendTarget | None = self.target or sending.get()
        return None if target is None else target.on_before_send(events)

    def after_send_events(self, result: inngest.SendEventsResult) -> Any:
        target: SendTarget | None = self.target or sending.get()
        return None if target is None else target.on_after_send(result)


class _Inert(inngest.MiddlewareSync):
    """Stands in the SDK's list for every plugin but the first."""

    def __init__(self) -> None:
        """Make the one there is: it has neither client nor request."""


INERT = _Inert()
