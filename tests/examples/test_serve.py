"""The apps of examples/serve answer the engine's requests, each in its own framework."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib.util
import itertools
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django.conf  # type: ignore[import-untyped,unused-ignore]
import django.urls  # type: ignore[import-untyped,unused-ignore]
import httpx
import pytest
import tornado.httpserver
import tornado.netutil
from tests.core.core_connect import connect_sender
from tests.core.core_protocol import Engine, Reply, call_body

from inngest_plugins.cli import main

APPS = Path(__file__).parents[2] / "examples" / "serve"
KEY = "signkey-test-00ff00ff00ff00ff00ff00ff00ff00ff"
EVENT = {"name": "shop/order.placed", "data": {"id": "o-1", "cents": 990}, "id": "e1", "ts": 1}
QUERY = {"fnId": "shop-fulfil", "stepId": "step"}

Answer = tuple[int, Any]
Send = Callable[[str, str, bytes, dict[str, str]], Answer]
Load = Callable[[str], Any]
_numbers = itertools.count()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import an app as a program would, each time anew."""
    # Django has one configuration for a process: the app's lasts as long as the test.
    settings: Any = django.conf.settings
    before, settings._wrapped = settings._wrapped, django.conf.empty

    def imported(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(
            f"{name}_{next(_numbers)}", APPS / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    # Outside of AWS nothing has given Mangum's thread a loop.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    django.urls.clear_url_caches()
    yield imported
    settings._wrapped = before
    django.urls.clear_url_caches()
    asyncio.set_event_loop(None)
    loop.close()


def asgi(app: Any) -> Send:
    """Send to an ASGI app."""

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app.app), base_url="http://app")
        return asyncio.run(_over(http, method, path, body, headers))

    return send


def wsgi(app: Any) -> Send:
    """Send to a WSGI app."""
    transport = httpx.WSGITransport(getattr(app, "app", None) or app.application)

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        with httpx.Client(transport=transport, base_url="http://app") as http:
            answer = http.request(method, path, content=body, headers=headers)
        return answer.status_code, answer.json()

    return send


def tornado_server(app: Any) -> Send:
    """Send to Tornado over the loopback."""

    async def over_loopback(*request: Any) -> Answer:
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server = tornado.httpserver.HTTPServer(app.app)
        server.add_sockets(sockets)
        url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        try:
            return await _over(httpx.AsyncClient(base_url=url), *request)
        finally:
            server.stop()
            await server.close_all_connections()

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        return asyncio.run(over_loopback(method, path, body, headers))

    return send


def aws_lambda(app: Any) -> Send:
    """Send the events that AWS makes of requests to a function URL."""

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        path, _, query = path.partition("?")
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"host": "x.lambda-url.eu-west-1.on.aws", **headers},
            "requestContext": {"http": {"method": method, "path": path, "sourceIp": "127.0.0.1"}},
            "body": body.decode(),
            "isBase64Encoded": False,
        }
        answer = app.handler(event, types.SimpleNamespace())
        return answer["statusCode"], json.loads(answer["body"])

    return send


async def _over(
    http: httpx.AsyncClient, method: str, path: str, body: bytes, headers: Any
) -> Answer:
    async with http:
        answer = await http.request(method, path, content=body, headers=headers)
    return answer.status_code, answer.json()


SERVED = [
    pytest.param("fastapi_app", asgi, id="fastapi"),
    pytest.param("lambda_app", aws_lambda, id="lambda"),
    pytest.param("flask_app", wsgi, id="flask"),
    pytest.param("django_app", wsgi, id="django"),
    pytest.param("tornado_app", tornado_server, id="tornado"),
]


def call(
    send: Send,
    method: str,
    *,
    key: str | None = None,
    events: list[Any] | None = None,
    memos: dict[str, Any] | None = None,
) -> Answer:
    """Make one request of the engine, signed with the key if there is one."""
    content = call_body(events=events or [EVENT], memos=memos)
    body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    headers = {"content-type": "application/json"}
    if key is not None:
        now = str(int(time.time()))
        secret = key.removeprefix("signkey-test-").encode()
        signature = hmac.new(secret, body + now.encode(), hashlib.sha256).hexdigest()
        headers["x-inngest-signature"] = f"t={now}&s={signature}"
    return send(method, f"/api/inngest?{httpx.QueryParams(QUERY)}", body, headers)


@pytest.mark.parametrize(("name", "host"), SERVED)
def test_the_app_runs_a_function_in_dev_mode(
    monkeypatch: pytest.MonkeyPatch, load: Load, name: str, host: Callable[[Any], Send]
) -> None:
    """With INNGEST_DEV=1 requests need no signature; the step runs, then the function ends."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    app = load(name)

    status, ops = call(host(app), "POST")
    assert status == 206
    assert [(op["op"], op["displayName"], op["data"]) for op in ops] == [("StepRun", "charge", 990)]
    assert call(host(app), "POST", memos={"charge": {"data": 990}}) == (200, {"charged": 990})

    broken = {**EVENT, "data": {"id": "o-1", "cents": "many"}}
    status, error = call(host(app), "POST", events=[broken])
    assert status == 500
    assert "shop/order.placed" in error["message"]


@pytest.mark.parametrize(("name", "host"), SERVED)
def test_the_app_asks_for_signatures_in_production(
    monkeypatch: pytest.MonkeyPatch, load: Load, name: str, host: Callable[[Any], Send]
) -> None:
    """Without INNGEST_DEV only what is signed with INNGEST_SIGNING_KEY is run."""
    monkeypatch.delenv("INNGEST_DEV", raising=False)
    monkeypatch.setenv("INNGEST_SIGNING_KEY", KEY)
    monkeypatch.setenv("INNGEST_EVENT_KEY", "event-key")
    app = load(name)

    assert call(host(app), "POST", key=KEY)[0] == 206
    assert call(host(app), "POST")[0] == 401
    assert call(host(app), "POST", key="signkey-test-00")[0] == 401
    status, told = call(host(app), "GET", key=KEY)
    assert status == 200
    assert told["function_count"] == 1


@pytest.mark.parametrize(("name", "host"), SERVED)
def test_the_app_sends_the_event_that_starts_a_run(
    monkeypatch: pytest.MonkeyPatch, load: Load, name: str, host: Callable[[Any], Send]
) -> None:
    """POST /orders is answered with the id of the event."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    app = load(name)
    order = json.dumps(EVENT["data"]).encode()
    headers = {"content-type": "application/json"}
    with Engine().serving(app.client) as engine:
        assert host(app)("POST", "/orders", order, headers) == (202, {"event": "id0"})
    assert [event["data"] for batch in engine.sent for event in batch] == [EVENT["data"]]


def test_the_worker_of_connect_runs_its_function(
    monkeypatch: pytest.MonkeyPatch, load: Load
) -> None:
    """What the gateway sends runs the function; `main` connects the client and its functions."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    app = load("connect_app")
    post = connect_sender(app.client, app.fulfil)
    body = json.dumps(call_body(events=[EVENT])).encode()

    async def posted() -> Reply:
        return await post(QUERY, {}, body)

    reply = asyncio.run(posted())
    assert reply.op["data"] == 990

    started: list[Any] = []

    class Connection:
        def __init__(self, apps: Any) -> None:
            self.apps = apps

        async def start(self) -> None:
            started.append(self.apps)

    monkeypatch.setattr(app, "connect", Connection)
    asyncio.run(app.main())
    assert started == [[(app.client, [app.fulfil])]]


@pytest.mark.parametrize("name", sorted(path.stem for path in APPS.glob("*_app.py")))
def test_the_same_file_runs_without_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], load: Load, name: str
) -> None:
    """`inngest-plugins run` takes each app as it is."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    event = json.dumps({"name": EVENT["name"], "data": EVENT["data"]})
    assert main(["run", str(APPS / f"{name}.py"), "--event", event]) == 0
    assert '{"charged": 990}' in capsys.readouterr().out
