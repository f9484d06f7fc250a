"""Runs that defer, in a worker that is killed directly after each `defer` (test_defer_crashes.py).

Run as `python -m tests.defer.defer_crashes DIRECTORY KILLS`. Prints one JSON document.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import inngest
import pydantic
from tests.kills import finish, start_life

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.defer import DeferPlugin, defer, deferred_function
from inngest_plugins.local import LocalEngine, VirtualClock

RUNS = 2
EVENTS = [inngest.Event(name="crash/work", id=f"e{n}", data={"n": n}) for n in range(RUNS)]
PLACES = 4
"""How often a run defers: in the body and in a step, in turn."""


class Note(pydantic.BaseModel):
    """What is deferred."""

    run: int
    place: int


def build(directory: Path, number: int, kills: int, *, checkpoints: bool) -> LocalEngine:
    """The engine of one round. A place kills the process the first `kills` times it is passed."""
    plugins = [CheckpointPlugin()] if checkpoints else []
    client = inngest.Inngest(
        app_id="crash", is_production=False, middleware=[DeferPlugin(), *plugins]
    )
    judge = deferred_function(client, fn_id="judge", schema=Note, retries=0)

    @judge
    async def judge_it(ctx: inngest.Context, note: Note) -> None:
        with (directory / f"judged-{number}").open("a") as file:
            file.write(f"{note.run}.{note.place} {ctx.run_id}\n")

    def place(run: int, at: int) -> int:
        defer(f"d{at}", judge, Note(run=run, place=at))
        mark = directory / f"killed-{number}-{run}-{at}"
        before = mark.stat().st_size if mark.exists() else 0
        if before < kills:
            with mark.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return at

    async def in_step(run: int, at: int) -> int:
        return place(run, at)

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="crash/work"))
    async def work(ctx: inngest.Context) -> str:
        run = int(str(ctx.event.data["n"]))
        for at in range(PLACES):
            if (at + run) % 2:
                await ctx.step.run(f"s{at}", in_step, run, at)
            else:
                place(run, at)
        if run == 1:
            raise inngest.NonRetriableError("a run that fails defers as well")
        return "done"

    journal = directory / f"round-{number}.journal"
    return LocalEngine(client, [work, judge_it], journal=journal, clock=VirtualClock(0))


def one_life(directory: Path, number: int, kills: int, *, checkpoints: bool) -> int:
    """Run until the engine has nothing left to do, or is killed; returns the process's status."""
    engine = build(directory, number, kills, checkpoints=checkpoints)
    return os.waitpid(start_life(lambda: finish(engine, EVENTS)), 0)[1]


def torture(directory: Path, wanted: int) -> dict[str, object]:
    """Kill until enough were killed; each round ends with a life that finishes."""
    problems: list[str] = []
    killed = rounds = 0
    while killed < wanted:
        kills = 1 + rounds // 2 % 2
        while True:
            status = one_life(directory, rounds, kills, checkpoints=rounds % 2 == 1)
            if os.WIFSIGNALED(status):
                killed += 1
                continue
            if status:
                problems.append(f"round {rounds} ended with {status}")
            break
        judged = (directory / f"judged-{rounds}").read_text().splitlines()
        runs = sorted(set(judged))
        names = sorted(line.partition(" ")[0] for line in runs)
        expected = sorted(f"{run}.{at}" for run in range(RUNS) for at in range(PLACES))
        if names != expected:
            problems.append(f"round {rounds} judged {names}")
        rounds += 1
    return {"kills": killed, "rounds": rounds, "problems": problems}


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]))))
