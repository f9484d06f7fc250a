"""The sum of what is reported equals what the provider charged, to the token."""

from __future__ import annotations

import functools
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx2
import inngest
import openai
import pytest
from tests.ai.ai_provider import Provider
from tests.ai.ai_rig import App, attempt_values, run_values

from inngest_plugins.ai import instrument, usage
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine, Run, VirtualClock

pytestmark = pytest.mark.anyio

FIGURES = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "failed_calls")


def make_app(provider: Provider, checkpoint: bool) -> App:
    """An app whose runs are made of the event's seed: steps, groups, failures, streams, sleeps."""
    app = App(*([CheckpointPlugin()] if checkpoint else []))
    http = httpx2.AsyncClient(transport=provider.transport())
    client: Any = instrument(openai.AsyncOpenAI(api_key="k", http_client=http, max_retries=0))
    attempts: Counter[tuple[str, str]] = Counter()

    async def chat(stream: bool) -> None:
        asked: Any = {"model": "gpt-5", "messages": []}
        if not stream:
            await client.chat.completions.create(**asked)
            return
        told = {"stream": True, "stream_options": {"include_usage": True}}
        async for _ in await client.chat.completions.create(**asked, **told):
            pass

    async def work(run_id: str, name: str) -> str:
        dice = random.Random(f"{run_id}{name}{attempts[run_id, name]}")
        attempts[run_id, name] += 1
        for _ in range(dice.randrange(3)):
            await chat(dice.random() < 0.5)
        if attempts[run_id, name] <= 3 and dice.random() < 0.35:
            raise ValueError("a step that fails after it has spent")
        return name

    @app.function(retries=5)
    async def fn(ctx: inngest.Context) -> dict[str, int | str]:
        async def one_step(name: str) -> str:
            return await ctx.step.run(name, work, ctx.run_id, name)

        dice = random.Random(str(ctx.event.data["seed"]))
        for number in range(dice.randrange(1, 6)):
            name = f"s{number}"
            kind = dice.random()
            if kind < 0.6:
                await one_step(name)
            elif kind < 0.85:
                members = [f"{name}-{member}" for member in range(2)]
                await ctx.group.parallel(
                    tuple(functools.partial(one_step, member) for member in members)
                )
            else:
                await ctx.step.sleep(name, 1000)
        total = usage.run_total()
        figures = {name: getattr(total, name) for name in FIGURES}
        return {**figures, "cost_usd": str(total.cost_usd)}

    return app


def check(run: Run) -> Counter[str]:
    """What the run knows of itself is what the engine has, in both places."""
    assert run.status == "Completed", run.reason
    told: Any = run.output
    engine = run_values(run)
    known: Counter[str] = Counter({name: engine.get(name, 0) for name in FIGURES})
    assert known == Counter({name: told[name] for name in FIGURES})
    assert engine.get("cost_usd", 0) == pytest.approx(float(Decimal(told["cost_usd"])))
    by_attempt = attempt_values(run).values()
    for name in ("input_tokens", "output_tokens", "cache_read_tokens"):
        assert sum(values.get(name, 0) for values in by_attempt) == known[name]
    return known


@pytest.mark.parametrize("checkpoint", [False, True], ids=["plain", "checkpoint"])
@pytest.mark.parametrize(
    "runs",
    [50, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
    ids=["50", "500"],
)
async def test_totals_equal_the_provider_s_ledger(runs: int, checkpoint: bool) -> None:
    """Over runs with retries, streams, parallel steps and replays; half with checkpointing."""
    provider = Provider()
    app = make_app(provider, checkpoint)
    total: Counter[str] = Counter()
    async with LocalEngine(app.client, app.functions, clock=VirtualClock()) as engine:
        ids = await engine.send(
            [inngest.Event(name="fn", data={"seed": seed}) for seed in range(runs)]
        )
        await engine.settle()
        assert len(ids) == runs
        for run in engine.runs:
            total += check(run)
        assert len(engine.runs) == runs
    calls, asked, answered, cached = provider.total
    assert calls > runs
    assert total["failed_calls"] > 0
    assert (total["calls"], total["input_tokens"]) == (calls, asked)
    assert (total["output_tokens"], total["cache_read_tokens"]) == (answered, cached)
