"""The REST client of the core: origin, credentials, retries and timeouts."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import inngest
import pytest
from tests.core.core_protocol import Engine, make_client

from inngest_plugins.core import EngineApi, EngineApiError, answered_by

KEY = "signkey-test-" + "ab" * 32
FALLBACK = "signkey-test-" + "cd" * 32


def bearer(key: str) -> str:
    """What the SDK sends for a signing key."""
    return "Bearer " + hashlib.sha256(bytes.fromhex(key.rsplit("-", 1)[1])).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def answers(*responses: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response]:
    """Give these answers one after the other."""
    left = list(responses)

    def answer(request: httpx.Request) -> httpx.Response:
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return answer


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_request_goes_to_the_engine_as_the_sdk_sends_it(is_async: bool) -> None:
    """Origin, path, query, body, headers of the caller and of the SDK."""
    client = make_client(api_base_url="http://engine:8288", env="branch-1")
    api = EngineApi(client)
    engine = Engine(answers(httpx.Response(200, json={"ok": True})))
    with engine.serving(client):
        options: dict[str, Any] = {
            "params": {"q": "1"},
            "json": {"a": 1},
            "headers": {"X-Own": "mine"},
        }
        if is_async:
            response = await api.request("POST", "/v1/runs/r/metadata", **options)
        else:
            response = api.request_sync("POST", "/v1/runs/r/metadata", **options)

    assert response.json() == {"ok": True}
    (request,) = engine.requests
    assert (request.method, str(request.url)) == (
        "POST",
        "http://engine:8288/v1/runs/r/metadata?q=1",
    )
    assert json.loads(request.content) == {"a": 1}
    assert request.headers["x-own"] == "mine"
    assert request.headers["x-inngest-env"] == "branch-1"
    assert request.headers["x-inngest-sdk"].startswith("inngest-py:v0.5.")
    assert "authorization" not in request.headers


def test_raw_content_is_sent_as_it_is() -> None:
    """`content` is the body byte for byte."""
    client = make_client()
    engine = Engine(answers(httpx.Response(200)))
    with engine.serving(client):
        headers = {"content-type": "application/x-protobuf"}
        EngineApi(client).request_sync("PUT", "/v1/x", content=b"\x00\x01", headers=headers)
    assert engine.requests[0].content == b"\x00\x01"
    assert engine.requests[0].headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    "first", [httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(429)]
)
def test_transient_failures_are_retried(first: httpx.Response | Exception) -> None:
    """No connection, 5xx and 429 are tried again."""
    client = make_client()
    engine = Engine(answers(first, httpx.Response(200, json=1)))
    with engine.serving(client):
        assert EngineApi(client).request_sync("GET", "/v1/x").json() == 1
    assert len(engine.requests) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (httpx.ConnectError("refused"), None, "failed: ConnectError. Is the engine running"),
        (httpx.ReadTimeout("slow"), None, "failed: ReadTimeout. Is the engine running"),
        (httpx.Response(500), 500, "answered 500"),
        (httpx.Response(429), 429, "answered 429"),
    ],
)
async def test_lasting_failures_are_raised(
    failure: httpx.Response | Exception, status: int | None, message: str
) -> None:
    """After the last attempt the error says what was asked and what came."""
    client = make_client(api_base_url="http://engine:8288")

    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return failure

    engine = Engine(answer)
    with engine.serving(client), pytest.raises(EngineApiError) as caught:
        await EngineApi(client, attempts=2).request("GET", "/v1/x")
    assert f"GET http://engine:8288/v1/x {message}" in str(caught.value)
    assert caught.value.status == status
    assert len(engine.requests) == 2


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_client_errors_are_the_callers(status: int) -> None:
    """4xx comes back at once."""
    client = make_client()
    engine = Engine(answers(httpx.Response(status, json={"error": "x"})))
    with engine.serving(client):
        assert EngineApi(client).request_sync("GET", "/v1/x").status_code == status
    assert len(engine.requests) == 1


def production(**options: Any) -> inngest.Inngest:
    """A client in cloud mode."""
    return make_client(is_production=True, event_key="e", signing_key=KEY, **options)


def test_the_signing_key_authenticates() -> None:
    """The key is sent hashed, as the SDK does."""
    client = production()
    engine = Engine(answers(httpx.Response(200)))
    with engine.serving(client):
        EngineApi(client).request_sync("GET", "/v1/x")
    assert engine.requests[0].headers["authorization"] == bearer(KEY)


@pytest.mark.parametrize("status", [401, 403])
def test_the_fallback_key_is_used_when_the_first_is_refused(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While keys rotate, the second is tried."""
    monkeypatch.setenv("INNGEST_SIGNING_KEY_FALLBACK", FALLBACK)
    client = production()
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        fine = sent[-1] == bearer(FALLBACK)
        return httpx.Response(200 if fine else status)

    engine = Engine(answer)
    with engine.serving(client):
        assert EngineApi(client).request_sync("GET", "/v1/x").status_code == 200
    assert sent == [bearer(KEY), bearer(FALLBACK)]


class Slow(BaseHTTPRequestHandler):
    """Answers late."""

    def do_GET(self) -> None:
        threading.Event().wait(0.5)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def slow_server() -> Iterator[str]:
    """A loopback server that needs half a second."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_timeout_is_for_one_attempt(slow_server: str) -> None:
    """A slow answer is a failure; with time enough it is an answer."""
    client = make_client(api_base_url=slow_server)
    with pytest.raises(EngineApiError, match="ReadTimeout"):
        EngineApi(client, timeout=0.05, attempts=1).request_sync("GET", "/v1/x")
    assert EngineApi(client, timeout=5).request_sync("GET", "/v1/x").status_code == 200


@pytest.mark.anyio
async def test_answered_by_serves_everything_and_leaves_the_client_as_it_was() -> None:
    """Events and API requests, async and sync, go to the given transports while it is open."""
    client = make_client()
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json={"ids": ["1"], "status": 200})

    before = client._http_client._http_client, client._http_client._http_client_sync
    transport = httpx.MockTransport(answer)
    with answered_by(client, transport, transport):
        await client.send(inngest.Event(name="shop/x"))
        client.send_sync(inngest.Event(name="shop/x"))
        await EngineApi(client).request("GET", "/v1/async")
        EngineApi(client).request_sync("GET", "/v1/sync")
    assert asked == ["/e/NO_EVENT_KEY_SET", "/e/NO_EVENT_KEY_SET", "/v1/async", "/v1/sync"]
    assert (client._http_client._http_client, client._http_client._http_client_sync) == before
