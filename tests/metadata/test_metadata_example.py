"""The example page, in a real browser."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "progress" / "app.py"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("progress_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["progress_example"] = module
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """Serve the example on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(load_example().app, host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class Browser:
    """A page in headless Chromium, driven over the DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = 0

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method and return its result."""
        self._calls += 1
        await self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(await self._socket.recv())
            if message.get("id") == self._calls:
                return message["result"]

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")


@asynccontextmanager
async def browser(url: str, profile: Path) -> AsyncIterator[Browser]:
    """Open a page in a browser that is closed afterwards."""
    import websockets

    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        active = profile / "DevToolsActivePort"
        while not active.exists() or not active.read_text().strip():
            await asyncio.sleep(0.05)
        port = active.read_text().split()[0]
        async with httpx.AsyncClient() as http:
            pages: list[Any] = []
            while not pages:
                found = (await http.get(f"http://127.0.0.1:{port}/json/list")).json()
                pages = [page for page in found if page["type"] == "page" and page["url"] != ""]
        async with websockets.connect(pages[0]["webSocketDebuggerUrl"]) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        await process.wait()


async def test_the_example_streams_snapshots_to_the_page() -> None:
    """The example's endpoint yields growing snapshots and ends with the run."""
    async with served() as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        assert "<progress" in (await http.get("/")).text
        assert (await http.get("/imports/unknown/events")).status_code == 404
        run_id = (await http.post("/imports")).json()["run_id"]
        snapshots: list[Any] = []
        async with http.stream("GET", f"/imports/{run_id}/events") as response:
            async for line in response.aiter_lines():
                if line:
                    snapshots.append(json.loads(line.removeprefix("data: ")))
    progress = [snapshot["progress"] for snapshot in snapshots if "progress" in snapshot]
    assert progress == sorted(progress)
    assert len(set(progress)) > 10
    assert snapshots[-1]["status"] == "completed"
    assert snapshots[-1]["state"] == "done"
    assert snapshots[-1]["rows"] == 60
    assert len(snapshots[-1]["log"]) == 3


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_the_progress_bar_moves_while_the_run_runs(tmp_path: Path) -> None:
    """In a browser the bar moves in many steps from 0 to 1, and the page says it is done."""
    async with served() as url, browser(url, tmp_path / "profile") as page:
        while await page.evaluate("document.getElementById('bar')?.value") != 0:
            await asyncio.sleep(0.05)
        await page.evaluate("document.getElementById('start').click()")
        positions: list[float] = []
        async with asyncio_timeout(60):
            while not positions or positions[-1] < 1:
                positions.append(await page.evaluate("document.getElementById('bar').value"))
                await asyncio.sleep(0.05)
            while "completed" not in (
                state := await page.evaluate("document.getElementById('state').textContent")
            ):
                await asyncio.sleep(0.05)
        assert positions == sorted(positions)
        assert len(set(positions)) >= 8
        assert state == "done: 60 rows (run completed)"
        assert await page.evaluate("document.querySelectorAll('#log li').length") == 3


@asynccontextmanager
async def asyncio_timeout(seconds: float) -> AsyncIterator[None]:
    """Fail after so many seconds (`asyncio.timeout` is newer than the oldest Python here)."""
    import anyio

    with anyio.fail_after(seconds):
        yield
