"""Apps that count model calls, on the embedded engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import inngest
import tests.app

from inngest_plugins.ai import AIPlugin, ModelUsage, usage
from inngest_plugins.core import StackEntry
from inngest_plugins.local import Run

RUN = "userland.ai"
ATTEMPT = "inngest.ai"


class App(tests.app.App):
    """An app with the plugin."""

    def __init__(self, *plugins: StackEntry, plugin: AIPlugin | None = None) -> None:
        super().__init__(plugin or AIPlugin(), *plugins)


def run_values(run: Run) -> dict[str, Any]:
    """What the engine knows of the whole run."""
    return dict(run.metadata.get("run", {}).get(RUN, {}))


def attempt_values(run: Run) -> dict[str, dict[str, Any]]:
    """What the engine knows of each attempt of each step."""
    return {target: kinds[ATTEMPT] for target, kinds in run.metadata.items() if ATTEMPT in kinds}


async def in_step(
    body: Callable[[], Awaitable[None]], plugin: AIPlugin | None = None
) -> tuple[ModelUsage, Run]:
    """Run something in a step; returns the run's total, nothing where it failed, and the run."""
    app = App(plugin=plugin)
    totals: list[ModelUsage] = []

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> None:
        await ctx.step.run("s", body)
        totals.append(usage.run_total())

    run = await app.run()
    return (totals[-1] if totals else ModelUsage()), run


async def counted(
    body: Callable[[], Awaitable[None]], plugin: AIPlugin | None = None
) -> tuple[ModelUsage, Run]:
    """Run something in a step that completes; the run's total is what the engine has."""
    total, run = await in_step(body, plugin)
    assert run.status == "Completed", run.reason
    assert run_values(run).get("input_tokens", 0) == total.input_tokens
    return total, run
