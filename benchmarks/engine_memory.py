"""How much memory an idle run of the embedded engine takes.

Run: ``python benchmarks/engine_memory.py [RUNS]``. Prints bytes for each run that sleeps after one
step, measured twice: by ``tracemalloc`` (what Python allocated) and by the process's resident size.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import resource
import sys
import tracemalloc

import inngest

from inngest_plugins.local import LocalEngine, RealClock

LIMIT = 20 * 1024


async def measure(runs: int) -> None:
    client = inngest.Inngest(app_id="bench", is_production=False)

    @client.create_function(fn_id="idle", trigger=inngest.TriggerEvent(event="bench/idle"))
    async def idle(ctx: inngest.Context) -> None:
        async def one() -> dict[str, int]:
            return {"n": 1}

        await ctx.step.run("one", one)
        await ctx.step.sleep("long", datetime.timedelta(days=1))

    async with LocalEngine(client, [idle], clock=RealClock()) as engine:

        async def start(count: int) -> None:
            for first in range(0, count, 100):
                size = min(100, count - first)
                await engine.send(
                    [inngest.Event(name="bench/idle", data={"n": n}) for n in range(size)]
                )
                await engine.idle()

        await start(100)
        gc.collect()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await start(runs)
        resident_each = (
            (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) * 1024 / runs
        )
        gc.collect()
        tracemalloc.start()
        traced, _ = tracemalloc.get_traced_memory()
        await start(runs)
        gc.collect()
        traced_each = (tracemalloc.get_traced_memory()[0] - traced) / runs
        tracemalloc.stop()
        assert all(run.steps["long"].status == "Sleeping" for run in engine.runs)
    print(f"idle runs                     {runs}")
    print(f"allocated for each            {traced_each / 1024:.1f} KiB")
    print(f"peak resident for each        {resident_each / 1024:.1f} KiB")
    print(f"ratio to the limit of 20 KiB  {traced_each / LIMIT:.2f}")


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
