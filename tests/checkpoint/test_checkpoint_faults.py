"""Faults of the checkpoint call: nothing is lost, and nothing that was acknowledged runs again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import inngest
import pytest
from tests.checkpoint.checkpoint_rig import Decide, play
from tests.core.core_protocol import hashed

from inngest_plugins.checkpoint import CheckpointPlugin

pytestmark = pytest.mark.anyio

FAULTS: list[str | int] = ["refuse", "lose", 400, 401, 404, 413, 429, 500, 503]


def counting(ran: Counter[str], steps: int = 6) -> Any:
    async def body(ctx: Any) -> Any:
        def step(name: str) -> Any:
            def handler() -> str:
                ran[name] += 1
                return name

            return handler

        return [await ctx.step.run(f"s{n}", step(f"s{n}")) for n in range(steps)]

    return body


def at(*numbers: int, fault: str | int) -> Decide:
    return lambda number: fault if number in numbers else None


@pytest.mark.parametrize("buffer", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
async def test_one_call_fails(setting: str, fault: str | int, buffer: int) -> None:
    """The run is the same, and every step runs once."""
    ran: Counter[str] = Counter()
    plugin = CheckpointPlugin(buffer=buffer, give_up_after=5)
    played = await play(setting, counting(ran), plugin, decide=at(1, fault=fault))
    assert played.run.status == "Completed"
    assert played.run.output == [f"s{n}" for n in range(6)]
    assert set(ran.values()) == {1}
    passes = fault in ("refuse", "lose", 429, 500, 503)
    if passes or buffer == 1:
        assert played.requests == (1 if passes else 2)


@pytest.mark.parametrize("buffer", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_call_fails(setting: str, fault: str | int, buffer: int) -> None:
    """What cannot be delivered is answered, as without checkpointing."""
    ran: Counter[str] = Counter()
    plugin = CheckpointPlugin(buffer=buffer, give_up_after=0.02)
    played = await play(setting, counting(ran), plugin, decide=lambda number: fault)
    assert played.run.status == "Completed"
    assert played.run.output == [f"s{n}" for n in range(6)]
    assert set(ran.values()) == {1}
    if buffer == 1:
        assert played.requests == 7


@pytest.mark.parametrize("buffer", [1, 4])
async def test_faults_at_random(setting: str, buffer: int) -> None:
    """Faults of all kinds, one after the other, in a run with an error and a sleep in it."""
    ran: Counter[str] = Counter()

    async def body(ctx: Any) -> Any:
        def step(name: str, failures: int = 0) -> Any:
            def handler() -> str:
                ran[name] += 1
                if ran[name] <= failures:
                    raise ValueError(name)
                return name

            return handler

        done: list[str] = []
        for n in range(12):
            done.append(await ctx.step.run(f"s{n}", step(f"s{n}", 1 if n == 5 else 0)))
            if n == 8:
                await ctx.step.sleep("nap", 1000)
        return done

    def decide(number: int) -> str | int | None:
        return (*FAULTS, None, None)[number * 7 % 11]

    plugin = CheckpointPlugin(buffer=buffer, give_up_after=0.02)
    played = await play(setting, body, plugin, decide=decide, retries=2)
    assert played.run.output == [f"s{n}" for n in range(12)]
    assert ran == {f"s{n}": 2 if n == 5 else 1 for n in range(12)}


@pytest.mark.parametrize("fault", ["late", "silent"])
async def test_a_reply_after_the_time_limit(setting: str, fault: str) -> None:
    """It is answered, whether the engine has stored it or not: nothing is lost or repeated."""
    ran: Counter[str] = Counter()
    plugin = CheckpointPlugin(give_up_after=0.05)
    played = await play(setting, counting(ran, 3), plugin, decide=lambda number: fault)
    assert played.run.status == "Completed"
    assert played.run.output == ["s0", "s1", "s2"]
    assert set(ran.values()) == {1}
    *steps, end = played.run.requests
    assert [request.status for request in steps] == [206, 206, 206]
    assert [[op["op"] for op in request.response] for request in steps] == [["StepRun"]] * 3
    assert end.status == 200
    assert [step.checkpointed for step in played.run.steps.values()] == [fault == "late"] * 3
    assert set(played.calls.limits) == {0.05}


@pytest.mark.parametrize("status", [404, 409])
async def test_a_run_that_was_cancelled_stops(setting: str, status: int) -> None:
    """The engine cancels while a step runs: the function stops there, and logs no error."""
    ran: Counter[str] = Counter()
    played = await play(
        setting,
        counting(ran),
        CheckpointPlugin(),
        decide=at(2, fault=409 if status == 409 else "gone"),
        retries=0,
    )
    first = played.run.requests[0]
    (op,) = first.response
    assert (op["id"], op["op"]) == (hashed("s2"), "None")
    assert ran["s2"] == 1
    assert ("s2:0", "ok") in played.recorder.outcomes


async def test_cancelled_by_an_event(setting: str) -> None:
    """A cancelled run's function stops at its next step."""
    ran: Counter[str] = Counter()

    async def body(ctx: Any) -> None:
        await ctx.step.run("before", lambda: ran.update(["before"]))
        await ctx.step.send_event("stop", inngest.Event(name="shop/stop"))
        await ctx.step.run("after", lambda: ran.update(["after"]))
        await ctx.step.run("late", lambda: ran.update(["late"]))

    played = await play(
        setting, body, CheckpointPlugin(), cancel=[inngest.Cancel(event="shop/stop")]
    )
    assert played.run.status == "Cancelled"
    assert ran["before"] == 1
    assert ran["late"] == 0
