"""What a durable request costs beside the same request in `step.run` by hand.

Run: python benchmarks/fetch.py
The requests end in process, so that what is measured is ours and not the network's.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import inngest
from figures import figure

from inngest_plugins.fetch import DurableTransport
from inngest_plugins.local import LocalEngine

REQUESTS = 20
ROUNDS = 7
BODY = {"items": [{"id": n, "name": f"item {n}"} for n in range(20)]}


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=BODY)


async def by_hand(ctx: inngest.Context) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:

        async def get(n: int) -> Any:
            return (await http.get(f"http://test/{n}")).json()

        for n in range(REQUESTS):
            await ctx.step.run(f"get {n}", get, n)


async def durable(ctx: inngest.Context) -> None:
    transport = DurableTransport(httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=transport) as http:
        for n in range(REQUESTS):
            (await http.get(f"http://test/{n}")).json()


async def measure(body: Callable[[inngest.Context], Awaitable[None]]) -> tuple[float, int]:
    """Return the median milliseconds of a run, and the bytes that it stored."""
    client = inngest.Inngest(app_id="bench", is_production=False)

    @client.create_function(fn_id="run", trigger=inngest.TriggerEvent(event="go"))
    async def run(ctx: inngest.Context) -> None:
        await body(ctx)

    times: list[float] = []
    stored = 0
    async with LocalEngine(client, [run]) as engine:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            ended = await engine.run(inngest.Event(name="go"))
            times.append((time.perf_counter() - started) * 1000)
            if ended.status != "Completed":
                raise RuntimeError(ended.reason)
            stored = sum(len(str(step.value)) for step in ended.steps.values())
    return statistics.median(times), stored


async def main() -> None:
    base, base_stored = await measure(by_hand)
    ours, ours_stored = await measure(durable)
    print(f"a run of {REQUESTS} requests, {REQUESTS + 1} requests of the engine")
    print(f"  {'step.run by hand':<24}{base:8.1f} ms   {base_stored:>7} bytes stored")
    figure("a run of requests: `DurableTransport` / `step.run` by hand", ours / base)
    reached = REQUESTS * (REQUESTS + 1) // 2 + REQUESTS
    print(
        f"  {'DurableTransport':<24}{ours:8.1f} ms   {ours_stored:>7} bytes stored   "
        f"x{ours / base:.2f}, {(ours - base) / reached:.2f} ms each time that one of the requests "
        "is reached"
    )


asyncio.run(main())
