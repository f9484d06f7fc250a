"""A real Sentry SDK whose envelopes stay in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import fastapi
import flask
import httpx
import inngest
import inngest.fast_api
import inngest.flask
import pytest
import sentry_sdk
from sentry_sdk import scope as sentry_scope
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from tests.bodies import Body, handler_of, parallel

from inngest_plugins.local import LocalEngine, Run


class MemoryTransport(Transport):
    """Keeps what would be sent."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.envelopes: list[Envelope] = []
        self.lost: list[tuple[str, str | None]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def record_lost_event(self, reason: str, *args: Any, **kwargs: Any) -> None:
        self.lost.append((reason, kwargs.get("data_category")))


class Sentry:
    """What Sentry would have received."""

    def __init__(self) -> None:
        self.transport = MemoryTransport()

    def init(self, **options: Any) -> Sentry:
        """Initialise the SDK as an app does, with an in-memory transport."""
        options.setdefault("dsn", "https://key@sentry.invalid/1")
        options.setdefault("default_integrations", False)
        options.setdefault("auto_enabling_integrations", False)
        sentry_sdk.init(transport=self.transport, **options)
        return self

    def _items(self, *kinds: str) -> list[dict[str, Any]]:
        return [
            item.payload.json
            for envelope in self.transport.envelopes
            for item in envelope.items
            if item.type in kinds and item.payload.json is not None
        ]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self._items("event")

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return self._items("transaction")

    @property
    def check_ins(self) -> list[dict[str, Any]]:
        return self._items("check_in")

    @property
    def text(self) -> str:
        """Everything as it would be on the wire."""
        return "\n".join(
            envelope.serialize().decode("utf-8", "replace") for envelope in self.transport.envelopes
        )

    def lines(self) -> list[str]:
        """One line for each item of each envelope, in order."""
        return [
            describe(item.type, item.payload.json)
            for envelope in self.transport.envelopes
            for item in envelope.items
        ]

    def clear(self) -> None:
        self.transport.envelopes.clear()


def describe(kind: str | None, item: Any) -> str:
    """Render an item of an envelope as one line."""
    if kind == "event":
        tags = item.get("tags", {})
        step = f" step={tags['inngest.step.id']}" if "inngest.step.id" in tags else ""
        values = item.get("exception", {}).get("values", [])
        if not values:
            return f"{item['level']} message {item.get('logentry', item)}"
        last = values[-1]
        handled = "" if last["mechanism"]["handled"] else " unhandled"
        attempt = tags.get("inngest.attempt")
        return f"{item['level']} {last['type']}({last['value']}){step} attempt={attempt}{handled}"
    if kind == "transaction":
        trace = item["contexts"]["trace"]
        spans = ", ".join(f"{span['op']} {span.get('description')}" for span in item["spans"])
        return f"transaction {item['transaction']} {trace['op']} {trace['status']} [{spans}]"
    if kind == "check_in":
        return f"check_in {item['monitor_slug']} {item['status']}"
    return str(kind)


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    """A Sentry that is not initialised yet: call `sentry.init(...)`."""
    processors = list(sentry_scope.global_event_processors)
    _fresh_scopes()
    yield Sentry()
    client = sentry_sdk.get_client()
    client.close()
    _fresh_scopes()
    sentry_scope.global_event_processors[:] = processors


def _fresh_scopes() -> None:
    sentry_scope._global_scope = None
    sentry_scope._isolation_scope.set(None)
    sentry_scope._current_scope.set(None)


class Shop:
    """An app of Inngest functions on the embedded engine."""

    def __init__(self, *middleware: Any, is_async: bool = True) -> None:
        self.client = inngest.Inngest(
            app_id="shop", is_production=False, middleware=list(middleware)
        )
        self.functions: list[inngest.Function[Any]] = []
        self.is_async = is_async

    def function(
        self,
        body: Body,
        *,
        name: str = "fulfil",
        event: str = "shop/order.placed",
        on_failure: Body | None = None,
        trigger: Any = None,
        **options: Any,
    ) -> inngest.Function[Any]:
        """Register a body as an async or a sync function, whichever this app is of."""
        is_async = self.is_async
        made = self.client.create_function(
            fn_id=name,
            trigger=trigger or inngest.TriggerEvent(event=event),
            on_failure=None if on_failure is None else handler_of(on_failure, is_async=is_async),
            **options,
        )(handler_of(body, is_async=is_async))
        self.functions.append(made)
        return made

    async def run(self, data: Any = None, *, name: str = "shop/order.placed") -> Run:
        """Send an event, and wait for the run and everything that it started."""
        async with LocalEngine(self.client, self.functions) as engine:
            run = await engine.run(inngest.Event(name=name, data=data or {}))
            await engine.settle()
            return run

    def asgi(self) -> fastapi.FastAPI:
        """The app served by FastAPI."""
        app = fastapi.FastAPI()
        inngest.fast_api.serve(app, self.client, self.functions)
        return app

    def wsgi(self) -> flask.Flask:
        """The app served by Flask."""
        app = flask.Flask("shop")
        inngest.flask.serve(app, self.client, self.functions)
        return app


def call(
    run_id: str,
    *,
    event: dict[str, Any] | None = None,
    steps: dict[str, Any] | None = None,
    attempt: int = 0,
    max_attempts: int = 1,
) -> dict[str, Any]:
    """The body of an executor's request."""
    made = {"name": "shop/order.placed", "id": f"e-{run_id}", "data": {}, "ts": 1, **(event or {})}
    return {
        "ctx": {
            "attempt": attempt,
            "max_attempts": max_attempts,
            "disable_immediate_execution": False,
            "run_id": run_id,
            "stack": {"stack": list(steps or ()), "current": len(steps or ())},
            "use_api": False,
        },
        "event": made,
        "events": [made],
        "steps": steps or {},
        "use_api": False,
    }


URL = "http://shop.test/api/inngest?fnId=shop-fulfil&stepId=step"


async def post_to(app: Any, body: dict[str, Any], **headers: str) -> httpx.Response:
    """Post an executor's request to an ASGI app."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        return await client.post(URL, json=body, headers=headers)


MakeShop = Callable[..., Shop]


@pytest.fixture(params=["async", "sync"])
def shop(request: pytest.FixtureRequest) -> MakeShop:
    """Make an app whose functions are async, and one whose functions are sync."""

    def make(*middleware: Any) -> Shop:
        return Shop(*middleware, is_async=request.param == "async")

    return make


@pytest.fixture
def async_shop() -> MakeShop:
    """Make an app whose functions are async."""
    return Shop


Post = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def post() -> Post:
    """Post an executor's request to an ASGI app."""
    return post_to


@pytest.fixture
def body_of() -> Callable[..., dict[str, Any]]:
    """The body of an executor's request."""
    return call


@pytest.fixture
def group() -> Callable[..., Awaitable[Any]]:
    """`ctx.group.parallel` for bodies."""
    return parallel
