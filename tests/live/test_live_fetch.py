"""Requests by the engine itself, on a real server."""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest

from inngest_plugins.fetch import durable_fetch, durable_fetch_sync
from inngest_plugins.metadata import MetadataPlugin

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The URL of an HTTP server on the loopback interface, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            paths.append(self.path)
            answer = json.dumps({"path": self.path, "got": json.loads(body)}).encode()
            self.send_response(418 if self.path == "/teapot" else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_live_the_engine_makes_the_request(
    live_server: LiveServer, asked: tuple[str, list[str]], is_async: bool
) -> None:
    """Responses are data, whatever their status; what cannot be reached is an error of httpx's."""
    url, paths = asked
    app = f"live-fetch-{uuid.uuid4().hex[:8]}"
    client = live_server.client(app, middleware=[MetadataPlugin()])
    trigger = inngest.TriggerEvent(event=f"{app}/go")
    options: Any = {"method": "POST", "where": "engine", "json": {"n": 1}}
    responses: list[httpx.Response] = []

    async def work(ctx: inngest.Context) -> str:
        responses[:] = [
            await durable_fetch(f"{url}/ok", **options),
            await durable_fetch(f"{url}/teapot", **options),
        ]
        with pytest.raises(httpx.TransportError) as raised:
            await durable_fetch("http://127.0.0.1:9/", where="engine")
        return str(raised.value)

    def work_sync(ctx: inngest.ContextSync) -> str:
        responses[:] = [
            durable_fetch_sync(f"{url}/ok", **options),
            durable_fetch_sync(f"{url}/teapot", **options),
        ]
        with pytest.raises(httpx.TransportError) as raised:
            durable_fetch_sync("http://127.0.0.1:9/", where="engine")
        return str(raised.value)

    body: Any = work if is_async else work_sync
    function = client.create_function(fn_id="work", trigger=trigger, retries=0)(body)
    live_server.serve(client, [function])
    ended = live_server.ended(live_server.start(client, inngest.Event(name=f"{app}/go")))
    assert ended["status"] == "COMPLETED", ended
    assert "GatewayError" in ended["output"]
    assert paths == ["/ok", "/teapot"]
    assert [(each.status_code, each.json()) for each in responses] == [
        (200, {"path": "/ok", "got": {"n": 1}}),
        (418, {"path": "/teapot", "got": {"n": 1}}),
    ]
