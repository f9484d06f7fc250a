"""A page with a progress bar that moves while a run runs.

The function publishes its progress to a realtime channel; the page asks this app for a token that
lets it listen to that channel and to no other, and listens.

Run it with no server at all, on the embedded engine:

    pip install "inngest-plugins[realtime,local]" uvicorn
    python examples/progress/app.py

and open http://127.0.0.1:8000 (`--port` takes another port). With an Inngest server:

    INNGEST_DEV=http://127.0.0.1:8288 python examples/progress/app.py
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import inngest
import inngest.fast_api
import pydantic
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse

from inngest_plugins.local import LocalEngine, RealClock
from inngest_plugins.realtime import (
    Channel,
    RealtimePlugin,
    SubscriptionToken,
    Topic,
    publish,
    subscribe,
    subscription_token,
)

PAGE = Path(__file__).with_name("page.html")
FILES = ("customers.csv", "orders.csv", "invoices.csv")
ROWS = 20
SECONDS_PER_ROW = 0.04
HAS_SERVER = os.environ.get("INNGEST_DEV", "").startswith("http")

client = inngest.Inngest(app_id="progress", is_production=False, middleware=[RealtimePlugin()])


class Progress(pydantic.BaseModel):
    """How far an import is."""

    state: str
    rows: int
    share: float


class ImportChannel(Channel, name="import:{import_id}"):
    """What an import says about itself."""

    import_id: uuid.UUID

    progress = Topic(Progress)
    log = Topic(str)


@client.create_function(fn_id="import", trigger=inngest.TriggerEvent(event="import/requested"))
async def import_files(ctx: inngest.Context) -> int:
    """Import some files, one step for each, and say how far it has got."""
    channel = ImportChannel(import_id=ctx.event.data["import_id"])
    total = ROWS * len(FILES)
    for number, name in enumerate(FILES):

        async def import_file(before: int = number * ROWS, name: str = name) -> None:
            for row in range(before + 1, before + ROWS + 1):
                await asyncio.sleep(SECONDS_PER_ROW)
                progress = Progress(state="importing", rows=row, share=row / total)
                await publish(channel.progress, progress)
            await publish(channel.log, f"{name}: {ROWS} rows")

        await ctx.step.run(name, import_file)
    await publish(channel.progress, Progress(state="done", rows=total, share=1), durable=True)
    return total


engine = LocalEngine(client, [import_files], clock=RealClock())


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Keep the embedded engine open while the page is served, where there is no server."""
    if HAS_SERVER:
        yield
        return
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)
if HAS_SERVER:
    inngest.fast_api.serve(app, client, [import_files])


@app.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE)


class Listening(pydantic.BaseModel):
    """What a page needs to listen.

    Attributes:
        token: lets it listen to its channel, for a minute.
        url: where.
    """

    token: SubscriptionToken
    url: str


@app.post("/imports/{import_id}/token")
async def token(import_id: uuid.UUID) -> Listening:
    """Let a page listen to an import. A real app asks here who wants to."""
    made = await subscription_token(client, ImportChannel(import_id=import_id))
    if HAS_SERVER:
        url = urljoin(client.api_origin, f"/v1/realtime/sse?token={made['key']}")
    else:
        # The embedded engine has no socket: this app hands its messages on.
        url = f"/imports/{import_id}/events"
    return Listening(token=made, url=url)


@app.post("/imports/{import_id}")
async def start(import_id: uuid.UUID) -> None:
    """Start an import."""
    await client.send(inngest.Event(name="import/requested", data={"import_id": str(import_id)}))


@app.get("/imports/{import_id}/events")
async def events(import_id: uuid.UUID) -> StreamingResponse:
    """Hand on the messages of the embedded engine, in the form that a server sends them in."""
    channel = ImportChannel(import_id=import_id)
    messages = subscribe(channel.progress, channel.log, client=client)

    async def lines() -> AsyncIterator[str]:
        yield ":\n\n"
        async for message in messages:
            event = _Event(topic=message.topic.name, data=message.data)
            yield f"data: {event.model_dump_json()}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


class _Event(pydantic.BaseModel):
    topic: str
    data: Any


if __name__ == "__main__":
    import argparse

    import uvicorn

    parser = argparse.ArgumentParser(description="A page with a progress bar.")
    parser.add_argument("--port", type=int, default=8000, help="where to serve; 8000 by default")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)
