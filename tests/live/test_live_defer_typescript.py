"""Deferring a TypeScript function, on a real server. TypeScript defers to its own app only.

`INNGEST_NODE_MODULES` names a folder `node_modules` with the npm package `inngest`; it needs node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.defer import DeferPlugin, defer, deferred_function_by_id

from .conftest import free_port
from .live_client import IN_PRODUCTION

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

NODE = shutil.which("node")
MODULES = os.environ.get("INNGEST_NODE_MODULES")

pytestmark = pytest.mark.skipif(
    not (NODE and MODULES), reason="needs node, and the npm package inngest: INNGEST_NODE_MODULES"
)


@pytest.fixture
def told() -> Iterator[tuple[str, list[Any]]]:
    """An address to which the TypeScript function tells what it was given."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def typescript(live_server: LiveServer, told: tuple[str, list[Any]]) -> Iterator[str]:
    """The TypeScript app, served; its id."""
    port, app = free_port(), f"live-ts-{uuid.uuid4().hex[:8]}"
    assert NODE is not None
    env = {
        **os.environ,
        "NODE_PATH": str(MODULES),
        "INNGEST_BASE_URL": live_server.url,
        "INNGEST_DEV": "0" if IN_PRODUCTION else live_server.url,
        "PORT": str(port),
        "APP": app,
        "TOLD": told[0],
    }
    program = Path(__file__).with_name("defer_app.cjs")
    process = subprocess.Popen([NODE, str(program)], env=env)
    try:
        live_server.register(port)
        yield app
    finally:
        process.kill()
        process.wait()


def test_live_defer_to_typescript(
    live_server: LiveServer, typescript: str, told: tuple[str, list[Any]]
) -> None:
    """It gets the data once, after the run, and is told which run deferred it."""
    client = live_server.client(f"{typescript}-python", middleware=[DeferPlugin()])
    summarise = deferred_function_by_id(app_id=typescript, fn_id="summarise")

    @client.create_function(
        fn_id="start", trigger=inngest.TriggerEvent(event=f"{typescript}/go"), retries=0
    )
    async def start(ctx: inngest.Context) -> None:
        defer("summary", summarise, {"order_id": "o-1"})

    live_server.serve(client, [start])
    run_id = live_server.start(client, inngest.Event(name=f"{typescript}/go"))
    _, bodies = told
    deadline = time.monotonic() + 60
    while not bodies:
        assert time.monotonic() < deadline, "nothing was deferred"
        time.sleep(0.1)
    parent = {"fnSlug": f"{client.app_id}-start", "runId": run_id}
    assert bodies == [{"data": {"order_id": "o-1"}, "parents": [parent]}]
