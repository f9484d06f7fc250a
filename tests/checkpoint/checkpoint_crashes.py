"""A workload of checkpointed runs that is killed many times (see test_checkpoint_crashes.py).

Run as a script: ``checkpoint_crashes.py DIRECTORY KILLS BUFFER``. It imports everything once and
forks a process for every life of the engine. Prints one JSON document with what happened.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import inngest

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine, VirtualClock

# Imported once, before forking: it takes longer than a life.
importlib.import_module("inngest.fast_api")

RUNS = 5
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


async def live(engine: LocalEngine, ready: int) -> None:
    """Send the events (they have ids, so they start the same runs however often) and finish."""
    async with engine:
        os.write(ready, b"!")
        await engine.send(
            [inngest.Event(name="crash/work", id=f"event-{n}", data={}) for n in range(RUNS)]
        )
        await engine.settle()


def acknowledged(journal: Path) -> set[tuple[str, str]]:
    """The steps whose results the journal holds."""
    if not journal.exists():
        return set()
    connection = sqlite3.connect(journal)
    try:
        rows = connection.execute("SELECT key, body FROM documents WHERE kind = 'step'").fetchall()
    except sqlite3.OperationalError:
        return set()
    finally:
        connection.close()
    steps = ((key.partition("/")[0], json.loads(body)) for key, body in rows)
    return {(run, step["id"]) for run, step in steps if step["has_memo"]}


def fork(log: Path, life: int, buffer: int) -> int:
    """Start one life and wait until its engine is open."""
    ready, signal_ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(live(build(log, life, buffer), signal_ready))
        except BaseException as error:
            sys.stderr.write(f"life {life}: {error!r}\n")
            os._exit(1)
        os._exit(0)
    os.close(signal_ready)
    os.read(ready, 1)
    os.close(ready)
    return child


def let_live(child: int, log: Path, randomness: random.Random) -> int | None:
    """Kill a life when it has run some steps; return its status when it ended before."""
    enough = len(ran(log)) + randomness.randint(1, MOST_STEPS)
    while len(ran(log)) < enough:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.0005)
    time.sleep(randomness.uniform(0.0, MOMENT))
    os.kill(child, signal.SIGKILL)
    return None


def ran(log: Path) -> list[tuple[int, str, str]]:
    """What was executed: life, run and step, in order."""
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [(int(life), run, step) for life, run, step in lines]


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
            child = fork(log, life, buffer)
            status = None if finished else let_live(child, log, randomness)
            if status is None:
                _, status = os.waitpid(child, 0)
            done += os.WIFSIGNALED(status)
            if finished and status:
                problems.append(f"round {rounds} ended with {status}")
            problems += [f"lost {each}" for each in known - acknowledged(journal)]
            problems += [
                f"ran again {run} {step}"
                for number, run, step in ran(log)
                if number == life and (run, step) in known
            ]
            life += 1
        # A kill repeats the steps that it interrupted or that were not sent yet: `buffer` a run.
        repeated = Counter((run, step) for _, run, step in ran(log))
        per_run = Counter(run for (run, _), times in repeated.items() for _ in range(times - 1))
        most_repeated = max([most_repeated, *per_run.values()])
        problems += [
            f"{run} repeated {times} steps in {life} lives"
            for run, times in per_run.items()
            if times > buffer * (life - 1)
        ]
        problems += check_end(build(log, -1, buffer))
        executions += len(ran(log))
        rounds += 1
    return {
        "kills": done,
        "rounds": rounds,
        "executions": executions,
        "most_repeated": most_repeated,
        "problems": problems,
    }


def check_end(engine: LocalEngine) -> list[str]:
    """Every run completed with the right output."""

    async def look() -> list[str]:
        async with engine:
            outputs = [run.output for run in engine.runs]
        return [] if outputs == [list(range(STEPS))] * RUNS else [f"outputs {outputs}"]

    return asyncio.run(look())


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
