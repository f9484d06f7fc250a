"""What metadata costs a step: 10,000 updates in one step, against the same step without.

Run: python benchmarks/metadata_updates.py
Prints the added time of the whole run (best of several), the processor's part of it, which a busy
machine does not change, the ratio to the target of 50 ms, and the requests that carried the
metadata.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import inngest
from figures import figure

from inngest_plugins.local import LocalEngine
from inngest_plugins.metadata import MetadataPlugin, metadata

UPDATES = 10_000
ROUNDS = 7
TARGET_MS = 50.0


def nothing() -> None:
    for _ in range(UPDATES):
        pass


def increments() -> None:
    for _ in range(UPDATES):
        metadata.increment("done")


def sets() -> None:
    for number in range(UPDATES):
        metadata.set("progress", number / UPDATES)


def updates() -> None:
    for number in range(UPDATES):
        metadata.update({"done": number})


def updates_of_two() -> None:
    for number in range(UPDATES):
        metadata.update({"done": number, "state": "importing"})


def nested() -> None:
    for number in range(UPDATES):
        metadata.set("$.rows.done", number)


def appends() -> None:
    for number in range(UPDATES):
        metadata.append("log", number)


async def measure(body: Callable[[], None]) -> tuple[float, float, int]:
    """Return a run's best time and processor time in milliseconds, and its metadata requests."""
    sent = itertools.count()
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=[MetadataPlugin()])

    async def work() -> None:
        body()

    @client.create_function(fn_id="run", trigger=inngest.TriggerEvent(event="go"))
    async def run(ctx: inngest.Context) -> None:
        await ctx.step.run("work", work)

    best = processor = float("inf")
    async with LocalEngine(client, [run]) as engine:
        handle = engine.transport.handle_request

        def counted(request: object) -> object:
            next(sent)
            return handle(request)  # type: ignore[arg-type]

        engine.transport.handle_request = counted  # type: ignore[method-assign, assignment]
        for _ in range(ROUNDS):
            started, busy = time.perf_counter(), time.process_time()
            ended = await engine.run(inngest.Event(name="go"))
            best = min(best, (time.perf_counter() - started) * 1000)
            processor = min(processor, (time.process_time() - busy) * 1000)
            if ended.status != "Completed":
                raise RuntimeError(ended.reason)
        requests = next(sent)
    return best, processor, requests // ROUNDS


async def main() -> None:
    base, base_processor, _ = await measure(nothing)
    print(f"{'a step without metadata':<28}{base:8.1f} ms")
    for name, body in [
        ("increment one key", increments),
        ("set one key", sets),
        ("update with one key", updates),
        ("update with two keys", updates_of_two),
        ("set one nested key", nested),
        ("append to one list", appends),
    ]:
        took, processor, requests = await measure(body)
        added = took - base
        figure(f"{UPDATES} x {name}", added, "ms", at_most=2 * TARGET_MS)
        print(
            f"{name:<28}{took:8.1f} ms   added {added:6.1f} ms "
            f"({processor - base_processor:6.1f} ms of processor) for {UPDATES} calls, "
            f"{added / TARGET_MS:4.2f} of the target, {requests} request(s)"
        )


asyncio.run(main())
