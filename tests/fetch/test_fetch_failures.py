"""What makes the engine try again, what is data, and what fails for good."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest

from inngest_plugins.fetch import RequestFailedError
from inngest_plugins.local import LocalEngine, VirtualClock

from .conftest import Answer, App, Http, Received, Server

pytestmark = pytest.mark.anyio

OK: Answer = (200, [], b"ok")


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_the_engine_tries_again(app: App, server: Server, status: int) -> None:
    """A status of a server in trouble is an attempt that failed."""
    server.answers["/x"] = [(status, [], b"down"), (status, [], b"down"), OK]

    @app.http_body(retries=3)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        return (await http.get(f"{server.url}/x")).text

    run = await app.run()
    assert run.output == "ok", run.reason
    assert server.count("/x") == 3
    (step,) = run.steps.values()
    assert step.attempts == 3


async def test_at_the_last_attempt_the_response_is_data(app: App, server: Server) -> None:
    """The function sees what the server last said, as without the transport."""
    server.answers["/x"] = [(503, [("x-why", "maintenance")], b"down")]

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        response = await http.get(f"{server.url}/x")
        return [response.status_code, response.headers["x-why"], response.text]

    run = await app.run()
    assert run.output == [503, "maintenance", "down"], run.reason
    assert server.count("/x") == 3


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500])
async def test_other_statuses_are_data(app: App, server: Server, status: int) -> None:
    """They are answers. So is a 429 that does not say when."""
    server.answers["/x"] = [(status, [], b"")]

    @app.http_body(retries=3)
    async def fn(ctx: Any, step: Any, http: Http) -> int:
        return (await http.get(f"{server.url}/x")).status_code

    run = await app.run()
    assert run.output == status
    assert server.count("/x") == 1


@pytest.mark.parametrize("how", ["seconds", "date", "503"])
async def test_retry_after_is_kept(app: App, server: Server, how: str) -> None:
    """The engine waits as long as the server said, by seconds or by a date."""
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    value = email.utils.format_datetime(later, usegmt=True) if how == "date" else "3600"
    status = 503 if how == "503" else 429
    server.answers["/x"] = [(status, [("retry-after", value)], b""), OK]
    clock = VirtualClock()
    times: list[float] = []

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        times.append(clock.now())
        return (await http.get(f"{server.url}/x")).text

    async with LocalEngine(app.client, app.functions, clock=clock, retry_interval=1) as engine:
        run = await engine.run(inngest.Event(name="fn"))
    assert run.output == "ok", run.reason
    assert 3500 < times[1] - times[0] < 3700
    assert server.count("/x") == 2


@pytest.mark.parametrize(
    "value",
    ["soon", "-5", "", "99999999999999999999", "\xb2", f"Mon, 01 Jan {10**20} 00:00:00 GMT"],
)
async def test_an_odd_retry_after_does_no_harm(app: App, server: Server, value: str) -> None:
    """Whatever the server says, the run goes on."""
    server.answers["/x"] = [(503, [("retry-after", value)], b""), OK]

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        return (await http.get(f"{server.url}/x")).text

    assert (await app.run()).output == "ok"


async def test_a_transport_that_says_when_to_try_again(app: App) -> None:
    """Its `RetryAfterError` goes to the engine, as one of the function does."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            raise inngest.RetryAfterError("no token yet", datetime.timedelta(hours=1))
        return httpx.Response(200, text="ok")

    app.options = {"transport": httpx.MockTransport(answer)}

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        return (await http.get("https://api.example.test/x")).text

    run = await app.run()
    assert run.output == "ok", run.reason
    assert len(asked) == 2


async def test_a_library_that_catches_everything_does_not_repeat_the_request(
    app: App, server: Server
) -> None:
    """The engine's delay is kept although the library would try again at once."""
    server.answers["/x"] = [(429, [("retry-after", "1")], b""), OK]

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        for _ in range(3):
            try:
                return (await http.get(f"{server.url}/x")).text
            except Exception:
                continue
        return "gave up"

    run = await app.run()
    assert run.output == "ok", run.reason
    assert server.count("/x") == 2
    assert len(run.steps) == 1


async def test_own_retry_on(app: App, server: Server) -> None:
    """Statuses and exceptions of one's own replace the default."""
    app.options = {"retry_on": [409, 429]}
    server.answers["/conflict"] = [(409, [], b""), OK]
    server.answers["/busy"] = [(429, [], b""), OK]
    server.answers["/down"] = [(503, [], b"")]

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        return [
            (await http.get(f"{server.url}{path}")).status_code
            for path in ("/conflict", "/busy", "/down")
        ]

    assert (await app.run()).output == [200, 200, 503]
    assert server.count("/down") == 1


def _refused() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


async def test_connection_refused(app: App) -> None:
    """Tried again by the engine; then the error that httpx would have raised, on every replay."""
    seen: list[tuple[bool, bool, int]] = []

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        try:
            await http.get(_refused(), extensions={"inngest_step_id": "ask"})
        except httpx.ConnectError as err:
            seen.append((isinstance(err, RequestFailedError), err.request is not None, ctx.attempt))

        async def work() -> str:
            return "went on"

        return await step.run("work", work)  # type: ignore[no-any-return]

    run = await app.run()
    assert run.output == "went on", run.reason
    assert run.steps["ask"].attempts == 3
    assert seen == [(True, True, 0)] * 2


async def test_an_uncaught_failure_ends_the_run(app: App) -> None:
    """Once the step has used its attempts, the function is not tried again on top of them."""

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get(_refused(), extensions={"inngest_step_id": "ask"})

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "ConnectError"
    assert "step 'ask'" in str(run.error["message"])
    assert len(run.requests) == 4


async def test_an_error_that_is_not_retried_is_stored(app: App) -> None:
    """With an empty `retry_on` a request is tried once, whatever happens."""
    app.options = {"retry_on": []}

    @app.http_body(retries=3)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        try:
            await http.get(_refused(), extensions={"inngest_step_id": "ask"})
        except httpx.ConnectError as err:
            return type(err).__name__
        return "no error"

    run = await app.run()
    assert run.output == "ConnectError", run.reason
    assert run.steps["ask"].attempts == 1


async def test_timeouts(app: App, server: Server) -> None:
    """The client's timeout counts; the error is the timeout that libraries look for."""
    app.client_options = {"timeout": 0.05}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        try:
            await http.get(f"{server.url}/hang")
        except httpx.TimeoutException as err:
            return type(err).__name__
        return "no error"

    assert (await app.run()).output == "ReadTimeout"


async def test_a_body_that_breaks_off_is_tried_again(make_app: type[App]) -> None:
    """A response that ends too early is a transport error."""

    class Breaks(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise httpx.ReadError("gone")

    asked: list[int] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        if len(asked) == 1:
            return httpx.Response(200, stream=Breaks())
        return httpx.Response(200, content=b"whole")

    app = make_app()
    app.options = {"transport": httpx.MockTransport(answer)}

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        return (await http.get("http://test/x")).text

    assert (await app.run()).output == "whole"


async def test_the_response_is_closed_however_it_ends(make_app: type[App]) -> None:
    """A response that is too large, retried or read is closed."""
    closed: list[str] = []

    class Watched(httpx.AsyncByteStream):
        def __init__(self, name: str, body: bytes) -> None:
            self.name = name
            self.body = body

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield self.body

        async def aclose(self) -> None:
            closed.append(self.name)

    tries: dict[str, int] = {}

    async def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        tries[path] = tries.get(path, 0) + 1
        status = 503 if path == "/retried" and tries[path] == 1 else 200
        return httpx.Response(status, stream=Watched(path, b"x" * (20 if path == "/big" else 1)))

    app = make_app()
    app.options = {"transport": httpx.MockTransport(answer), "max_bytes": 10}

    @app.http_body(retries=1)
    async def fn(ctx: Any, step: Any, http: Http) -> None:
        await http.get("http://test/read")
        await http.get("http://test/retried")
        await http.get("http://test/big")

    await app.run()
    assert closed == ["/read", "/retried", "/retried", "/big"]


WORKER = """
import asyncio, sys
import httpx, inngest
from inngest_plugins.fetch import DurableTransport
from inngest_plugins.local import LocalEngine, RealClock

url, journal, begin = sys.argv[1], sys.argv[2], sys.argv[3] == "begin"
client = inngest.Inngest(app_id="app", is_production=False)

@client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"), retries=20)
async def fn(ctx):
    async with httpx.AsyncClient(transport=DurableTransport()) as http:
        return [(await http.post(f"{url}/item/{n}")).json()["path"] for n in range(30)]

async def main():
    async with LocalEngine(client, [fn], journal, RealClock(), retry_interval=0.01) as engine:
        if begin:
            await engine.send(inngest.Event(name="fn"))
        await engine.settle()
        (run,) = engine.runs
        print(run.status, len(run.output))

asyncio.run(main())
"""


def test_killed_workers_repeat_no_request_that_was_acknowledged(
    server: Server, tmp_path: Path
) -> None:
    """Killed in mid-request again and again: what is sent again has the same idempotency key."""
    worker = tmp_path / "worker.py"
    worker.write_text(textwrap.dedent(WORKER))
    kills = [5, 12, 20]
    processes: list[subprocess.Popen[str]] = []

    def answer(request: Received) -> Answer:
        if kills and request.path == f"/item/{kills[0]}":
            kills.pop(0)
            os.kill(processes[-1].pid, signal.SIGKILL)
        return 200, [], f'{{"path": "{request.path}"}}'.encode()

    for n in range(30):
        server.answers[f"/item/{n}"] = answer
    for what in ("begin", "resume", "resume", "resume"):
        processes.append(
            subprocess.Popen(
                [sys.executable, str(worker), server.url, str(tmp_path / "journal"), what],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        out, _ = processes[-1].communicate(timeout=200)
    assert out.split() == ["Completed", "30"]
    keys: dict[str, set[str]] = {}
    for each in server.received:
        keys.setdefault(each.path, set()).add(each.headers["idempotency-key"])
    assert len(keys) == 30
    # Each kill repeats the one request that had no answer, under the key that it had.
    assert all(len(found) == 1 for found in keys.values())
    assert len(server.received) == 33


async def test_a_failing_transport_of_the_user(make_app: type[App]) -> None:
    """An exception that is none of httpx's is a failed request as well."""

    async def answer(request: httpx.Request) -> httpx.Response:
        raise OSError("odd")

    app = make_app()
    app.options = {"transport": httpx.MockTransport(answer)}

    @app.http_body(retries=2)
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        try:
            await http.get("http://test/x")
        except httpx.TransportError as err:
            return str(err)
        return "no error"

    run = await app.run()
    assert "OSError: odd" in run.output
    assert run.steps["GET test/x"].attempts == 1


async def test_concurrent_requests_by_gather(make_app: type[App], server: Server) -> None:
    """Tasks of the body that ask at once: the run ends, with what each asked for."""
    app = make_app()

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> Any:
        found = await asyncio.gather(*(http.get(f"{server.url}/g/{n}") for n in range(3)))
        return [each.json()["path"] for each in found]

    run = await app.run()
    assert run.output == ["/g/0", "/g/1", "/g/2"], run.reason


async def test_a_hostile_exception_of_a_transport(make_app: type[App]) -> None:
    """One whose text cannot be had is a failed request as well."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def answer(request: httpx.Request) -> httpx.Response:
        raise Hostile

    app = make_app()
    app.options = {"transport": httpx.MockTransport(answer)}

    @app.http_body()
    async def fn(ctx: Any, step: Any, http: Http) -> str:
        try:
            await http.get("http://test/x")
        except httpx.TransportError as err:
            return str(err)
        return "no error"

    assert "Hostile: <text unavailable>" in (await app.run()).output
