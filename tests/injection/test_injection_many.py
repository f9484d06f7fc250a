"""Ten thousand requests of every kind leave nothing open."""

from __future__ import annotations

import asyncio
from typing import Any

import inngest
import pytest
from tests.bodies import parallel

from inngest_plugins.injection import aget, get

from .conftest import App, AsyncSession, Session

pytestmark = pytest.mark.anyio

REQUESTS = 10_000
RUNS_AT_ONCE = 25


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_10_000_requests_leave_nothing_open(app: App) -> None:
    """In sequence, in parallel, failing, retried and cancelled: opened equals closed."""
    waiting: list[asyncio.Event] = []

    async def work() -> None:
        get(Session)
        if app.is_async:
            await aget(AsyncSession)

    @app.body("sequence")
    async def sequence(ctx: Any, step: Any) -> None:
        get(Session)
        for name in ("a", "b"):
            await step.run(name, work)

    @app.body("group")
    async def group(ctx: Any, step: Any) -> None:
        get(Session)
        await parallel(ctx, *(lambda name=name: step.run(name, work) for name in ("a", "b")))

    @app.body("failing", retries=1)
    async def failing(ctx: Any, step: Any) -> None:
        get(Session)

        async def fail() -> None:
            await work()
            raise ValueError("no")

        await step.run("fail", fail)

    @app.body("retried", retries=1)
    async def retried(ctx: Any, step: Any) -> None:
        get(Session)
        if ctx.attempt == 0:
            raise ValueError("no")

    @app.function("cancelled")
    async def cancelled(ctx: inngest.Context) -> None:
        async def hang() -> None:
            await aget(AsyncSession, Session)
            waiting.append(asyncio.Event())
            await waiting[-1].wait()

        await ctx.step.run("hang", hang)

    names = ["sequence", "group", "failing", "retried", *(["cancelled"] if app.is_async else [])]
    requests = 0
    # Room for all that hang, beside those that run.
    async with app.engine(max_requests=len(names) * RUNS_AT_ONCE) as engine:
        while requests < REQUESTS // 2:
            await engine.send([inngest.Event(name=name) for name in names] * RUNS_AT_ONCE)
            if app.is_async:
                while len(waiting) < RUNS_AT_ONCE:
                    await asyncio.sleep(0)
                for run in engine.runs:
                    if run.status == "Running" and run.function_id == "app-cancelled":
                        await engine.cancel(run)
                waiting.clear()
            await engine.settle()
            requests = sum(len(run.requests) for run in engine.runs)
    assert len(app.count.opened) > requests
    assert app.count.leaked == 0
