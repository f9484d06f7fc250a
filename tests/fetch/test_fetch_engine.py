"""`where="engine"`: the engine makes the request, and sees what it may see."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import inngest
import pytest

from inngest_plugins.core import Plugin
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.fetch import durable_fetch, durable_fetch_sync

from .conftest import App, Http, Server

pytestmark = pytest.mark.anyio


async def run_of(app: App, opened: bool = False) -> Any:
    """Run the app's function on an engine that makes requests."""
    async with httpx.AsyncHTTPTransport() as network, app.engine(gateway=network) as engine:
        run = await engine.run(inngest.Event(name="fn"))
        return (run, run.result) if opened else run


@pytest.fixture(autouse=True)
def at_the_engine(app: App) -> None:
    """Every client of these tests has the engine make its requests."""
    app.options = {"where": "engine"}


async def test_the_engine_makes_the_request(app: App, server: Server) -> None:
    """The app's own transport sends nothing; the response comes back as httpx's."""
    server.answers["/x"] = [(404, [("x-a", "1"), ("set-cookie", "s=1")], "grün".encode())]
    refusing = httpx.MockTransport(lambda _: pytest.fail("the app sent a request"))
    app.options["transport"] = refusing

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.post(f"{server.url}/x?q=1", json={"a": 1}, headers={"x-b": "2"})
        return [
            response.status_code,
            response.text,
            response.headers["x-a"],
            "set-cookie" in response.headers,
        ]

    run = await run_of(app)
    assert run.output == [404, "grün", "1", False], run.reason
    (received,) = server.received
    assert received.method == "POST"
    assert received.path == "/x?q=1"
    assert json.loads(received.body) == {"a": 1}
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-b"] == "2"
    assert received.headers["idempotency-key"].startswith("inngest-")
    assert [step.op for step in run.steps.values()] == ["Gateway"]


async def test_many_requests_are_made_once(app: App, server: Server) -> None:
    """Replays get what is stored."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        return [(await http.get(f"{server.url}/{n}")).json()["n"] for n in range(5)]

    run = await run_of(app)
    assert run.output == [1, 2, 3, 4, 5], run.reason


async def test_compressed_responses_are_text(app: App, server: Server) -> None:
    """The engine is not asked for an encoding that it would not decode."""

    def packed(request: Any) -> Any:
        if "gzip" in request.headers.get("accept-encoding", ""):
            return 200, [("content-encoding", "gzip")], gzip.compress(b'{"packed": true}')
        return 200, [], b'{"packed": false}'

    server.answers["/x"] = packed

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        return (await http.get(f"{server.url}/x")).json()

    assert (await run_of(app)).output in ({"packed": True}, {"packed": False})


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer secret"},
        {"cookie": "secret"},
        {"Proxy-Authorization": "secret"},
        {"X-API-Key": "secret"},
        {"set-cookie": "secret"},
        {"X-Mine": "secret"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_credentials_are_refused(app: App, server: Server, headers: dict[str, str]) -> None:
    """By name, at once, and nothing of them reaches the engine."""
    app.options["credential_headers"] = ["x-mine"]

    @app.http_body(retries=3)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(server.url, headers=headers)

    run = await run_of(app)
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "CredentialsRefusedError"
    assert next(iter(headers)).lower() in str(run.error["message"])
    assert "engine_may_see" in str(run.error["message"])
    assert "secret" not in str([each.response for each in run.requests])
    assert len(run.requests) == 1
    assert server.received == []


async def test_credentials_in_the_url_are_refused(app: App, server: Server) -> None:
    """A user and a password are credentials, too."""
    url = server.url.replace("http://", "http://user:secret@")

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(url)

    run = await run_of(app)
    assert run.status == "Failed"
    assert "secret" not in str([each.response for each in run.requests])


async def test_credentials_that_the_engine_may_see(app: App, server: Server) -> None:
    """A header that is named goes out; the others are still refused."""
    app.options["engine_may_see"] = ["Authorization"]

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        await http.get(f"{server.url}/x", headers={"authorization": "Bearer token"})
        try:
            await http.get(f"{server.url}/x", headers={"cookie": "secret"})
        except inngest.NonRetriableError as err:
            return str(err)
        return ""

    run = await run_of(app)
    assert server.received[0].headers["authorization"] == "Bearer token"
    assert "cookie" in run.output
    assert len(server.received) == 1


class Secret(Plugin):
    """Keeps payloads secret."""

    secret_payloads = True


async def test_with_secret_payloads_it_is_refused(make_app: type[App], server: Server) -> None:
    """Unless it is asked for by name."""
    for plugin in (Secret(), EncryptionPlugin(KeyRing(Key.generate()))):
        for is_async in (True, False):
            app = make_app(plugin, is_async=is_async)
            app.options = {"where": "engine"}

            @app.http_body(retries=2)
            async def fn(ctx: Any, step: Any, http: Http) -> int:
                return (await http.get(f"{server.url}/x")).status_code

            run = await run_of(app)
            assert run.status == "Failed"
            assert server.received == []
            app.options = {"where": "engine", "engine_may_see": ["payloads"]}
            run, result = await run_of(app, opened=True)
            assert result == 200, run.reason
            server.received.clear()


@pytest.mark.parametrize(
    "body", [{"content": b"\xff\xfe"}, {"data": {"a": "1"}}, {"content": "plain"}], ids=str
)
async def test_bodies_that_are_no_json_are_refused(
    app: App, server: Server, body: dict[str, Any]
) -> None:
    """The engine would send them as something else."""

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.post(server.url, **body)

    run = await run_of(app)
    assert run.status == "Failed"
    assert "bodies are JSON" in str(run.error)
    assert server.received == []


async def test_a_request_that_the_engine_cannot_make(app: App) -> None:
    """It is an error of httpx's kind, and no retry of the function makes it better."""

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        try:
            await http.get("http://127.0.0.1:9/")
        except httpx.TransportError as err:
            return str(err)
        return "no error"

    run = await run_of(app)
    assert "GatewayError" in run.output, run.reason


async def test_too_large_a_response(app: App, server: Server) -> None:
    """`max_bytes` counts here, too."""
    app.options["max_bytes"] = 10

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(f"{server.url}/long")

    run = await run_of(app)
    assert run.error is not None
    assert run.error["name"] == "ResponseTooLargeError"


async def test_durable_fetch_at_the_engine(app: App, server: Server) -> None:
    """One request by the engine."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        if app.is_async:
            response = await durable_fetch(f"{server.url}/x", where="engine")
        else:
            response = durable_fetch_sync(f"{server.url}/x", where="engine")
        return response.json()["path"]

    run = await run_of(app)
    assert run.output == "/x", run.reason
    assert [step.op for step in run.steps.values()] == ["Gateway"]


async def test_inside_of_a_step_the_app_makes_the_request(app: App, server: Server) -> None:
    """It passes through there, with whatever headers it has."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        async def work() -> int:
            response = await http.get(f"{server.url}/x", headers={"authorization": "mine"})
            return response.status_code

        return await step.run("work", work)

    run = await run_of(app)
    assert run.output == 200, run.reason
    assert list(run.steps) == ["work"]
