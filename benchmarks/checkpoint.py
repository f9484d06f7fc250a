"""Runs of many steps with and without checkpointing, on the embedded engine or a real server.

One process, interleaved rounds, medians. Each variant runs the same function, once before it is
measured, as its first request pays for what is done once a process; exporters and Sentry's
transport are in memory. The processor time is the whole process's, engine included, which is the
same code for all variants. Latency is added to every request that the engine makes to the app;
with `--both-ways` to the calls from the app to the engine as well, checkpoint calls among them:
then `buffer=1` pays for each step what the bare SDK does, and only a buffer helps.

Run it with `python benchmarks/checkpoint.py`; with `INNGEST_DEV_URL` set it starts an app that the
server at that address calls, and measures wall time there too; `--latency` without a number leaves
the embedded engine out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
import sentry_sdk
import svcs
import uvicorn
from figures import figure
from full_stack import SECRET, MemoryTransport, ours
from inngest.experimental.sentry_middleware import SentryMiddleware
from inngest_encryption import EncryptionMiddleware

from inngest_plugins.ai import AIPlugin
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.core import answered_by
from inngest_plugins.defer import DeferPlugin
from inngest_plugins.encryption import Key
from inngest_plugins.injection import InjectionPlugin
from inngest_plugins.local import LocalEngine, RealClock
from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore
from inngest_plugins.realtime import RealtimePlugin

EVENT = "bench/event"
KEY = Key.generate()


def five() -> list[Any]:
    """Return the five plugins, as an app would make them."""
    return list(ours(KEY).values())


def official() -> list[Any]:
    """Return the official middlewares."""
    return [SentryMiddleware, EncryptionMiddleware.factory(SECRET)]


def all_plugins() -> list[Any]:
    """Return every plugin but the one that checkpoints."""
    return [
        *five(),
        DeferPlugin(),
        RealtimePlugin(),
        InjectionPlugin(svcs.Registry()),
        MirrorPlugin(MIRROR[0]),
        AIPlugin(),
    ]


MIRROR: list[SQLAlchemyStore] = []
"""The store of the mirror, once it is there."""


VARIANTS: dict[str, Callable[[], list[Any]]] = {
    "bare SDK": list,
    "official middlewares": official,
    "checkpointing": lambda: [CheckpointPlugin()],
    "checkpointing, buffer=10": lambda: [CheckpointPlugin(buffer=10)],
    "all five plugins": five,
    "all five, checkpointing": lambda: [*five(), CheckpointPlugin()],
    "all five, checkpointing, buffer=10": lambda: [*five(), CheckpointPlugin(buffer=10)],
    "all plugins": all_plugins,
    "all plugins, checkpointing": lambda: [*all_plugins(), CheckpointPlugin()],
}


@dataclass
class Measured:
    """What one variant took for a run, in seconds, a round each."""

    wall: list[float] = field(default_factory=list[float])
    processor: list[float] = field(default_factory=list[float])
    requests: int = 0


def make(
    plugins: Sequence[Any], *, event: str = EVENT, app_id: str = "bench", **options: Any
) -> tuple[inngest.Inngest, inngest.Function[Any]]:
    """Make a client with a function of as many steps as its event says."""
    client = inngest.Inngest(app_id=app_id, middleware=list(plugins), **options)

    async def value(number: int) -> dict[str, int]:
        return {"n": number}

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event=event))
    async def function(ctx: inngest.Context) -> int:
        steps: Any = ctx.event.data["steps"]
        total = 0
        for number in range(steps):
            total += (await ctx.step.run(f"s{number}", value, number))["n"]
        return total

    return client, function


def delayed(app: Any, latency: float) -> Any:
    """Return an application that answers so much later."""

    async def late(scope: Any, receive: Any, send: Any) -> None:
        if latency and scope["type"] == "http" and scope["method"] == "POST":
            await asyncio.sleep(latency)
        await app(scope, receive, send)

    return late


def serve(latency: float) -> Callable[..., Any]:
    """Return what serves functions to the embedded engine."""

    def make_app(client: inngest.Inngest, functions: list[inngest.Function[Any]]) -> Any:
        app = fastapi.FastAPI()
        inngest.fast_api.serve(app, client, functions)
        return delayed(app, latency)

    return make_app


async def measure(steps: int, latency: float, rounds: int, *, both_ways: bool) -> None:
    """Print a table for runs of so many steps."""
    found: dict[str, Measured] = {name: Measured() for name in VARIANTS}
    for number in range(rounds + 1):
        for name, plugins in VARIANTS.items():
            client, function = make(plugins(), is_production=False)
            engine = LocalEngine(client, [function], clock=RealClock(), serve=serve(latency))
            async with engine:
                await one_round(engine, found[name], 1, is_warm=False)
                if both_ways and latency:
                    with slow_api(client, latency):
                        await one_round(engine, found[name], steps, is_warm=number > 0)
                else:
                    await one_round(engine, found[name], steps, is_warm=number > 0)
    ways = "both ways" if both_ways else "to the app"
    title = f"{steps} steps, {latency * 1000:.0f} ms"
    print(f"\n{title} of latency {ways}")
    table(found)
    add_figures(title, found)


async def one_round(engine: LocalEngine, into: Measured, steps: int, *, is_warm: bool) -> None:
    """Run the function once, and note what it took when all is loaded."""
    event = inngest.Event(name=EVENT, data={"steps": steps, "order": 1})
    gc.collect()
    gc.disable()
    wall, processor = time.perf_counter(), time.process_time()
    run = await engine.run(event)
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    gc.enable()
    assert run.status == "Completed", run.reason
    if is_warm:
        into.wall.append(wall)
        into.processor.append(processor)
        into.requests = len(run.requests)


def slow_api(client: inngest.Inngest, latency: float) -> Any:
    """Delay what the client sends to the engine."""
    http: Any = client._http_client
    engine_sync, engine_async = http._http_client_sync, http._http_client

    def again(request: httpx.Request) -> httpx.Request:
        return httpx.Request(
            request.method, request.url, headers=request.headers, content=request.content
        )

    def send(request: httpx.Request) -> httpx.Response:
        time.sleep(latency)
        answer = engine_sync.send(again(request))
        return httpx.Response(answer.status_code, content=answer.content)

    async def send_async(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(latency)
        answer = await engine_async.send(again(request))
        return httpx.Response(answer.status_code, content=answer.content)

    return answered_by(client, httpx.MockTransport(send_async), httpx.MockTransport(send))


def table(found: dict[str, Measured]) -> None:
    """Print medians, each as a ratio of the bare SDK's."""
    base = found["bare SDK"]
    base_wall = statistics.median(base.wall)
    base_processor = statistics.median(base.processor) if base.processor else 0.0
    for name, measured in found.items():
        wall = statistics.median(measured.wall)
        line = f"  {name:<36} {measured.requests:>4} requests {wall * 1e3:>8.1f} ms"
        line += f" x{wall / base_wall:<6.3f}"
        if measured.processor:
            processor = statistics.median(measured.processor)
            line += f" processor {processor * 1e3:>8.1f} ms x{processor / base_processor:.3f}"
        print(line)


def add_figures(title: str, found: dict[str, Measured]) -> None:
    """Add the rows of the one table that `make bench` prints."""
    base = found["bare SDK"]
    for name, measured in found.items():
        if measured is base:
            continue
        wall, processor = (
            statistics.median(getattr(measured, kind)) / statistics.median(getattr(base, kind))
            for kind in ("wall", "processor")
        )
        aims = AIMS.get((title, name), (None, None))
        figure(f"{title}: {name} / bare SDK, time", wall, at_most=aims[0])
        if aims[1] is not None:
            figure(f"{title}: {name} / bare SDK, processor", processor, at_most=aims[1])


AIMS: dict[tuple[str, str], tuple[float | None, float | None]] = {
    ("20 steps, 20 ms", "checkpointing"): (1 / 8, None),
    ("20 steps, 0 ms", "all five, checkpointing"): (1, 1),
    ("20 steps, 0 ms", "all five, checkpointing, buffer=10"): (1, 0.5),
}
"""What was aimed at, of the bare SDK's time and processor time."""


# ---------------------------------------------------------------- a real server


async def measure_on_server(url: str, steps: int, rounds: int, port: int) -> None:
    """Print a table of wall times on a real server in dev mode."""
    found: dict[str, Measured] = {name: Measured() for name in VARIANTS}
    for number, (name, plugins) in enumerate(VARIANTS.items()):
        # An event of its own for each: the server would call the apps that are gone, too.
        app_id = f"bench-{secrets.token_hex(4)}"
        client, function = make(
            plugins(),
            event=f"{app_id}/event",
            app_id=app_id,
            is_production=False,
            api_base_url=url,
            event_api_base_url=url,
        )
        await on_server(url, client, function, found[name], steps, rounds, port + number)
    print(f"\n{steps} steps on {url}")
    table(found)


async def on_server(
    url: str,
    client: inngest.Inngest,
    function: inngest.Function[Any],
    into: Measured,
    steps: int,
    rounds: int,
    port: int,
) -> None:
    """Serve the function at a port, and have the server run it."""
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, [function])
    requests = 0

    @app.middleware("http")
    async def count(request: fastapi.Request, call_next: Any) -> Any:
        nonlocal requests
        requests += request.method == "POST"
        return await call_next(request)

    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    serving = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(timeout=30) as http:
        while not server.started:
            await asyncio.sleep(0.01)
        (await http.put(f"http://localhost:{port}/api/inngest")).raise_for_status()
        for number in range(rounds + 1):
            requests = 0
            started = time.perf_counter()
            (event_id,) = await client.send(
                inngest.Event(name=f"{client.app_id}/event", data={"steps": steps, "order": 1})
            )
            while not await has_ended(http, url, event_id):
                await asyncio.sleep(0.005)
            if number:
                into.wall.append(time.perf_counter() - started)
                into.requests = requests
    server.should_exit = True
    await serving


async def has_ended(http: httpx.AsyncClient, url: str, event_id: str) -> bool:
    """Tell whether every run of an event has ended."""
    query = f'{{eventV2(id:"{event_id}"){{runs{{status}}}}}}'
    answer = await http.post(f"{url}/v0/gql", json={"query": query})
    runs: list[dict[str, str]] = ((answer.json().get("data") or {}).get("eventV2") or {}).get(
        "runs"
    ) or []
    return bool(runs) and all(run["status"] in ("COMPLETED", "FAILED") for run in runs)


async def main(given: argparse.Namespace) -> None:
    """Measure what was asked for."""
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=MemoryTransport(),
        auto_enabling_integrations=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = SQLAlchemyStore(f"sqlite:///{folder}/mirror.db")
        await store.upgrade()
        MIRROR.append(store)
        for latency in given.latency:
            for steps in given.steps:
                await measure(steps, latency / 1000, given.rounds, both_ways=given.both_ways)
        await store.close()
    url = os.environ.get("INNGEST_DEV_URL")
    if url:
        for steps in given.steps:
            await measure_on_server(url, steps, given.rounds, given.port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 20, 100])
    parser.add_argument("--latency", type=float, nargs="*", default=[0, 5, 20], help="in ms")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--both-ways", action="store_true", help="delay calls to the engine too")
    parser.add_argument("--port", type=int, default=8461, help="of the first app, for a server")
    asyncio.run(main(parser.parse_args()))
