"""A request of the body is a step: sent once, stored, given back; elsewhere it passes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import inngest
import pytest
from tests.bodies import parallel

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import Call, Hooks
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.fetch import (
    DurableTransport,
    DurableTransportSync,
    FetchError,
    RequestFailedError,
    ResponseTooLargeError,
    durable_fetch,
    durable_fetch_sync,
)
from inngest_plugins.local import LocalEngine
from inngest_plugins.testing import Harness

from .conftest import App, Http, Server

pytestmark = pytest.mark.anyio


async def test_100_requests_are_sent_once_each(app: App, server: Server) -> None:
    """101 requests of the run replay what was answered: the server counts 100."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> int:
        return sum([(await http.get(f"{server.url}/item/{n}")).json()["n"] for n in range(100)])

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert len(server.received) == 100
    assert run.output == sum(range(1, 101))
    assert len(run.requests) == 101


async def test_status_headers_and_body_come_back_as_they_were(app: App, server: Server) -> None:
    """Text and bytes, repeated headers, reason, and any status that is data."""
    server.answers["/teapot"] = [
        (418, [("x-one", "1"), ("x-one", "2"), ("content-type", "text/plain")], "grüße".encode())
    ]
    server.answers["/binary"] = [(200, [], bytes(range(256)))]
    server.answers["/nul"] = [(200, [], b"a\0b")]
    server.answers["/empty"] = [(204, [], b"")]

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        tea = await http.get(f"{server.url}/teapot")
        binary = await http.get(f"{server.url}/binary")
        nul = await http.get(f"{server.url}/nul")
        empty = await http.get(f"{server.url}/empty")
        return [
            tea.status_code,
            tea.headers.get_list("x-one"),
            tea.text,
            tea.reason_phrase,
            tea.http_version,
            str(tea.request.url),
            binary.content == bytes(range(256)),
            nul.content == b"a\0b",
            empty.status_code,
            empty.content == b"",
        ]

    run = await app.run()
    assert run.output == [
        418,
        ["1", "2"],
        "grüße",
        "I'm a Teapot",
        "HTTP/1.1",
        f"{server.url}/teapot",
        True,
        True,
        204,
        True,
    ], run.reason


async def test_step_ids_are_stable_and_can_be_given(app: App, server: Server) -> None:
    """Method, host and path make the id; used again it is counted; an extension names another."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        await http.get(f"{server.url}/a?page=1")
        await http.get(f"{server.url}/a?page=2")
        await http.post(f"{server.url}/a")
        await http.get(f"{server.url}/a", extensions={"inngest_step_id": "mine"})

    run = await app.run()
    host = server.url.removeprefix("http://")
    assert list(run.steps) == [f"GET {host}/a", f"GET {host}/a:1", f"POST {host}/a", "mine"]
    assert len(server.received) == 4


async def test_a_wrong_step_id_is_refused(app: App, server: Server) -> None:
    """It is a text, and not an empty one."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        for wrong in (7, ""):
            with pytest.raises(TypeError, match="inngest_step_id"):
                await http.get(server.url, extensions={"inngest_step_id": wrong})

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert server.received == []


async def test_inside_of_a_step_and_in_hooks_it_passes_through(
    make_app: type[App], server: Server
) -> None:
    """There it is an ordinary request: the step stores what it returns."""
    for is_async in (True, False):
        server.received.clear()
        hooks = Hooks("hooks")

        @hooks.before_execution
        def ask(call: Call) -> None:
            transport = DurableTransportSync()
            with httpx.Client(transport=transport) as client:
                assert client.get(f"{server.url}/hook").status_code == 200

        app = make_app(hooks, is_async=is_async)

        @app.http_body()
        async def fn(ctx: Any, step: Any, http: Http) -> Any:
            async def work() -> Any:
                return (await http.get(f"{server.url}/in-step")).json()["path"]

            return await step.run("work", work)

        run = await app.run()
        assert run.output == "/in-step", run.reason
        assert list(run.steps) == ["work"]
        assert server.count("/in-step") == 1
        assert server.count("/hook") == 2


async def test_outside_of_a_run_it_passes_through(server: Server) -> None:
    """The same client can be used anywhere."""
    async with httpx.AsyncClient(transport=DurableTransport()) as client:
        assert (await client.get(f"{server.url}/json")).json()["path"] == "/json"
    with httpx.Client(transport=DurableTransportSync()) as sync_client:
        assert sync_client.get(f"{server.url}/json").json()["n"] == 2
    assert (await durable_fetch(f"{server.url}/json")).json()["n"] == 3
    assert durable_fetch_sync(f"{server.url}/json", method="POST", json=[1]).json()["n"] == 4
    assert server.received[-1].body == b"[1]"
    assert "idempotency-key" not in server.received[-1].headers


async def test_durable_fetch(server: Server, app: App) -> None:
    """One request without a client, async and sync, with an id of its own."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        options: dict[str, Any] = {"params": {"q": "1"}, "headers": {"x-a": "b"}, "step_id": "ask"}
        if app.is_async:
            response = await durable_fetch(f"{server.url}/json", **options)
        else:
            response = durable_fetch_sync(f"{server.url}/json", **options)
        return response.json()["n"]

    run = await app.run()
    assert run.output == 1, run.reason
    assert list(run.steps) == ["ask"]
    (received,) = server.received
    assert received.path == "/json?q=1"
    assert received.headers["x-a"] == "b"


async def test_redirects_are_steps(app: App, server: Server) -> None:
    """Each hop is stored, and none is sent again; the history is there."""
    app.client_options = {"follow_redirects": True}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.get(f"{server.url}/redirect")
        return [response.json()["path"], [each.status_code for each in response.history]]

    run = await app.run()
    assert run.output == ["/json", [302]], run.reason
    assert [each.path for each in server.received] == ["/redirect", "/json"]
    assert len(run.steps) == 2


async def test_compressed_responses(app: App, server: Server) -> None:
    """They are stored as they came, and decoded by httpx."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.get(f"{server.url}/gzip")
        return [response.json(), response.headers["content-encoding"]]

    assert (await app.run()).output == [{"packed": True}, "gzip"]


async def test_response_headers_with_credentials_are_not_stored(app: App, server: Server) -> None:
    """Neither set-cookie nor what the user names; request cookies are sent."""
    server.answers["/login"] = [
        (200, [("set-cookie", "session=secret"), ("X-Token", "secret"), ("x-other", "1")], b"")
    ]
    app.options = {"credential_headers": ["x-token"]}
    app.client_options = {"cookies": {"mine": "1"}}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.get(f"{server.url}/login")
        return [dict(http.client.cookies), sorted(response.headers)]

    run = await app.run()
    cookies, headers = run.output
    assert cookies == {"mine": "1"}
    assert "x-other" in headers
    assert "set-cookie" not in headers
    assert "x-token" not in headers
    assert server.received[0].headers["cookie"] == "mine=1"
    assert "secret" not in str([each.response for each in run.requests])


async def test_cookies_that_may_be_stored(app: App, server: Server) -> None:
    """Named, a session's cookie is there on every replay."""
    server.answers["/login"] = [(200, [("set-cookie", "session=abc")], b"")]
    app.options = {"may_store": ["Set-Cookie"]}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(f"{server.url}/login")
        await http.get(f"{server.url}/home")

    await app.run()
    assert server.received[1].headers["cookie"] == "session=abc"


async def test_streams_are_read_whole(app: App, server: Server) -> None:
    """A streamed response can be read in parts, from what is stored."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        parts: list[bytes] = []
        if app.is_async:
            async with http.client.stream("GET", f"{server.url}/json") as response:
                async for part in response.aiter_raw():
                    parts.append(part)
        else:
            with http.client.stream("GET", f"{server.url}/json") as response:
                parts.extend(response.iter_raw())
        return b"".join(parts).decode()

    assert "/json" in (await app.run()).output
    assert len(server.received) == 1


@pytest.mark.parametrize("announced", [True, False])
async def test_too_large_a_response_is_a_clear_error(
    app: App, server: Server, announced: bool
) -> None:
    """It can be caught, is the same on replay, and the request is not repeated."""
    app.options = {"max_bytes": 100}
    server.answers["/big"] = [(200, [], b"x" * 101)]
    server.answers["/fits"] = [(200, [], b"x" * 100)]
    if not announced:
        inner = _Hiding(httpx.AsyncHTTPTransport()) if app.is_async else _HidingSync()
        app.options["transport"] = inner

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        message = ""
        try:
            await http.get(f"{server.url}/big")
        except ResponseTooLargeError as err:
            message = str(err)
        return [message, len((await http.get(f"{server.url}/fits")).content)]

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert "more than 100 bytes" in run.output[0]
    assert "max_bytes" in run.output[0]
    assert run.output[1] == 100
    assert server.count("/big") == 1


class _Hiding(httpx.AsyncBaseTransport):
    """Removes what tells the size."""

    def __init__(self, inner: httpx.AsyncHTTPTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        del response.headers["content-length"]
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


class _HidingSync(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        del response.headers["content-length"]
        return response


async def test_head_announces_what_it_does_not_send(app: App, server: Server) -> None:
    """The size in an answer without a body is not its own."""
    app.options = {"max_bytes": 3}
    server.answers["/big"] = [(200, [], b"x" * 10)]

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.request("HEAD", f"{server.url}/big")
        return [response.headers["content-length"], response.content == b""]

    assert (await app.run()).output == ["10", True]


async def test_stubs_of_the_test_kit(app: App, inngest_engine: type[Harness]) -> None:
    """A stub stands for what is stored of a response."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.get("http://nowhere.invalid/x")
        return [response.status_code, response.json()]

    stored = {"status": 201, "headers": [["content-type", "application/json"]], "text": "[1]"}
    stubs = {"GET nowhere.invalid/x": stored}
    async with inngest_engine(app.client, app.functions, stubs=stubs) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.output == [201, [1]], run.reason


@pytest.mark.parametrize("is_async", [True, False])
async def test_checkpointed_requests(make_app: type[App], server: Server, is_async: bool) -> None:
    """With checkpointing the requests are made in one request of the run, once each."""
    app = make_app(CheckpointPlugin(), is_async=is_async)

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        return [(await http.get(f"{server.url}/{n}")).json()["path"] for n in range(5)]

    run = await app.run()
    assert run.output == ["/0", "/1", "/2", "/3", "/4"], run.reason
    assert len(server.received) == 5
    assert len(run.requests) == 1


async def test_uncaught_too_large_fails_the_run_at_once(app: App, server: Server) -> None:
    """No attempt is made that could only end the same."""
    app.options = {"max_bytes": 1}

    @app.http_body(retries=3)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(f"{server.url}/json")

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "ResponseTooLargeError"
    assert len(server.received) == 1


async def test_idempotency_keys(app: App, server: Server) -> None:
    """Unsafe methods get one, the same at each attempt, another for each request and run."""
    server.answers["/pay"] = [(503, [], b""), (200, [], b"")]

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.post(f"{server.url}/pay")
        request = http.client.build_request("POST", f"{server.url}/again")
        for _ in range(2):
            sent = http.client.send(request)
            if app.is_async:
                await sent
        await http.post(f"{server.url}/mine", headers={"idempotency-KEY": "mine"})
        await http.get(f"{server.url}/get")

    async with app.engine() as engine:
        for _ in range(2):
            run = await engine.run(inngest.Event(name="fn"))
            assert run.status == "Completed", run.reason
    keys: dict[str, list[str | None]] = {}
    for each in server.received:
        keys.setdefault(each.path, []).append(each.headers.get("idempotency-key"))
    assert keys["/pay"][0] == keys["/pay"][1]
    assert keys["/pay"][0] is not None
    assert keys["/pay"][2] not in (None, keys["/pay"][0])
    assert len(set(keys["/again"])) == 4
    assert keys["/mine"] == ["mine", "mine"]
    assert keys["/get"] == [None, None]


async def test_no_idempotency_key(app: App, server: Server) -> None:
    """None sends none; another name is another header."""
    app.options = {"idempotency_header": None}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.post(f"{server.url}/pay")

    await app.run()
    assert "idempotency-key" not in server.received[0].headers


async def test_parallel_requests(app: App, server: Server) -> None:
    """In a parallel group each is sent once."""

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        async def ask(n: int) -> Any:
            return (await http.get(f"{server.url}/p/{n}")).json()["path"]

        found = await parallel(ctx, *(lambda n=n: ask(n) for n in range(3)))
        return list(found)

    run = await app.run()
    assert run.output == ["/p/0", "/p/1", "/p/2"], run.reason
    assert sorted(each.path for each in server.received) == ["/p/0", "/p/1", "/p/2"]


async def test_stored_responses_are_sealed(make_app: type[App], server: Server) -> None:
    """With encryption in the stack the engine stores ciphertext."""
    for is_async in (True, False):
        app = make_app(EncryptionPlugin(KeyRing(Key.generate())), is_async=is_async)
        server.answers["/secret"] = [(200, [("x-hidden", "hidden")], b'"hidden"')]

        @app.http_body()
        async def fn(ctx: Any, step: Any, http: Http) -> bool:
            return bool((await http.get(f"{server.url}/secret")).json() == "hidden")

        async with app.engine() as engine:
            run = await engine.run(inngest.Event(name="fn"))
            assert run.status == "Completed", run.reason
            assert run.result is True
            assert "hidden" not in str([each.response for each in run.requests])
        assert server.count("/secret") == 1
        server.received.clear()


async def test_the_sync_transport_in_an_async_function_is_refused(
    make_app: type[App], server: Server
) -> None:
    """It could not make a step, and an ordinary request would be sent at each replay."""
    app = make_app()

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        with httpx.Client(transport=DurableTransportSync()) as client:
            client.get(server.url)

    run = await app.run()
    assert run.status == "Failed"
    assert "httpx.AsyncClient(transport=DurableTransport())" in str(run.error)
    assert server.received == []


async def test_the_async_transport_in_a_sync_function_is_refused(server: Server) -> None:
    """The other way round, the same."""
    app = App(is_async=False)

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        async def ask() -> None:
            async with httpx.AsyncClient(transport=DurableTransport()) as client:
                await client.get(server.url)

        asyncio.run(ask())

    run = await app.run()
    assert run.status == "Failed"
    assert "DurableTransportSync" in str(run.error)
    assert server.received == []


async def test_a_memo_of_another_step_is_no_response(app: App, server: Server) -> None:
    """An id that was used for something else before is said, and the value is not shown."""
    requests: list[int] = []

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        async def work() -> str:
            return "private"

        requests.append(1)
        if len(requests) == 1:  # The code before it was changed.
            await step.run("mine", work)
        await http.get(server.url, extensions={"inngest_step_id": "mine"})

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert "step 'mine' is not a response" in str(run.error["message"])
    assert "private" not in str(run.error["message"])
    assert len(requests) == 2
    assert server.received == []


async def test_a_cancelled_run_closes_the_request(make_app: type[App], server: Server) -> None:
    """Cancelling a run while the server is slow leaves no connection behind."""
    app = make_app()
    asking = asyncio.Event()

    class Noticed(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asyncio.get_running_loop().call_later(0.02, asking.set)
            return await super().handle_async_request(request)

    app.options = {"transport": Noticed()}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(f"{server.url}/hang", timeout=60)

    async with app.engine() as engine:
        running = asyncio.create_task(engine.run(inngest.Event(name="fn")))
        await asking.wait()
        await engine.cancel(engine.runs[0])
        assert (await running).status == "Cancelled"
        server.release.set()


def test_wrong_options() -> None:
    """Each is refused where it is given, with what may be given."""
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"where": "server"}, ValueError, '"app" or "engine"'),
        ({"where": None}, ValueError, '"app" or "engine"'),
        ({"retry_on": "503"}, TypeError, "statuses and classes"),
        ({"retry_on": [True]}, TypeError, "it has a bool"),
        ({"retry_on": [999]}, ValueError, "999 is not a status"),
        ({"retry_on": [KeyboardInterrupt]}, TypeError, "it has a type"),
        ({"retry_on": [503], "where": "engine"}, ValueError, 'goes with where="app"'),
        ({"engine_may_see": ["cookie"]}, ValueError, 'goes with where="engine"'),
        ({"engine_may_see": "cookie", "where": "engine"}, TypeError, "list of names"),
        ({"credential_headers": "x"}, TypeError, "list of names"),
        ({"may_store": [1]}, TypeError, "list of names"),
        ({"max_bytes": "1"}, TypeError, "is a number"),
        ({"max_bytes": True}, TypeError, "is a number"),
        ({"max_bytes": -1}, ValueError, "0 or more"),
        ({"idempotency_header": ""}, TypeError, "name of a header"),
        ({"idempotency_header": "a b\n"}, TypeError, "name of a header"),
        ({"idempotency_header": "é"}, TypeError, "name of a header"),
        ({"transport": object()}, TypeError, "is an httpx"),
    ]
    for kind in (DurableTransport, DurableTransportSync):
        for options, error, message in cases:
            with pytest.raises(error, match=message):
                kind(**options)
    with pytest.raises(TypeError, match=r"httpx\.AsyncBaseTransport, not HTTPTransport"):
        DurableTransport(httpx.HTTPTransport())  # type: ignore[arg-type]


def test_one_base_for_every_error() -> None:
    """A user catches everything with one class."""
    from inngest_plugins import fetch

    for name in fetch.__all__:
        value = getattr(fetch, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, FetchError)


async def test_a_client_that_is_shared(server: Server) -> None:
    """One client of the module serves runs, steps and code outside."""
    async with httpx.AsyncClient(transport=DurableTransport()) as shared:
        client = inngest.Inngest(app_id="app", is_production=False)

        @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"))
        async def fn(ctx: inngest.Context) -> int:
            return int((await shared.get(f"{server.url}/json")).json()["n"])

        async with LocalEngine(client, [fn]) as engine:
            runs = await asyncio.gather(*(engine.run(inngest.Event(name="fn")) for _ in range(5)))
        assert sorted(run.output for run in runs) == [1, 2, 3, 4, 5]
        assert (await shared.get(f"{server.url}/json")).json()["n"] == 6


async def test_requests_with_files_and_generators(app: App, server: Server) -> None:
    """Bodies that are streamed are sent once, and not read on replay."""
    made: list[int] = []

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        await http.post(f"{server.url}/form", files={"f": b"data"})

        async def parts() -> AsyncIterator[bytes]:
            made.append(1)
            yield b"ab"

        def sync_parts() -> Iterator[bytes]:
            made.append(1)
            yield b"ab"

        content = parts() if app.is_async else sync_parts()
        await http.post(f"{server.url}/stream", content=content, headers={"content-length": "2"})

    run = await app.run()
    assert run.status == "Completed", run.reason
    assert b"data" in server.received[0].body
    assert server.received[1].body == b"ab"
    assert made == [1]


def test_the_error_of_a_failed_request_is_httpx_s() -> None:
    """It is what libraries look for, and what the engine does not retry."""
    from inngest_plugins.fetch._errors import failed_error

    error = failed_error("ConnectTimeout", "too slow", "GET x")
    assert isinstance(error, httpx.ConnectTimeout)
    assert isinstance(error, httpx.TimeoutException)
    assert isinstance(error, inngest.StepError)
    assert isinstance(error, RequestFailedError)
    assert type(error).__name__ == "ConnectTimeout"
    assert type(failed_error("ConnectTimeout", "x", "y")) is type(error)
    other = failed_error("GatewayError", "no route", "GET x")
    assert type(other).__name__ == "TransportError"
    assert "GatewayError: no route" in str(other)
    assert str(failed_error("HTTPStatusError", "", "s")).endswith("failed: HTTPStatusError")
