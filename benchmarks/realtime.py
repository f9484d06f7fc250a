"""What publishing to a typed topic costs beside the SDK's own publish.

Run: python benchmarks/realtime.py
The embedded engine takes the messages in process, so that what is measured is ours.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import inngest
import pydantic
from figures import figure
from inngest.experimental import realtime as sdk

from inngest_plugins.local import LocalEngine
from inngest_plugins.realtime import Channel, RealtimePlugin, Topic, publish

ROUNDS = 15
MESSAGES = 50


class Progress(pydantic.BaseModel):
    """What is published."""

    done: int
    note: str


class OrderChannel(Channel, name="order:{order_id}"):
    """Where it is published."""

    progress = Topic(Progress)


async def by_hand(client: inngest.Inngest) -> None:
    for n in range(MESSAGES):
        await sdk.publish(client, "order:1", "progress", {"done": n, "note": "x"})


async def typed(client: inngest.Inngest) -> None:
    topic = OrderChannel(order_id=1).progress
    for n in range(MESSAGES):
        await publish(topic, Progress(done=n, note="x"))


def build(
    send: Callable[[inngest.Inngest], Awaitable[None]],
) -> tuple[LocalEngine, inngest.Function[None], list[float]]:
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=[RealtimePlugin()])
    times: list[float] = []

    @client.create_function(fn_id="run", trigger=inngest.TriggerEvent(event="go"))
    async def run(ctx: inngest.Context) -> None:
        started = time.perf_counter()
        await send(client)
        times.append((time.perf_counter() - started) * 1000 / MESSAGES)

    return LocalEngine(client, [run]), run, times


async def main() -> None:
    (hand, hand_run, base), (ours, our_run, mine) = build(by_hand), build(typed)
    async with hand, ours:
        # In turns, so that what else the machine does weighs on both.
        for _ in range(ROUNDS):
            await hand.run(inngest.Event(name="go"), function=hand_run)
            await ours.run(inngest.Event(name="go"), function=our_run)
    before, after = statistics.median(base), statistics.median(mine)
    figure("a message: `publish` / the SDK's experimental one", after / before)
    print(f"a message, median of {ROUNDS} runs of {MESSAGES}")
    print(f"  {'the SDK, experimental':<24}{before:7.3f} ms")
    print(f"  {'publish':<24}{after:7.3f} ms   x{after / before:.2f}")


asyncio.run(main())
