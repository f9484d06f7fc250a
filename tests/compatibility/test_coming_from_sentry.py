"""From the SDK's experimental Sentry middleware to `SentryPlugin`, with runs in flight."""

from __future__ import annotations

import datetime
from typing import Any

import inngest
import pytest
from inngest.experimental.sentry_middleware import SentryMiddleware
from tests.compatibility.compatibility_switch import TURNS, run_on_both
from tests.composition.composition_rig import Rig

from inngest_plugins.sentry import SentryPlugin

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def build(client: inngest.Inngest) -> list[inngest.Function[Any]]:
    """A function of some steps that fails at its end, on both of its attempts, when asked to."""

    async def one() -> int:
        return 1

    @client.create_function(
        fn_id="fulfil", trigger=inngest.TriggerEvent(event="shop/order"), retries=1
    )
    async def fulfil(ctx: inngest.Context) -> Any:
        first = await ctx.step.run("first", one)
        await ctx.step.sleep("nap", datetime.timedelta(minutes=1))
        second = await ctx.step.run("second", one)
        if ctx.event.data.get("fails"):
            raise ValueError("no luck")
        return {"sum": first + second, "data": dict(ctx.event.data)}

    return [fulfil]


@pytest.mark.parametrize("turns", TURNS)
async def test_runs_move_between_middleware_and_plugin(rig: Rig, turns: str) -> None:
    """Runs come to the same whoever answers which call, and their events look the same."""
    event = inngest.Event(name="shop/order", data={"order": 1})
    run, _ = await run_on_both(build, [SentryMiddleware], [SentryPlugin()], TURNS[turns], event)
    assert run.status == "Completed", run.reason
    # An old worker sees the trace header that a new one put into the event.
    data = {key: value for key, value in run.output["data"].items() if key != "_sentry"}
    assert (run.output["sum"], data) == (2, {"order": 1})


@pytest.mark.parametrize(
    ("turns", "reports"), [("old", 2), ("new", 1), ("old then new", 1), ("new then old", 2)]
)
async def test_reports_of_a_failing_run(rig: Rig, turns: str, reports: int) -> None:
    """A new worker reports a failure once, when it is final; an old one each attempt it sees."""
    event = inngest.Event(name="shop/order", data={"fails": True})
    run, _ = await run_on_both(build, [SentryMiddleware], [SentryPlugin()], TURNS[turns], event)
    assert run.status == "Failed"
    errors = [event for event in rig.transport.errors if "exception" in event]
    assert [error["exception"]["values"][-1]["type"] for error in errors] == [
        "ValueError"
    ] * reports
    assert {error["tags"]["inngest.run.id"] for error in errors} == {run.id}
