"""A workload of checkpointed runs that is killed many times (see test_checkpoint_crashes.py).

Run as `python -m tests.checkpoint.checkpoint_crashes DIRECTORY KILLS BUFFER`. Prints one JSON
document with what happened.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import inngest
from tests.kills import acknowledged, executed, ran_again, start_open_life, wrong_outputs

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine, VirtualClock

RUNS = 5
EVENTS = [inngest.Event(name="crash/work", id=f"event-{n}") for n in range(RUNS)]
STEPS = 12
MOST_STEPS = 5
"""Most steps that a life runs before it is killed."""

MOMENT = 0.006
"""Longest time in seconds from there to the kill: what a step and its call take."""


def build(log: Path, life: int, buffer: int) -> LocalEngine:
    """The engine of one life; every execution of a step is noted in a file."""
    plugin = CheckpointPlugin(buffer=buffer, max_runtime=None)
    client = inngest.Inngest(app_id="crash", is_production=False, middleware=[plugin])

    def note(run: str, step: str) -> None:
        with log.open("a") as file:
            file.write(f"{life} {run} {step}\n")

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="crash/work"))
    async def work(ctx: inngest.Context) -> list[int]:
        def step(number: int) -> Callable[[], Awaitable[int]]:
            async def handler() -> int:
                note(ctx.run_id, f"s{number}")
                await asyncio.sleep(0.001)
                return number

            return handler

        return [await ctx.step.run(f"s{number}", step(number)) for number in range(STEPS)]

    return LocalEngine(client, [work], journal=log.with_suffix(".journal"), clock=VirtualClock(0))


def let_live(child: int, log: Path, randomness: random.Random) -> int | None:
    """Kill a life when it has run some steps; return its status when it ended before."""
    enough = len(executed(log)) + randomness.randint(1, MOST_STEPS)
    while len(executed(log)) < enough:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.0005)
    time.sleep(randomness.uniform(0.0, MOMENT))
    os.kill(child, signal.SIGKILL)
    return None


def torture(directory: Path, kills: int, buffer: int) -> dict[str, Any]:
    """Kill lives at random moments until enough were killed; let the last of each round finish."""
    randomness = random.Random(7)
    problems: list[str] = []
    done = rounds = executions = most_repeated = 0
    while done < kills:
        log = directory / f"round-{rounds}.log"
        journal = log.with_suffix(".journal")
        life = 0
        finished = False
        while not finished:
            known = acknowledged(journal)
            finished = done >= kills or len(known) == RUNS * STEPS
            child = start_open_life(build(log, life, buffer), EVENTS)
            status = None if finished else let_live(child, log, randomness)
            if status is None:
                _, status = os.waitpid(child, 0)
            done += os.WIFSIGNALED(status)
            if finished and status:
                problems.append(f"round {rounds} ended with {status}")
            problems += [f"lost {each}" for each in known - acknowledged(journal)]
            problems += ran_again(log, life, known)
            life += 1
        # A kill repeats the steps that it interrupted or that were not sent yet: `buffer` a run.
        repeated = Counter((run, step) for _, run, step in executed(log))
        per_run = Counter(run for (run, _), times in repeated.items() for _ in range(times - 1))
        most_repeated = max([most_repeated, *per_run.values()])
        problems += [
            f"{run} repeated {times} steps in {life} lives"
            for run, times in per_run.items()
            if times > buffer * (life - 1)
        ]
        problems += wrong_outputs(build(log, -1, buffer), [list(range(STEPS))] * RUNS)
        executions += len(executed(log))
        rounds += 1
    return {
        "kills": done,
        "rounds": rounds,
        "executions": executions,
        "most_repeated": most_repeated,
        "problems": problems,
    }


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
