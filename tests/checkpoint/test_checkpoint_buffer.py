"""What is still buffered when a request ends: stored by a call first, or answered beside it."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import inngest
import pytest
from tests.checkpoint.checkpoint_rig import play
from tests.core.core_protocol import make_function

from inngest_plugins.checkpoint import CheckpointPlugin

pytestmark = pytest.mark.anyio
HOUR = datetime.timedelta(hours=1)

ENDS = {
    "sleep": "Sleep",
    "wait": "WaitForEvent",
    "invoke": "InvokeFunction",
    "error": "StepError",
    "group": "StepPlanned",
}
"""What ends a request, by the opcode that it is answered with."""


def _program(end: str, ran: Counter[str]) -> Any:
    def noting(name: str, failures: int = 0) -> Any:
        def handler() -> str:
            ran[name] += 1
            if ran[name] <= failures:
                raise ValueError(name)
            return name

        return handler

    async def body(ctx: Any) -> Any:
        done = [await ctx.step.run(name, noting(name)) for name in ("a", "b")]
        if end == "sleep":
            await ctx.step.sleep("end", HOUR)
        elif end == "wait":
            await ctx.step.wait_for_event("end", event="shop/never", timeout=HOUR)
        elif end == "invoke":
            await ctx.step.invoke_by_id("end", function_id="child", data={})
        elif end == "error":
            done.append(await ctx.step.run("end", noting("end", failures=1)))
        else:
            done += await ctx.group.parallel(
                tuple(lambda n=n: ctx.step.run(n, noting(n)) for n in ("left", "right"))
            )
        return [*done, await ctx.step.run("last", noting("last"))]

    return body


def _child(setting: str) -> Any:
    def beside(client: inngest.Inngest) -> list[inngest.Function[Any]]:
        async def body(ctx: Any) -> str:
            return "child"

        trigger = inngest.TriggerEvent(event="shop/child")
        return [make_function(setting, client, body, fn_id="child", trigger=trigger)]

    return beside


async def _played(setting: str, end: str, *plugins: Any, **options: Any) -> Any:
    ran: Counter[str] = Counter()
    played = await play(setting, _program(end, ran), *plugins, beside=_child(setting), **options)
    assert played.run.status == "Completed", played.run.reason
    return ran, played


def _ops(played: Any, number: int) -> list[str]:
    return [op["op"] for op in played.run.requests[number].response]


@pytest.mark.parametrize("end", ENDS)
async def test_it_is_stored_before_the_request_ends(setting: str, end: str) -> None:
    """By one call, so that the answer is the one that ends the request without a buffer.

    An answer of several operations would have the engine plan the steps that follow it, which
    costs a request for each of them.
    """
    bare_ran, bare = await _played(setting, end)
    _, unbuffered = await _played(setting, end, CheckpointPlugin())
    ran, played = await _played(setting, end, CheckpointPlugin(buffer=10))
    assert played.calls.sent[0] == ["a", "b"]
    assert set(_ops(played, 0)) == {ENDS[end]}
    assert (ran, played.run.output) == (bare_ran, bare.run.output)
    assert played.requests == unbuffered.requests < bare.requests


@pytest.mark.parametrize("end", ENDS)
async def test_it_is_answered_where_the_call_fails(setting: str, end: str) -> None:
    """Beside what ends the request, and alone before an error, whose attempts count by request."""
    bare_ran, bare = await _played(setting, end)
    plugin = CheckpointPlugin(buffer=10, give_up_after=0.02)
    ran, played = await _played(setting, end, plugin, decide=lambda number: 400)
    beside = [] if end == "error" else [ENDS[end]]
    assert sorted(_ops(played, 0)) == sorted(
        ["StepRun", "StepRun", *beside * (1 + (end == "group"))]
    )
    bare_ran["end"] += end == "error"
    assert ran - bare_ran == Counter()
    assert played.run.output == bare.run.output
