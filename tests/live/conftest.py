"""A real Inngest server for the live suite.

`INNGEST_DEV_URL` names it, such as http://127.0.0.1:8288; without it every live test is skipped.
With `INNGEST_SIGNING_KEY` and `INNGEST_EVENT_KEY` it is one in production mode.
The apps under test are served over HTTP on the loopback interface, or by a second process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
import pytest
import uvicorn

from .live_client import URL, client_options

ROOT = Path(__file__).parents[2]
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_RUN = """{run(runID:"%s"){id status output trace(preview: true){
  name status spanID stepID stepOp isUserland metadata{scope kind values}
  childrenSpans{name status attempts spanID stepID stepOp isUserland outputID
    userlandSpan{spanName spanKind serviceName} metadata{scope kind values}
    childrenSpans{name status spanID stepID stepOp isUserland
      userlandSpan{spanName spanKind serviceName} metadata{scope kind values}
      childrenSpans{name status spanID isUserland userlandSpan{spanName}}}}}}}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as live, and skip it where there is no server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)
            # The SDK never closes the connections that a client keeps alive.
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(
                pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
            )
            if not URL:
                item.add_marker(pytest.mark.skip(reason="INNGEST_DEV_URL is not set"))


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class LiveServer:
    """The server, as the tests talk to it."""

    url: str
    _closing: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def client(self, app_id: str, **options: Any) -> inngest.Inngest:
        """Return a client of this server."""
        return inngest.Inngest(app_id=app_id, **{**client_options(), **options})

    def serve(
        self,
        client: inngest.Inngest,
        functions: Sequence[inngest.Function[Any]],
        *,
        behind: Callable[[Any], Any] = lambda app: app,
    ) -> str:
        """Serve an app from a thread of this process, and register it.

        Args:
            client: The app's client.
            functions: Its functions.
            behind: Makes the ASGI application that is served of the app.

        Returns:
            The URL of its endpoint.
        """
        app = fastapi.FastAPI()
        port = free_port()
        inngest.fast_api.serve(
            app, client, list(functions), serve_origin=f"http://127.0.0.1:{port}"
        )
        server = uvicorn.Server(
            uvicorn.Config(behind(app), host="127.0.0.1", port=port, log_level="warning")
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(10)

        self._closing.append(stop)
        return self.register(port)

    def serve_process(self, module: Path, port: int | None = None) -> subprocess.Popen[bytes]:
        """Serve `app` of a Python file from a process of its own, and register it.

        The file finds the server in INNGEST_DEV_URL and its port in PORT, and defines the FastAPI
        application as `app`.
        """
        port = port or free_port()
        command = [sys.executable, "-m", "uvicorn", f"{module.stem}:app", "--port", str(port)]
        process = subprocess.Popen(
            command,
            cwd=module.parent,
            env={**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT)},
        )

        def stop() -> None:
            process.kill()
            process.wait(10)

        self._closing.append(stop)
        self.register(port)
        return process

    def register(self, port: int) -> str:
        """Have the app at this port register itself with the server."""
        endpoint = f"http://127.0.0.1:{port}/api/inngest"
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = httpx.put(endpoint, timeout=30)
            except httpx.ConnectError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                assert answer.status_code == httpx.codes.OK, answer.text
                assert "error" not in answer.json(), answer.text
                return endpoint

    def query(self, query: str) -> Any:
        """Ask the server's GraphQL endpoint, which caches nothing.

        Returns:
            What was asked for; an empty object where the server knows it not, or not yet.
        """
        answer = httpx.post(f"{self.url}/v0/gql", json={"query": query}, timeout=30)
        return answer.json()["data"] or {}

    def run_ids(self, event_id: str, *, count: int = 1, timeout: float = 30) -> list[str]:
        """Wait until an event has started so many runs, and return their ids."""
        deadline = time.monotonic() + timeout
        while True:
            event = self.query(f'{{eventV2(id:"{event_id}"){{runs{{id}}}}}}').get("eventV2")
            ids = [run["id"] for run in (event or {}).get("runs") or []]
            if len(ids) >= count:
                return ids
            assert time.monotonic() < deadline, f"event {event_id} started {len(ids)} runs"
            time.sleep(0.1)

    def run(self, run_id: str) -> Any:
        """Return a run with its trace tree as it is now."""
        return self.query(_RUN % run_id).get("run")

    def ended(self, run_id: str, *, timeout: float = 60) -> Any:
        """Wait until a run has ended, and return it with its trace tree."""
        deadline = time.monotonic() + timeout
        while True:
            run = self.run(run_id)
            # The output can be empty for some milliseconds after the status is terminal.
            if run and run["status"] in ENDED and (run["output"] or run["status"] == "CANCELLED"):
                return run
            assert time.monotonic() < deadline, f"run {run_id} has not ended: {run}"
            time.sleep(0.1)

    def start(self, client: inngest.Inngest, event: inngest.Event) -> str:
        """Send an event that starts one run, and return the run's id."""
        (event_id,) = client.send_sync(event)
        return self.run_ids(event_id)[0]

    def cancel(self, run_id: str) -> None:
        """Cancel a run, and wait until the server says that it is."""
        answer = self.query(f'mutation{{cancelRun(runID:"{run_id}"){{status}}}}')
        assert answer, f"run {run_id} was not cancelled"
        self.ended(run_id)

    def close(self) -> None:
        """Stop what was served."""
        while self._closing:
            self._closing.pop()()


@pytest.fixture
def live_server() -> Iterator[LiveServer]:
    """The server at INNGEST_DEV_URL."""
    server = LiveServer(URL)
    try:
        yield server
    finally:
        server.close()
