"""What a deferral costs beside the same operation sent to the engine by hand.

Run: python benchmarks/defer.py
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import inngest
import pydantic
from figures import figure

from inngest_plugins.core import Call
from inngest_plugins.defer import DeferPlugin, defer, deferred_function
from inngest_plugins.local import LocalEngine

ROUNDS = 30
DEFERRALS = 10


class Verdict(pydantic.BaseModel):
    """What is deferred."""

    text: str
    score: int


def by_hand(target: Any) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        call = Call.current()
        if call is None or call.engine.defers:
            return
        await call.engine.send_ops(
            [
                {
                    "id": hashlib.sha1(f"d{n}".encode(), usedforsecurity=False).hexdigest(),
                    "op": "DeferAdd",
                    "userland": {"id": f"d{n}"},
                    "opts": {"fn_slug": "bench-judge", "input": {"text": "x", "score": n}},
                }
                for n in range(DEFERRALS)
            ]
        )

    return send


def ours(target: Any) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        for n in range(DEFERRALS):
            defer(f"d{n}", target, Verdict(text="x", score=n))

    return send


def build(
    make: Callable[[Any], Callable[[], Awaitable[None]]],
) -> tuple[LocalEngine, inngest.Function[Any]]:
    client = inngest.Inngest(app_id="bench", is_production=False, middleware=[DeferPlugin()])
    judge = deferred_function(client, fn_id="judge", schema=Verdict)
    send = make(judge)

    @judge
    async def judge_it(ctx: inngest.Context, verdict: Verdict) -> None: ...

    @client.create_function(fn_id="run", trigger=inngest.TriggerEvent(event="go"))
    async def run(ctx: inngest.Context) -> None:
        await send()

    return LocalEngine(client, [run, judge_it]), run


async def once(engine: LocalEngine, function: inngest.Function[Any]) -> float:
    """Return the milliseconds of a run of one request, without what it defers."""
    started = time.perf_counter()
    ended = await engine.run(inngest.Event(name="go"), function=function)
    lasted = (time.perf_counter() - started) * 1000
    await engine.settle()
    if ended.status != "Completed" or len(ended.deferred) != DEFERRALS:
        raise RuntimeError(ended.reason)
    return lasted


async def main() -> None:
    base: list[float] = []
    mine: list[float] = []
    # In turns, so that what else the machine does weighs on both.
    (hand, hand_run), (plugin, plugin_run) = build(by_hand), build(ours)
    async with hand, plugin:
        for _ in range(ROUNDS):
            base.append(await once(hand, hand_run))
            mine.append(await once(plugin, plugin_run))
    before, after = statistics.median(base), statistics.median(mine)
    print(f"a run of one request that defers {DEFERRALS} functions, in one call")
    print(f"  {'operations by hand':<24}{before:8.2f} ms")
    figure("a deferral: `defer` / the operations by hand", after / before)
    each = (after - before) * 1000 / DEFERRALS
    print(f"  {'defer':<24}{after:8.2f} ms   x{after / before:.2f}, {each:.0f} us a deferral")


asyncio.run(main())
