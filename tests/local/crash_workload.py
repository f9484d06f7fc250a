"""A workload of ten runs that is killed a hundred times (see test_local_journal.py).

Run as a script: ``crash_workload.py DIRECTORY KILLS``. It imports everything once and forks a
process for every life of the engine, so that a hundred lives take seconds. Prints one JSON
document with what happened.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
import typing
from pathlib import Path

import inngest

from inngest_plugins.local import LocalEngine, VirtualClock

# Imported once, before forking: it takes longer than a life.
importlib.import_module("inngest.fast_api")

RUNS = 10
IN_FLIGHT = 3
"""Requests in flight; a kill repeats at most that many handlers."""
MOMENT = 0.1
"""Longest life in seconds; the whole workload takes about three times as long."""
STEPS = ("one", "two", "left", "right", "last")


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


async def live(engine: LocalEngine, ready: int) -> None:
    """Send the ten events (they have ids, so they start ten runs however often) and finish."""
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
    return {(run, step["id"]) for run, step in steps if step["has_memo"] and step["id"] in STEPS}


def fork(log: Path, life: int) -> int:
    """Start one life and wait until its engine is open."""
    ready, signal_ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(live(build(log, life), signal_ready))
        except BaseException as error:
            sys.stderr.write(f"life {life}: {error!r}\n")
            os._exit(1)
        os._exit(0)
    os.close(signal_ready)
    os.read(ready, 1)
    os.close(ready)
    return child


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
            child = fork(log, life)
            time.sleep(randomness.uniform(0.0, MOMENT))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                done += 1
            missing = known - acknowledged(journal)
            problems += [f"lost {run} {step}" for run, step in missing]
            problems += again(log, life, known)
            life += 1
        known = acknowledged(journal)
        _, status = os.waitpid(fork(log, life), 0)
        if status:
            problems.append(f"round {rounds} ended with {status}")
        problems += again(log, life, known)
        problems += check_end(build(log, -1), log)
        executions += len(log.read_text().splitlines())
        rounds += 1
    return {"kills": done, "rounds": rounds, "executions": executions, "problems": problems}


def again(log: Path, life: int, known: set[tuple[str, str]]) -> list[str]:
    """Steps that this life ran although an earlier one had acknowledged them."""
    if not log.exists():
        return []
    ran = [line.split() for line in log.read_text().splitlines()]
    return [
        f"ran again {run} {step}"
        for number, run, step in ran
        if int(number) == life and (run, step) in known
    ]


def check_end(engine: LocalEngine, log: Path) -> list[str]:
    """Every run completed with the right output and every step once in its journal."""

    async def look() -> list[str]:
        async with engine:
            outputs = [run.output for run in engine.runs]
        if outputs != ["one-two-left-right-last"] * RUNS:
            return [f"outputs {outputs}"]
        return []

    return asyncio.run(look())


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]))))
