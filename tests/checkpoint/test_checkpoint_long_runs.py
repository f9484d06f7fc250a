"""A run of many steps: each costs as much as the first, and nothing of it is kept."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from types import FrameType
from typing import Any

import anyio.to_thread
import httpx
import pytest
from tests.checkpoint.checkpoint_rig import ASYNC, play
from tests.core.core_protocol import Engine, serve

from inngest_plugins.checkpoint import CheckpointPlugin

pytestmark = pytest.mark.anyio

VALUE = 10_000


def _cost(setting: str, steps: int, buffer: int) -> tuple[int, int]:
    """Return the app's peak of memory, and the bytes that it sent, in one request of so many steps.

    The engine of this test keeps nothing.
    """
    sent = 0

    async def body(ctx: Any) -> None:
        for number in range(steps):
            await ctx.step.run(f"s{number}", lambda: "x" * VALUE)
            if number % 20 == 0:
                # The peak is of what is kept, not of garbage.
                gc.collect()

    def take(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += len(request.content)
        engine.requests.clear()
        return httpx.Response(200)

    engine = Engine(take)
    app = serve(setting, body, CheckpointPlugin(buffer=buffer, max_runtime=None))
    with engine.serving(app.client):
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            assert app.post(identity={"fn_id": "f-1"}).status == 200
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return peak - before, sent


@pytest.mark.parametrize("buffer", [1, 10])
async def test_memory_is_flat_and_bytes_are_linear(setting: str, buffer: int) -> None:
    """What a step gave is sent once and kept by nobody; the SDK keeps some words for each step."""

    def measure() -> tuple[tuple[int, int], tuple[int, int]]:
        _cost(setting, 20, buffer)
        return _cost(setting, 50, buffer), _cost(setting, 250, buffer)

    # The app is asked over a loop of its own.
    (few_peak, few_sent), (many_peak, many_sent) = await anyio.to_thread.run_sync(measure)
    assert many_sent == pytest.approx(5 * few_sent, rel=0.02)
    assert many_peak - few_peak < 200 * VALUE / 20


@pytest.mark.slow
async def test_a_step_costs_as_much_late_in_a_run_as_early() -> None:
    """The calls that app and engine make for 1,000 steps are ten times those for 100."""

    async def body(ctx: Any) -> None:
        for number in range(ctx.event.data["steps"]):
            await ctx.step.run(f"s{number}", lambda: None)

    async def calls_for(steps: int) -> int:
        calls = 0

        def count(frame: FrameType, event: str, arg: Any) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        try:
            played = await play(ASYNC, body, CheckpointPlugin(), data={"steps": steps})
        finally:
            sys.setprofile(None)
        assert (played.run.status, played.requests) == ("Completed", 1)
        assert len(played.run.steps) == steps
        return calls

    await calls_for(1)
    few, many = await calls_for(100), await calls_for(1000)
    assert many < 10 * few
