"""Steps that are reached in another order in the request that is to run one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import inngest
import pytest
from tests.agents.agents_app import App, completed

from inngest_plugins.agents.steps.scheduler import Scheduler, scheduler_of
from inngest_plugins.core import Call, Hooks

pytestmark = pytest.mark.anyio


def scheduler() -> Scheduler:
    """The scheduler of the request that goes on."""
    call = Call.current()
    assert call is not None
    return scheduler_of(call)


async def test_a_request_waits_for_the_step_that_it_is_to_run() -> None:
    """Planned together, reached one after the other: the first is passed over, and none is lost."""
    app = App(Hooks("any"))

    async def step(ctx: inngest.Context, name: str, delay: float) -> str:
        async def handler() -> str:
            app.count[name] += 1
            return name

        with scheduler().making_steps():
            await asyncio.sleep(delay)
            return str(await scheduler().run(name, lambda: ctx.step.run(name, handler)))

    async def body(ctx: inngest.Context) -> list[str]:
        app.count["requests"] += 1
        together = app.count["requests"] == 1
        delays = [0.0, 0.0] if together else [0.0, 0.05]
        with scheduler().making_steps():
            both = (step(ctx, name, delay) for name, delay in zip("ab", delays, strict=True))
            return list(await asyncio.gather(*both))

    run = await app.run(body, retries=0)
    assert completed(run) == ["a", "b"]
    assert (app.count["a"], app.count["b"]) == (1, 1)
    targets = [request.target for request in run.requests if request.target is not None]
    assert len(targets) == 2


async def test_a_task_that_is_cancelled_leaves_the_others_to_go_on() -> None:
    """Another one leads then, and the step of the cancelled one is not made."""
    app = App(Hooks("any"))

    async def body(ctx: inngest.Context) -> Any:
        async def handler() -> int:
            app.count["handler"] += 1
            return 1

        def run(name: str) -> asyncio.Task[Any]:
            step = scheduler().run(name, lambda: ctx.step.run(name, handler))
            return asyncio.create_task(step)

        first, second = run("a"), run("b")
        await asyncio.sleep(0)
        first.cancel()
        try:
            return await second
        finally:
            assert (await asyncio.gather(first, return_exceptions=True))[0] is not None

    run = await app.run(body, retries=0)
    assert completed(run) == 1
    assert list(run.steps) == ["b"]
    assert app.count["handler"] == 1
