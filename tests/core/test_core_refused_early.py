"""Requests that middleware ahead of the stack refuses."""

from __future__ import annotations

from typing import Any

import inngest
import pytest

from inngest_plugins.core import Call, Layer, Outcome, Plugin
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio


class Refusing(inngest.MiddlewareSync):
    """Ordinary middleware that lets nobody in."""

    def transform_input(self, ctx: Any, function: Any, steps: Any) -> None:
        raise inngest.NonRetriableError("not today")


class Witness(Plugin):
    """Writes down what it is told."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.told: list[object] = []

    def transform_input(self, call: Call) -> None:
        self.told.append("input")

    def before_execution(self, call: Call) -> None:
        self.told.append("execution")

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self.told.append(str(outcome.raised))

    def before_response(self, call: Call) -> None:
        self.told.append("response")


@pytest.mark.parametrize("sync", [False, True])
async def test_observers_hear_of_a_request_that_was_refused_before_them(sync: bool) -> None:
    """An error of middleware ahead of the stack reaches observers, and only them."""
    observer, inner = Witness(Layer.OBSERVE), Witness(Layer.CONTEXT)
    client = inngest.Inngest(
        app_id="refused", is_production=False, middleware=[Refusing, inner, observer]
    )
    trigger = inngest.TriggerEvent(event="refused/event")
    function: inngest.Function[None]
    if sync:

        @client.create_function(fn_id="fn", trigger=trigger)
        def sync_function(ctx: inngest.ContextSync) -> None:
            observer.told.append("ran")

        function = sync_function
    else:

        @client.create_function(fn_id="fn", trigger=trigger)
        async def async_function(ctx: inngest.Context) -> None:
            observer.told.append("ran")

        function = async_function

    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="refused/event"))

    assert run.error is not None
    assert run.error["message"] == "not today"
    assert observer.told == ["input", "not today", "response"]
    assert inner.told == []
