"""Time in an agent's run: when it began, and the waits that Pydantic AI makes between requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone

import inngest

from inngest_plugins.core import Call

from .ids import AgentRun
from .scheduler import scheduler_of


async def started_at(call: Call, run: AgentRun) -> datetime:
    """Return when the agent's run began, from a step.

    Args:
        call: the request.
        run: the agent's run.
    """
    ctx = call.ctx
    assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
    step = ctx.step
    step_id = run.step_id("started")

    async def now() -> str:
        return datetime.now(timezone.utc).isoformat()

    started = await scheduler_of(call).run(step_id, lambda: step.run(step_id, now))
    return datetime.fromisoformat(started)


def durable_sleep(call: Call, run: AgentRun) -> Callable[[float], Awaitable[None]]:
    """Return a sleep for Pydantic AI that is a sleep step: it waits once, and not on replay.

    Pydantic AI sleeps between two polls for an answer that the provider is still working on.

    Args:
        call: the request.
        run: the agent's run.
    """
    ctx = call.ctx
    assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
    step = ctx.step

    async def sleep(seconds: float) -> None:
        step_id = run.step_id("wait")
        duration = timedelta(seconds=max(seconds, 0))
        await scheduler_of(call).run(step_id, lambda: step.sleep(step_id, duration))

    return sleep
