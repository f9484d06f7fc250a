"""An agent whose process is killed again and again (see test_agents_kills.py).

Run as a script: `kill_workload.py DIRECTORY KILLS`. It imports everything once and forks a process
for every life. Prints one JSON document with what happened.
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
from pathlib import Path
from typing import Any

import inngest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from inngest_plugins.agents import InngestDurability
from inngest_plugins.local import LocalEngine, VirtualClock

importlib.import_module("inngest.fast_api")

RUNS = 3
ROUNDS = 4
"""Answers of the model before its last: each but the last calls two tools."""
MOMENT = 0.25
"""Longest life in seconds."""
EXPECTED = RUNS * (ROUNDS + 1 + 2 * ROUNDS)
"""Calls of the model and of the tools, if none is made again."""


def build(log: Path, life: int) -> LocalEngine:
    """The engine of one life; every call of the model and of a tool is noted in a file."""
    client = inngest.Inngest(app_id="kill", is_production=False)

    def note(run: str, what: str) -> None:
        with log.open("a") as file:
            file.write(f"{life} {run} {what}\n")

    @client.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="kill/work"))
    async def work(ctx: inngest.Context) -> str:
        async def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            given = sum(isinstance(message, ModelResponse) for message in messages)
            note(ctx.run_id, _counted("support__model.request", given))
            await asyncio.sleep(0.01)
            if given == ROUNDS:
                return ModelResponse(parts=[TextPart("done")])
            calls = [ToolCallPart("left", {"n": given}), ToolCallPart("right", {"n": given})]
            return ModelResponse(parts=calls)

        agent = Agent(
            FunctionModel(model), name="support", capabilities=[InngestDurability()], retries=0
        )

        @agent.tool_plain
        async def left(n: int) -> int:
            note(ctx.run_id, _counted("support__tool:left", n))
            await asyncio.sleep(0.01)
            return n

        @agent.tool_plain
        async def right(n: int) -> int:
            note(ctx.run_id, _counted("support__tool:right", n))
            await asyncio.sleep(0.01)
            return n

        return (await agent.run("go")).output

    return LocalEngine(client, [work], journal=log.with_suffix(".journal"), clock=VirtualClock(0))


def _counted(name: str, number: int) -> str:
    return f"{name}:{number}" if number else name


async def live(engine: LocalEngine, ready: int) -> None:
    """Send the events (they have ids: they start as many runs however often) and finish."""
    async with engine:
        os.write(ready, b"!")
        events = [inngest.Event(name="kill/work", id=f"event-{n}") for n in range(RUNS)]
        await engine.send(events)
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


def again(log: Path, life: int, known: set[tuple[str, str]]) -> list[str]:
    """Calls that this life made although their results were acknowledged before it."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [
        f"again {run} {what}"
        for number, run, what in lines
        if int(number) == life and (run, what) in known
    ]


def torture(directory: Path, kills: int) -> dict[str, Any]:
    """Kill lives at random moments until enough were killed; let the last of each round finish."""
    randomness = random.Random(17)
    problems: list[str] = []
    done = rounds = calls = 0
    while done < kills:
        log = directory / f"round-{rounds}.log"
        journal = log.with_suffix(".journal")
        life = 0
        while done < kills:
            known = acknowledged(journal)
            child = fork(log, life)
            time.sleep(randomness.uniform(0.0, MOMENT))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            done += os.WIFSIGNALED(status)
            problems += [f"lost {missing}" for missing in known - acknowledged(journal)]
            problems += again(log, life, known)
            life += 1
            if not os.WIFSIGNALED(status):
                break
        known = acknowledged(journal)
        _, status = os.waitpid(fork(log, life), 0)
        problems += [f"round {rounds} ended with {status}"] if status else []
        problems += again(log, life, known)
        problems += outputs(build(log, -1))
        calls += len(log.read_text().splitlines())
        rounds += 1
    return {"kills": done, "rounds": rounds, "calls": calls, "problems": problems}


def outputs(engine: LocalEngine) -> list[str]:
    """What is wrong with the ends of the runs."""

    async def look() -> list[str]:
        async with engine:
            ended = [run.output for run in engine.runs]
        return [] if ended == ["done"] * RUNS else [f"outputs {ended}"]

    return asyncio.run(look())


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]))))
