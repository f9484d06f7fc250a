"""Memoized results that are for one kind of step only."""

from __future__ import annotations

from typing import Any

import inngest
import pytest

from inngest_plugins.core import Call, Layer, Plugin
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio


class Choosy(Plugin):
    """Allows every memo for some operations."""

    layer = Layer.WIRE

    def __init__(self, *ops: str) -> None:
        self.ops = ops

    def transform_input(self, call: Call) -> None:
        for hashed_id in call.memos:
            call.require_op(hashed_id, self.ops, inngest.NonRetriableError("not for this step"))


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(("ops", "passes"), [(("StepRun", "Sleep"), True), (("Sleep",), False)])
async def test_a_memo_reaches_only_the_operations_it_is_for(
    sync: bool, ops: tuple[str, ...], passes: bool
) -> None:
    """A result for another operation fails the run, and the function cannot catch that."""
    client = inngest.Inngest(app_id="choosy", is_production=False, middleware=[Choosy(*ops)])
    trigger = inngest.TriggerEvent(event="choosy/event")
    function: inngest.Function[Any]
    if sync:

        @client.create_function(fn_id="fn", trigger=trigger)
        def sync_function(ctx: inngest.ContextSync) -> str:
            try:
                return ctx.step.run("a", lambda: "value")
            except Exception:
                return "caught"

        function = sync_function
    else:

        @client.create_function(fn_id="fn", trigger=trigger)
        async def async_function(ctx: inngest.Context) -> str:
            async def value() -> str:
                return "value"

            try:
                return await ctx.step.run("a", value)
            except Exception:
                return "caught"

        function = async_function

    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="choosy/event"))

    if passes:
        assert run.output == "value"
    else:
        assert run.status == "Failed"
        assert run.error is not None
        assert run.error["message"] == "not for this step"
