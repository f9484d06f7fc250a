"""A page in a real browser: Debian's Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import websockets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


class Page:
    """One tab."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0

    async def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        await self._call("Page.enable")
        await self._call("Page.navigate", url=url)
        await self.evaluate(
            "new Promise((done) => document.readyState === 'complete' ? done()"
            " : addEventListener('load', done))"
        )

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript gives, a promise's result included."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        call = {"id": self._number, "method": method, "params": params}
        await self._connection.send(json.dumps(call))
        while True:
            message = json.loads(await self._connection.recv())
            if message.get("id") == call["id"]:
                assert "error" not in message, message
                return message["result"]


@contextlib.asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Page]:
    """Start Chromium with a new profile in a folder."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *_FLAGS,
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        while not (line := await process.stderr.readline()).startswith(b"DevTools listening on"):
            assert line, "Chromium ended before it listened"
        drained = asyncio.create_task(process.stderr.read())
        origin = line.decode().split("ws://")[1].split("/")[0]
        async with httpx.AsyncClient() as http:
            tab = (await http.put(f"http://{origin}/json/new?about:blank")).json()
        async with websockets.connect(tab["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Page(connection)
        drained.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
