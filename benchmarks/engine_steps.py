"""Steps per second of the embedded engine, beside ``inngest.experimental.mocked.trigger``.

Run: ``python benchmarks/engine_steps.py [RUNS]``. Both execute the same function of ten steps on
one core, one run after the other, in one process. ``mocked.trigger`` calls the function's Python
object directly; the engine makes a real HTTP request for every step (in process), keeps every
request and answer, and optionally writes a journal. Prints medians of five rounds and ratios.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
import typing
from pathlib import Path

import inngest
from inngest.experimental import mocked

from inngest_plugins.local import LocalEngine

STEPS = 10
ROUNDS = 5


def make_function(client: inngest.Inngest) -> inngest.Function[typing.Any]:
    @client.create_function(fn_id="ten", trigger=inngest.TriggerEvent(event="bench/ten"))
    async def ten(ctx: inngest.Context) -> int:
        async def one() -> int:
            return 1

        total = 0
        for number in range(STEPS):
            total += await ctx.step.run(f"step-{number}", one)
        return total

    return ten


def time_mocked(runs: int) -> float:
    client = mocked.Inngest(app_id="bench", is_production=False)
    function = make_function(client)
    event = inngest.Event(name="bench/ten")
    began = time.perf_counter()
    for _ in range(runs):
        result = mocked.trigger(function, event, client)
        assert result.output == STEPS
    return runs * STEPS / (time.perf_counter() - began)


def time_engine(runs: int, journal: Path | None, *, together: bool = False) -> float:
    client = inngest.Inngest(app_id="bench", is_production=False)
    function = make_function(client)

    async def work() -> float:
        async with LocalEngine(client, [function], journal=journal) as engine:
            began = time.perf_counter()
            if together:
                await engine.send([inngest.Event(name="bench/ten") for _ in range(runs)])
                await engine.settle()
            else:
                for _ in range(runs):
                    await engine.run(inngest.Event(name="bench/ten"))
            took = time.perf_counter() - began
            assert all(run.output == STEPS for run in engine.runs)
            return runs * STEPS / took

    return asyncio.run(work())


def main(runs: int) -> None:
    logging.disable(logging.CRITICAL)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            journal = Path(folder) / f"{number}.db"
            rates.setdefault("mocked.trigger", []).append(time_mocked(runs))
            rates.setdefault("engine", []).append(time_engine(runs, None))
            rates.setdefault("engine, runs together", []).append(
                time_engine(runs, None, together=True)
            )
            rates.setdefault("engine with journal", []).append(time_engine(runs, journal))
    base = statistics.median(rates["mocked.trigger"])
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"{name:24} {rate:8.0f} steps/s   {rate / base:.2f}x of mocked.trigger")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
