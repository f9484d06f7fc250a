"""Requests that the SDK refuses before a run is known: one issue, and not too many events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import fastapi
import flask
import httpx
import inngest
import inngest.fast_api
import inngest.flask
import pytest
from sentry_sdk.integrations.logging import LoggingIntegration

from inngest_plugins.core import RefusedRequest
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.sentry.events.refused import INTERVAL, RefusedRequests

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Post, Sentry

pytestmark = pytest.mark.anyio
SIGNED = {"is_production": True, "signing_key": "signkey-prod-" + "0" * 64, "event_key": "key"}
PATH = "/hooks/inngest"


def functions(client: inngest.Inngest, *, is_async: bool) -> list[inngest.Function[Any]]:
    create = client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="a/b"))

    async def function(ctx: inngest.Context) -> None: ...

    def function_sync(ctx: inngest.ContextSync) -> None: ...

    return [create(function) if is_async else create(function_sync)]


async def send(
    client: inngest.Inngest, *bodies: bytes, framework: str, query: str = "fnId=shop-f&stepId=step"
) -> list[int]:
    """Post bodies to an app, and return the status of each answer."""
    target = f"{PATH}?{query}"
    if framework == "fastapi":
        app = fastapi.FastAPI()
        inngest.fast_api.serve(app, client, functions(client, is_async=True), serve_path=PATH)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as http:
            return [(await http.post(target, content=body)).status_code for body in bodies]
    wsgi = flask.Flask("shop")
    inngest.flask.serve(wsgi, client, functions(client, is_async=False), serve_path=PATH)
    return [wsgi.test_client().post(target, data=body).status_code for body in bodies]


def start(sentry: Sentry, *plugins: SentryPlugin, **options: Any) -> inngest.Inngest:
    sentry.init(integrations=[LoggingIntegration()])
    options = options or SIGNED
    return inngest.Inngest(app_id="shop", middleware=list(plugins), **options)


def facts(event: dict[str, Any]) -> tuple[Any, ...]:
    tags = event["tags"]
    return (
        event["level"],
        tags["inngest.app.id"],
        tags["inngest.path"],
        tags["inngest.refused"],
        event["fingerprint"],
    )


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
async def test_requests_without_a_signature(sentry: Sentry, framework: str) -> None:
    """Ten of them are one event with app and path, though no run has been there before."""
    client = start(sentry, SentryPlugin())
    assert await send(client, *[b"{}"] * 10, framework=framework) == [401] * 10
    (event,) = sentry.errors
    issue = ["inngest", "refused request"]
    reason = facts(event)[3]
    # Releases of the SDK differ in the reason.
    assert reason in ("unauthorized", "header_missing")
    assert facts(event) == ("warning", "shop", PATH, reason, issue)
    assert event["logentry"]["message"].startswith(f"Inngest request refused: {reason}: ")


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
async def test_reasons_are_one_issue(sentry: Sentry, body_of: Any, framework: str) -> None:
    """Each reason has its event, all of them the same issue, and none quotes the body."""
    client = start(sentry, SentryPlugin(), is_production=False)
    await send(client, b'{"ctx": "secret card 4242"}', framework=framework)
    body = json.dumps(body_of("run-1")).encode()
    await send(client, body, framework=framework, query="fnId=shop-unknown&stepId=step")
    assert len({tuple(event["fingerprint"]) for event in sentry.errors}) == 1
    assert len(sentry.errors) == 2
    assert "secret card" not in sentry.text


async def test_none_by_option(sentry: Sentry) -> None:
    """With "ignore" nothing is sent."""
    client = start(sentry, SentryPlugin(refused_requests="ignore"))
    assert await send(client, b"{}", framework="fastapi") == [401]
    assert sentry.lines() == []


async def test_two_plugins_are_one_event(sentry: Sentry) -> None:
    """A second plugin object of the process changes nothing."""
    SentryPlugin()
    client = start(sentry, SentryPlugin())
    await send(client, b"{}", framework="fastapi")
    assert len(sentry.errors) == 1
    assert sentry.errors[0]["contexts"]["inngest"]["refused_since_last_event"] == 0


async def test_other_errors_of_the_sdk_are_left_alone(
    sentry: Sentry, shop: MakeShop, post: Post, body_of: Any
) -> None:
    """What the SDK logs in other places keeps its level and its issue."""
    sentry.init(integrations=[LoggingIntegration()])
    app = shop(SentryPlugin())
    app.client.logger.error("something else")
    (event,) = sentry.errors
    assert event["level"] == "error"
    assert "fingerprint" not in event


def test_events_are_limited_in_time() -> None:
    """A minute later there is another one, which says how many were left out."""
    now = [0.0]
    refused = RefusedRequests(clock=lambda: now[0])
    request = RefusedRequest("shop", "/api")

    def sent(path: str = "/api") -> int | None:
        event: Any = {}
        made: Any = refused.describe(event, request._replace(path=path), "unauthorized: no")
        return None if made is None else made["contexts"]["inngest"]["refused_since_last_event"]

    assert [sent(), sent(), sent(), sent("/other")] == [0, None, None, 0]
    now[0] += INTERVAL
    assert [sent(), sent()] == [2, None]


def test_paths_do_not_fill_the_memory() -> None:
    """A stranger who asks for ever new paths does not make the process grow."""
    refused = RefusedRequests(clock=lambda: 0.0)
    for number in range(3000):
        event: Any = {}
        refused.describe(event, RefusedRequest("shop", f"/{number}"), "unauthorized: no")
    assert len(refused._last) <= 1000


def test_wrong_option() -> None:
    """A value that is not known is refused where it is given."""
    wrong: Any = "never"
    with pytest.raises(ValueError, match="refused_requests='never'"):
        SentryPlugin(refused_requests=wrong)
