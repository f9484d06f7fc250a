"""Channels of an app, and what subscribers of the embedded engine get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import inngest
import pydantic

from inngest_plugins.local import LocalEngine, Run, VirtualClock
from inngest_plugins.realtime import Channel, RealtimePlugin, Topic

EVENT = "shop/test"


class Progress(pydantic.BaseModel):
    """How far an order is."""

    done: int = pydantic.Field(ge=0)
    note: str = ""


class OrderChannel(Channel, name="order:{order_id}"):
    """What the tests publish to."""

    progress = Topic(Progress)
    log = Topic(str)
    clear = Topic(str, plaintext=True)


ORDER = OrderChannel(order_id="o1")


class App:
    """An app with one function, async or sync."""

    def __init__(self, kind: str, *plugins: Any, **options: Any) -> None:
        self.kind = kind
        self.client = inngest.Inngest(
            app_id="shop",
            is_production=False,
            middleware=[RealtimePlugin(**options), *plugins],
        )

    def make(
        self, body: Callable[[Any], Any], body_sync: Callable[[Any], Any], **options: Any
    ) -> inngest.Function[Any]:
        """Make the function of the app's kind."""
        make = self.client.create_function(
            fn_id="fn", trigger=inngest.TriggerEvent(event=EVENT), **options
        )
        if self.kind == "sync":

            def run_sync(ctx: inngest.ContextSync) -> Any:
                return body_sync(ctx)

            return make(run_sync)

        async def run(ctx: inngest.Context) -> Any:
            return await body(ctx)

        return make(run)

    async def play(
        self, body: Callable[[Any], Any], body_sync: Callable[[Any], Any], **options: Any
    ) -> tuple[Run, list[tuple[str, Any]]]:
        """Run the body once; returns the run and all messages of `ORDER`, in order."""
        function = self.make(body, body_sync, **options)
        async with LocalEngine(self.client, [function], clock=VirtualClock()) as engine:
            with engine.subscribe(ORDER.name) as messages:
                run = await engine.run(inngest.Event(name=EVENT), timeout=200)
            return run, [(message.topic, message.data) async for message in messages]
