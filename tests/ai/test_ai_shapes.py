"""A subclass, threads and generators; prices by a function."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from decimal import Decimal

import inngest
import pytest
from tests.ai.ai_rig import App, run_values

from inngest_plugins.ai import AIPlugin, ModelCall, usage

pytestmark = pytest.mark.anyio


class Own(AIPlugin):
    """A team's own."""


def by_function(call: ModelCall) -> Decimal | None:
    return Decimal(2) if call.model == "house" else None


def spend(model: str = "house") -> None:
    usage.record(model=model, input_tokens=1, output_tokens=1)


async def test_a_subclass_counts_in_threads_and_generators() -> None:
    """A thread with a copy of the context, and a generator, belong to the attempt they run in."""
    app = App(plugin=Own(prices=by_function))

    def spending() -> Iterator[int]:
        spend()
        yield 1
        spend("no-such-model")

    @app.function(retries=0)
    async def fn(ctx: inngest.Context) -> int:
        async def step() -> None:
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(spend,))
            thread.start()
            thread.join()
            list(spending())

        await ctx.step.run("s", step)
        return usage.run_total().calls

    run = await app.run()
    assert run.output == 3, run.reason
    assert (run_values(run)["cost_usd"], run_values(run)["unpriced_calls"]) == (4, 1)
