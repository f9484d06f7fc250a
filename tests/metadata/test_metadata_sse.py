"""Subscribing over the network, against a server that speaks the realtime API on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import fastapi
import inngest
import pytest
import uvicorn
from starlette.responses import JSONResponse, Response, StreamingResponse

from inngest_plugins.core import RealtimeTiming
from inngest_plugins.metadata import (
    MetadataClient,
    MetadataSendError,
    Snapshot,
    subscribe,
    subscribe_stream,
)
from inngest_plugins.metadata import _live as subscribing

pytestmark = pytest.mark.anyio

RUN = "01J00000000000000000000000"
Connection = Callable[[], AsyncIterator[str]]


class Server:
    """The token and the event endpoint of an Inngest server (`pkg/execution/realtime`)."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.sockets: list[list[str]] = []
        self.tokens: list[Any] = []
        self.authorizations: list[str] = []
        self.token_status = 201
        self.sse_status = 200
        self.url = ""

    def app(self) -> fastapi.FastAPI:
        app = fastapi.FastAPI()

        @app.websocket("/v1/realtime/connect")
        async def connect(socket: fastapi.WebSocket) -> None:
            self.authorizations.append(socket.query_params["token"])
            if not self.sockets:
                await socket.close()
                return
            await socket.accept()
            await socket.send_bytes(b"no text")
            for message in self.sockets.pop(0):
                await socket.send_text(message)
            await socket.close()

        @app.post("/v1/realtime/token")
        async def token(request: fastapi.Request) -> Response:
            self.tokens.append(await request.json())
            # The SDK's HTTP client is never closed: let it keep no connection.
            return JSONResponse(
                {"jwt": "header.claims.signature"}, self.token_status, {"Connection": "close"}
            )

        @app.get("/v1/realtime/sse")
        async def sse(request: fastapi.Request) -> Response:
            self.authorizations.append(request.headers["authorization"])
            if self.sse_status != 200:
                return Response(status_code=self.sse_status)
            return StreamingResponse(self.connections.pop(0)(), media_type="text/event-stream")

        return app


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port of loopback."""
    served = Server()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(
        served.app(), host="127.0.0.1", port=port, log_level="error", lifespan="off"
    )
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    served.url = f"http://127.0.0.1:{port}"
    yield served
    running.should_exit = True
    await task


def client_of(server: Server) -> inngest.Inngest:
    return inngest.Inngest(app_id="app", is_production=False, api_base_url=server.url)


def event(data: Any, topic: str = "metadata", kind: str = "data") -> str:
    """Render a message the way the server does."""
    message = {"kind": kind, "channel": RUN, "topic": topic, "data": data, "created_at": "x"}
    return f"data: {json.dumps(message)}\n\n"


def snapshot(status: str = "running", **values: Any) -> str:
    return event({"run_id": RUN, "status": status, "kinds": {"default": values}})


async def test_events_become_snapshots(server: Server) -> None:
    """Keepalives, strangers and junk are passed over; the run's last snapshot ends the loop."""

    async def connection() -> AsyncIterator[str]:
        yield ":\n\n"
        yield snapshot(n=1)
        yield "data: no json\n\n"
        yield event({}, topic="other")
        yield 'data: {"kind":\n'
        yield 'data: "ping"}\n\n'
        yield snapshot(n=2)[:20]
        yield snapshot(n=2)[20:]
        yield snapshot("completed", n=3)
        await asyncio.sleep(60)

    server.connections.append(connection)
    found: list[Snapshot] = []
    async for each in subscribe(RUN, client=client_of(server)):
        found.append(each)
    assert found == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [each.status for each in found] == ["running", "running", "completed"]
    assert server.tokens == [[{"kind": "run", "channel": RUN, "name": "metadata"}]]
    assert server.authorizations == ["Bearer header.claims.signature"]


async def test_streams_come_over_the_network_too(server: Server) -> None:
    """Chunks of a stream arrive in order until its end."""

    async def connection() -> AsyncIterator[str]:
        for index in range(3):
            yield event({"stream": "s", "index": index, "chunk": index}, "metadata.stream.s")
        yield event({"stream": "s", "index": 3, "end": True}, "metadata.stream.s")

    server.connections.append(connection)
    chunks = [chunk async for chunk in subscribe_stream(RUN, "s", client=client_of(server))]
    assert chunks == [0, 1, 2]


async def test_a_closed_connection_is_renewed(server: Server) -> None:
    """When the server closes the connection, the subscription goes on with a new token."""

    async def first() -> AsyncIterator[str]:
        yield snapshot(n=1)

    async def second() -> AsyncIterator[str]:
        yield snapshot("failed", n=2)

    server.connections += [first, second]
    found = [each async for each in MetadataClient(client_of(server)).subscribe(RUN)]
    assert found == [{"n": 1}, {"n": 2}]
    assert found[-1].status == "failed"
    assert len(server.tokens) == 2


async def test_a_broken_connection_is_renewed(server: Server) -> None:
    """A connection that breaks in the middle of a response is renewed."""

    async def first() -> AsyncIterator[str]:
        yield snapshot(n=1)
        raise RuntimeError("the server dies")

    async def second() -> AsyncIterator[str]:
        yield snapshot("completed", n=2)

    server.connections += [first, second]
    found = [each async for each in subscribe(RUN, client=client_of(server))]
    assert found == [{"n": 1}, {"n": 2}]


async def test_a_refusal_is_an_error(server: Server) -> None:
    """A server that gives no token, or refuses it, ends the subscription with an error."""
    server.sse_status = 401
    with pytest.raises(MetadataSendError, match="refused the subscription with 401"):
        await subscribe(RUN, client=client_of(server)).__anext__()
    server.token_status = 404
    with pytest.raises(
        MetadataSendError, match=r"cannot be subscribed to: .*the engine answered 404"
    ):
        await subscribe(RUN, client=client_of(server)).__anext__()


async def test_a_server_that_stays_away_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After several failures in a row the subscription gives up and says so."""
    monkeypatch.setattr(subscribing, "_TIMING", RealtimeTiming(reconnect=(0.01, 0.01)))

    async def broken() -> AsyncIterator[str]:
        if server.url:
            raise RuntimeError("the server dies")
        yield ""

    server.connections += [broken] * 3
    with pytest.raises(MetadataSendError, match="was lost"):
        await subscribe(RUN, client=client_of(server)).__anext__()


async def test_an_unreachable_engine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a client the environment says where the engine is; nobody there is an error."""
    monkeypatch.setenv("INNGEST_DEV", "http://127.0.0.1:9")
    with pytest.raises(MetadataSendError, match="cannot be subscribed to"):
        await subscribe(RUN).__anext__()


async def test_leaving_the_loop_closes_the_connection(server: Server) -> None:
    """Closing the iterator early lets the server see the connection go."""
    closed = asyncio.Event()

    async def connection() -> AsyncIterator[str]:
        try:
            while True:
                yield snapshot(n=1)
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    server.connections.append(connection)
    snapshots: Any = subscribe(RUN, client=client_of(server))
    async with contextlib.aclosing(snapshots):
        async for each in snapshots:
            assert each == {"n": 1}
            break
    await asyncio.wait_for(closed.wait(), 100)


def message(text: str) -> str:
    """Return what an event carries, as the WebSocket sends it."""
    return text.removeprefix("data: ").strip()


async def test_an_older_server_is_followed_over_its_websocket(server: Server) -> None:
    """Where there are no server-sent events the WebSocket is used, and renewed when it closes."""
    server.sse_status = 404
    server.sockets = [
        [message(snapshot(n=1)), "no json"],
        [message(snapshot("completed", n=2))],
    ]
    found = [each async for each in subscribe(RUN, client=client_of(server))]
    assert found == [{"n": 1}, {"n": 2}]
    assert (
        server.authorizations
        == ["Bearer header.claims.signature"] + ["header.claims.signature"] * 2
    )


async def test_a_websocket_that_cannot_be_opened_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After several refusals in a row the subscription gives up."""
    monkeypatch.setattr(subscribing, "_TIMING", RealtimeTiming(reconnect=(0.01, 0.01)))
    server.sse_status = 501
    with pytest.raises(MetadataSendError, match="was lost"):
        await subscribe(RUN, client=client_of(server)).__anext__()


async def test_without_the_websockets_package_the_error_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older server needs is named with the command that installs it."""
    server.sse_status = 404
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(MetadataSendError, match="pip install websockets"):
        await subscribe(RUN, client=client_of(server)).__anext__()
