"""A page with a progress bar that moves while a run runs.

The function records its progress as metadata; `MetadataPlugin(realtime=True)` publishes each change
on the run's realtime channel; `subscribe` follows it; the page gets it as server-sent events.

Run it with no server at all, on the embedded engine:

    pip install "inngest-plugins[metadata,local]" uvicorn
    python examples/progress/app.py

and open http://127.0.0.1:8000. With an Inngest server, leave out `source=engine`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import inngest
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, StreamingResponse

from inngest_plugins.local import LocalEngine, RealClock
from inngest_plugins.metadata import MetadataPlugin, Snapshot, metadata, subscribe

PAGE = Path(__file__).with_name("page.html")
FILES = ("customers.csv", "orders.csv", "invoices.csv")
ROWS = 20
SECONDS_PER_ROW = 0.04

client = inngest.Inngest(
    app_id="progress", is_production=False, middleware=[MetadataPlugin(realtime=True)]
)


@client.create_function(fn_id="import", trigger=inngest.TriggerEvent(event="import/requested"))
async def import_files(ctx: inngest.Context) -> int:
    """Import some files, one step for each, and say how far it has got."""
    metadata.update({"state": "importing", "progress": 0, "rows": 0})
    for number, name in enumerate(FILES):

        async def import_file(number: int = number, name: str = name) -> None:
            for row in range(ROWS):
                await asyncio.sleep(SECONDS_PER_ROW)
                metadata.increment("rows")
                metadata.set("progress", (number + (row + 1) / ROWS) / len(FILES))
            metadata.append("log", f"{name}: {ROWS} rows")

        await ctx.step.run(name, import_file)
    metadata.set("state", "done")
    return int(metadata.get("rows"))


engine = LocalEngine(client, [import_files], clock=RealClock())


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Keep the engine open while the page is served."""
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE)


@app.post("/imports")
async def start() -> dict[str, str]:
    """Start an import."""
    (event_id,) = await engine.send(inngest.Event(name="import/requested"))
    started = (run.id for run in engine.runs if run.events[0]["id"] == event_id)
    return {"run_id": next(started)}


@app.get("/imports/{run_id}/events")
async def events(run_id: str) -> StreamingResponse:
    """Follow an import as server-sent events, one for each snapshot."""
    if all(run.id != run_id for run in engine.runs):
        raise HTTPException(404)
    return StreamingResponse(
        server_sent(subscribe(run_id, source=engine)), media_type="text/event-stream"
    )


async def server_sent(snapshots: AsyncIterator[Snapshot]) -> AsyncIterator[str]:
    """Write snapshots as server-sent events (WHATWG HTML, section 9.2)."""
    async for snapshot in snapshots:
        yield f"data: {json.dumps({**snapshot, 'status': snapshot.status})}\n\n"


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=8000)
