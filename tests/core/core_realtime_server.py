"""A server that speaks the realtime API on loopback, for tests of subscriptions."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import fastapi
import uvicorn
from starlette.responses import JSONResponse, Response, StreamingResponse

from inngest_plugins.core import RealtimeTiming, RealtimeTopic

FAST = RealtimeTiming(
    reconnect=(0.01, 0.01, 0.01), renew_before=0.05, overlap=0.1, run_poll=0.02, drain=0.05
)
Script = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One open server-sent events connection, as its script drives it."""

    def __init__(self, claims: dict[str, Any]) -> None:
        self.topics = {RealtimeTopic(t["channel"], t["name"]) for t in claims["topics"]}
        self.token = claims["jti"]
        self.lines: asyncio.Queue[str | None] = asyncio.Queue()
        self.open = True

    def send(self, topic: RealtimeTopic, data: Any, kind: str = "data") -> None:
        """Send a message."""
        message = {
            "kind": kind,
            "channel": topic.channel,
            "topic": topic.name,
            "data": data,
            "created_at": "2026-11-29T00:00:00.5Z",
        }
        self.lines.put_nowait(f"data: {json.dumps(message)}\n\n")

    def close(self) -> None:
        """Close the connection."""
        self.lines.put_nowait(None)


class Server:
    """The token, publish, event and run endpoints of an Inngest server."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.tokens: list[list[Any]] = []
        self.published: list[tuple[dict[str, str], Any]] = []
        self.script: Script | None = None
        self.lifetime: float | None = 60.0
        self.run_status: str | None = "Running"
        self.token_status = 201
        self.publish_status = 200
        self.url = ""

    def broadcast(self, topic: RealtimeTopic, data: Any) -> None:
        """Send a message over every open connection that wants it."""
        for connection in self.connections:
            if connection.open and topic in connection.topics:
                connection.send(topic, data)

    @property
    def open(self) -> list[Connection]:
        """The connections that are open."""
        return [connection for connection in self.connections if connection.open]

    def app(self) -> fastapi.FastAPI:
        app = fastapi.FastAPI()

        @app.post("/v1/realtime/token")
        async def token(request: fastapi.Request) -> Response:
            self.tokens.append(await request.json())
            claims = {"topics": self.tokens[-1], "jti": len(self.tokens)}
            if self.lifetime is not None:
                claims |= {"iat": 1000.0, "exp": 1000.0 + self.lifetime}
            payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
            return JSONResponse(
                {"jwt": f"e30.{payload}.signed"}, self.token_status, {"Connection": "close"}
            )

        @app.post("/v1/realtime/publish")
        async def publish(request: fastapi.Request) -> Response:
            self.published.append((dict(request.query_params), json.loads(await request.body())))
            return Response(status_code=self.publish_status, headers={"Connection": "close"})

        @app.get("/v1/runs/{run_id}")
        async def run(run_id: str) -> Response:
            if self.run_status is None:
                return JSONResponse({"error": "unknown"}, 500, {"Connection": "close"})
            body = {"data": {"run_id": run_id, "status": self.run_status}}
            return JSONResponse(body, 200, {"Connection": "close"})

        @app.get("/v1/realtime/sse")
        async def sse(request: fastapi.Request) -> Response:
            payload = request.headers["authorization"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            connection = Connection(claims)
            self.connections.append(connection)
            if self.script is not None:
                await self.script(connection)

            async def lines() -> AsyncIterator[str]:
                try:
                    while (line := await connection.lines.get()) is not None:
                        yield line
                finally:
                    connection.open = False

            return StreamingResponse(lines(), media_type="text/event-stream")

        return app


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve on a free port of loopback."""
    served = Server()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(served.app(), log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve(sockets=[listening]))
    while not running.started:
        await asyncio.sleep(0.01)
    served.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield served
    for connection in served.connections:
        connection.close()
    running.should_exit = True
    await task
    listening.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, and not for ever."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited for nothing")
