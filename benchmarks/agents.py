"""A durable agent of 20 calls beside the same calls made in steps by hand.

Requests, and seconds of CPU a run on the embedded engine, with and without checkpoints. The model
is scripted and answers at once: what is measured is all that is not the provider.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import inngest
from figures import figure
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel

from inngest_plugins.agents import InngestDurability
from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.local import LocalEngine, VirtualClock

ROUNDS = 10
RUNS = 5

Body = Callable[[inngest.Context], Awaitable[Any]]


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Call a tool ten times, then stop."""
    given = sum(isinstance(message, ModelResponse) for message in messages)
    if given < ROUNDS:
        return ModelResponse(parts=[ToolCallPart("count", {"n": given}, tool_call_id=str(given))])
    return ModelResponse(parts=[TextPart("done")])


model = FunctionModel(answer)
agent = Agent(model, name="support", capabilities=[InngestDurability()])


@agent.tool_plain
async def count(n: int) -> int:
    """Give a number back."""
    return n


async def durable(ctx: inngest.Context) -> str:
    """The agent: 21 steps."""
    return (await agent.run("go")).output


async def by_hand(ctx: inngest.Context) -> str:
    """As many steps, with no agent between them."""

    async def ask(n: int) -> dict[str, Any]:
        response = await model.request([], None, ModelRequestParameters())
        return {"n": n, "model": response.model_name}

    for n in range(ROUNDS):
        await ctx.step.run("ask", ask, n)
        await ctx.step.run("count", count, n)
    await ctx.step.run("ask", ask, ROUNDS)
    return "done"


async def measure(body: Body, *, checkpoints: bool) -> tuple[int, float]:
    """Requests of a run, and its seconds of CPU: the best of five."""
    plugins = [CheckpointPlugin()] if checkpoints else []
    client = inngest.Inngest(app_id="app", is_production=False, middleware=list(plugins))
    create = client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="go"))
    best, requests = float("inf"), 0
    async with LocalEngine(client, [create(body)], clock=VirtualClock(0)) as engine:
        for _ in range(RUNS + 1):
            start = time.process_time()
            run = await engine.run(inngest.Event(name="go"))
            best = min(best, time.process_time() - start)
            assert run.output == "done", run.error
            requests = len(run.requests)
    return requests, best


async def measure_plain() -> float:
    """Seconds of CPU of the agent outside of a function: the best of five."""
    best = float("inf")
    for _ in range(RUNS + 1):
        start = time.process_time()
        await agent.run("go")
        best = min(best, time.process_time() - start)
    return best


async def main() -> None:
    """Print the table."""
    print(f"{'':34}requests   CPU a run")
    print(
        f"{'the agent, outside of a function':34}{'-':>8}   {1000 * await measure_plain():7.1f} ms"
    )
    for checkpoints in (False, True):
        base = 0.0
        for body in (by_hand, durable):
            requests, seconds = await measure(body, checkpoints=checkpoints)
            name = body.__name__ + (", CheckpointPlugin" if checkpoints else "")
            print(f"{name:34}{requests:8}   {1000 * seconds:7.1f} ms")
            if body is by_hand:
                base = seconds
            else:
                with_it = "with CheckpointPlugin" if checkpoints else "a request a step"
                figure(f"an agent, {with_it}: processor time / steps by hand", seconds / base)
                if checkpoints:
                    what = f"an agent of {2 * ROUNDS + 1} calls with CheckpointPlugin"
                    figure(what, requests, "requests", at_most=1)


if __name__ == "__main__":
    asyncio.run(main())
