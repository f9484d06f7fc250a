"""Realtime channels on a real server."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inngest
import pytest
import uvicorn
from pydantic import BaseModel
from tests.examples.browser import CHROMIUM, browser

from inngest_plugins.realtime import (
    Channel,
    RealtimePlugin,
    Topic,
    publish,
    subscribe,
)

from .conftest import free_port

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "progress" / "app.py"


class Progress(BaseModel):
    done: int


class LiveChannel(Channel, name="live:{key}"):
    progress = Topic(Progress)
    log = Topic(str)


@pytest.fixture
def channel() -> LiveChannel:
    """A channel whose parameter needs escaping."""
    return LiveChannel(key="a:b/c ä")


@pytest.mark.anyio
async def test_live_realtime(live_server: LiveServer, channel: LiveChannel) -> None:
    """Typed messages arrive once and in order, and the subscription ends with the run."""
    app_id = "live-realtime"
    client = live_server.client(app_id, middleware=[RealtimePlugin(strict=True)])
    open_gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    @client.create_function(
        fn_id="work", trigger=inngest.TriggerEvent(event=f"{app_id}/go"), retries=0
    )
    async def work(ctx: inngest.Context) -> str:
        async def step() -> str:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(open_gate.wait(), loop))
            await publish(channel.progress, Progress(done=1))
            return "x"

        await ctx.step.run("one", step)
        await publish(channel.log, "between")
        await ctx.step.run("two", lambda: asyncio.sleep(0))
        await publish(channel.progress, Progress(done=2), durable=True)
        return "done"

    await asyncio.to_thread(live_server.serve, client, [work])
    run_id = await asyncio.to_thread(live_server.start, client, inngest.Event(name=f"{app_id}/go"))
    seen: list[Any] = []

    async def follow() -> None:
        messages = subscribe(channel.progress, channel.log, client=client, run_id=run_id)
        reader = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(1)
        open_gate.set()
        seen.append((await reader).data)
        seen.extend([message.data async for message in messages])

    await asyncio.wait_for(follow(), 60)
    assert seen == [Progress(done=1), "between", Progress(done=2)]


@pytest.mark.anyio
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
async def test_live_the_example_in_a_browser(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page listens at the server itself, with the token that the app gave it."""
    from tests.examples.test_progress import CLICK_AND_WATCH

    monkeypatch.setenv("INNGEST_DEV", live_server.url)
    port = free_port()
    monkeypatch.setenv("INNGEST_SERVE_ORIGIN", f"http://127.0.0.1:{port}")
    app = runpy.run_path(str(EXAMPLE))["app"]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        await asyncio.to_thread(live_server.register, port)
        async with browser(tmp_path) as page:
            await page.open(f"http://127.0.0.1:{port}/")
            seen = await page.evaluate(CLICK_AND_WATCH)
    finally:
        server.should_exit = True
        await task
    assert seen["state"] == "done: 60 rows"
    assert len(seen["log"]) == 3
