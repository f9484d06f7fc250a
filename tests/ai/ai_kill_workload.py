"""Runs that call models, in a process that is killed again and again (see test_ai_kills.py).

Run as `python -m tests.ai.ai_kill_workload DIRECTORY URL KILLS CHECKPOINT`. Prints one JSON
document with what the engine knows at the end.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import re
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import inngest
import openai
from tests.kills import finish, start_life

from inngest_plugins.ai import AIPlugin, instrument
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine, Run, VirtualClock

RUNS = 5
"""How many start; each invokes another."""
EVENTS = [inngest.Event(name="kill/main", id=f"event-{n}") for n in range(RUNS)]
MOST_CALLS = 12
"""Most calls to the model that a life makes before it is killed."""
IN_FLIGHT = 2
"""Most attempts that one run has under way."""


def build(directory: Path, url: str, life: int, *, checkpoint: bool) -> LocalEngine:
    """The engine of one life.

    Each attempt of a step has a name: its calls carry it, and it returns it, or fails with it.
    """
    plugin = AIPlugin(totals_at=["parent"])
    plugins: list[Any] = [plugin, CheckpointPlugin()] if checkpoint else [plugin]
    client: Any = instrument(openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0))
    app = inngest.Inngest(app_id="kill", is_production=False, middleware=plugins)

    async def work(name: str, *, fails: bool = True) -> str:
        attempt = f"<{life}:{uuid.uuid4().hex}>"
        dice = random.Random(attempt)
        for _ in range(dice.randrange(4)):
            with (directory / "log").open("a") as log:
                log.write(".")
            asked: Any = {
                "model": "gpt-5",
                "messages": [],
                "extra_headers": {"x-attempt": attempt},
            }
            if dice.random() < 0.5:
                await client.chat.completions.create(**asked)
                continue
            told = {"stream": True, "stream_options": {"include_usage": True}}
            async for _ in await client.chat.completions.create(**asked, **told):
                pass
        if fails and dice.random() < 0.3:
            raise ValueError(f"{attempt} failed after it has spent")
        return attempt

    event = inngest.TriggerEvent(event="kill/invoked")

    @app.create_function(fn_id="invoked", trigger=event, retries=20)
    async def invoked(ctx: inngest.Context) -> None:
        for name in ("a", "b"):
            await ctx.step.run(name, functools.partial(work, name, fails=False))

    @app.create_function(fn_id="main", trigger=inngest.TriggerEvent(event="kill/main"), retries=20)
    async def main(ctx: inngest.Context) -> None:
        async def one(name: str) -> str:
            return await ctx.step.run(name, work, name)

        await one("first")
        await ctx.group.parallel(tuple(functools.partial(one, f"member-{n}") for n in range(2)))
        await ctx.step.invoke("invoke", function=invoked)
        for name in ("second", "third"):
            await one(name)

    journal = directory / "journal"
    return LocalEngine(app, [main, invoked], journal=journal, clock=VirtualClock(0))


def let_live(child: int, log: Path, dice: random.Random) -> None:
    """Kill a life when it has called the model some times."""
    enough = log.stat().st_size + dice.randint(1, MOST_CALLS)
    while log.stat().st_size < enough:
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            return
        time.sleep(0.0005)
    time.sleep(dice.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def known(run: Run) -> dict[str, Any]:
    """What the engine knows of a run at the end, and which attempts it has acknowledged."""
    told = [
        [answer.response for answer in run.requests],
        [step.value for step in run.steps.values()],
    ]
    return {
        "id": run.id,
        "function": run.function_id,
        "status": run.status,
        "attempts": sorted(set(re.findall(r"<\d+:\w+>", json.dumps(told, default=repr)))),
        "metadata": dict(run.metadata),
    }


def torture(directory: Path, url: str, kills: int, *, checkpoint: bool) -> list[dict[str, Any]]:
    """Kill lives at random moments, let the last one finish, and look."""
    dice = random.Random(kills)
    log = directory / "log"
    log.touch()
    for life in range(kills):
        engine = build(directory, url, life, checkpoint=checkpoint)
        let_live(start_life(functools.partial(finish, engine, EVENTS)), log, dice)
    last = build(directory, url, kills, checkpoint=checkpoint)
    _, status = os.waitpid(start_life(lambda: finish(last, EVENTS)), 0)
    if status:
        raise SystemExit("the last life failed")

    async def look() -> list[dict[str, Any]]:
        async with build(directory, url, -1, checkpoint=checkpoint) as engine:
            return [known(run) for run in engine.runs]

    return asyncio.run(look())


if __name__ == "__main__":
    folder, provider, number, with_checkpoints = sys.argv[1:]
    found = torture(Path(folder), provider, int(number), checkpoint=with_checkpoints == "True")
    print(json.dumps(found))
