"""A workload of ten runs that is killed a hundred times (see test_local_journal.py).

Run as `python -m tests.local.crash_workload DIRECTORY KILLS`. Prints one JSON document with what
happened.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import random
import signal
import sys
import time
import typing
from pathlib import Path

import inngest
from tests.kills import acknowledged, ran_again, start_open_life, wrong_outputs

from inngest_plugins.local import LocalEngine, VirtualClock

RUNS = 10
EVENTS = [inngest.Event(name="crash/work", id=f"event-{n}") for n in range(RUNS)]
IN_FLIGHT = 3
"""Requests in flight; a kill repeats at most that many handlers."""
MOMENT = 0.1
"""Longest life in seconds; the whole workload takes about three times as long."""


def build(log: Path, life: int) -> LocalEngine:
    """The engine of one life; every execution of a step is noted in a file."""
    client = inngest.Inngest(app_id="crash", is_production=False)

    def note(run: str, step: str) -> None:
        with log.open("a") as file:
            file.write(f"{life} {run} {step}\n")

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="crash/work"))
    async def work(ctx: inngest.Context) -> str:
        def step(name: str) -> typing.Callable[[], typing.Awaitable[str]]:
            async def handler() -> str:
                note(ctx.run_id, name)
                await asyncio.sleep(0.002)
                return name

            return handler

        async def run(name: str) -> str:
            return await ctx.step.run(name, step(name))

        one = await run("one")
        await ctx.step.sleep("nap", datetime.timedelta(hours=1))
        two = await run("two")
        sides = await ctx.group.parallel((lambda: run("left"), lambda: run("right")))
        await ctx.step.wait_for_event("wait", event="crash/never", timeout=1000)
        return "-".join((one, two, *sides, await run("last")))

    return LocalEngine(
        client,
        [work],
        journal=log.with_suffix(".journal"),
        clock=VirtualClock(0),
        max_requests=IN_FLIGHT,
    )


def is_finished(journal: Path) -> bool:
    """Whether all runs have ended."""
    return sum(step == "last" for _, step in acknowledged(journal)) == RUNS


def torture(directory: Path, kills: int) -> dict[str, typing.Any]:
    """Kill lives at random moments until enough were killed; let the last of each round finish."""
    randomness = random.Random(4)
    problems: list[str] = []
    done = rounds = executions = 0
    while done < kills:
        log = directory / f"round-{rounds}.log"
        journal = log.with_suffix(".journal")
        life = 0
        while done < kills and not is_finished(journal):
            known = acknowledged(journal)
            child = start_open_life(build(log, life), EVENTS)
            time.sleep(randomness.uniform(0.0, MOMENT))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                done += 1
            missing = known - acknowledged(journal)
            problems += [f"lost {run} {step}" for run, step in missing]
            problems += ran_again(log, life, known)
            life += 1
        known = acknowledged(journal)
        _, status = os.waitpid(start_open_life(build(log, life), EVENTS), 0)
        if status:
            problems.append(f"round {rounds} ended with {status}")
        problems += ran_again(log, life, known)
        problems += wrong_outputs(build(log, -1), ["one-two-left-right-last"] * RUNS)
        executions += len(log.read_text().splitlines())
        rounds += 1
    return {"kills": done, "rounds": rounds, "executions": executions, "problems": problems}


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]))))
