"""An agent whose process is killed again and again (see test_agents_kills.py).

Run as `python -m tests.agents.kill_workload DIRECTORY KILLS`. Prints one JSON document with what
happened.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import inngest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.kills import acknowledged, ran_again, start_open_life, wrong_outputs

from inngest_plugins.agents import InngestDurability
from inngest_plugins.local import LocalEngine, VirtualClock

RUNS = 3
EVENTS = [inngest.Event(name="kill/work", id=f"event-{n}") for n in range(RUNS)]
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
            child = start_open_life(build(log, life), EVENTS)
            time.sleep(randomness.uniform(0.0, MOMENT))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            done += os.WIFSIGNALED(status)
            problems += [f"lost {missing}" for missing in known - acknowledged(journal)]
            problems += ran_again(log, life, known)
            life += 1
            if not os.WIFSIGNALED(status):
                break
        known = acknowledged(journal)
        _, status = os.waitpid(start_open_life(build(log, life), EVENTS), 0)
        problems += [f"round {rounds} ended with {status}"] if status else []
        problems += ran_again(log, life, known)
        problems += wrong_outputs(build(log, -1), ["done"] * RUNS)
        calls += len(log.read_text().splitlines())
        rounds += 1
    return {"kills": done, "rounds": rounds, "calls": calls, "problems": problems}


if __name__ == "__main__":
    print(json.dumps(torture(Path(sys.argv[1]), int(sys.argv[2]))))
