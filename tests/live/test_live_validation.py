"""Contracts on a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from pydantic import BaseModel

from inngest_plugins.validation import EventType, ValidationFailed, ValidationPlugin

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer

SECRET = "canary-4111-1111"


class Order(BaseModel):
    """The event's data."""

    id: str
    quantity: int = 1


order_placed = EventType("live-validation/order", Order)
# Of its own name: the server remembers apps, and would start that of the other test as well.
order_handed_over = EventType("live-validation/handed-over", Order)


def client_of(server: LiveServer, app_id: str, **options: Any) -> inngest.Inngest:
    """A client with the plugin; outgoing events are not checked, so that bad ones arrive."""
    options.setdefault("outgoing", False)
    return server.client(
        app_id, middleware=[ValidationPlugin([order_placed, order_handed_over], **options)]
    )


def test_live_validation_good_and_bad_events(live_server: LiveServer) -> None:
    """A good event is handled, coerced; a bad one fails its run at the first attempt."""
    client = client_of(live_server, "live-validation", coerce=True)
    attempts: list[int] = []

    @client.create_function(fn_id="fulfil", trigger=order_placed.trigger(), retries=3)
    async def fulfil(ctx: inngest.Context) -> Any:
        attempts.append(ctx.attempt)
        return dict(ctx.event.data)

    live_server.serve(client, [fulfil])
    run_id = live_server.start(client, inngest.Event(name=order_placed.name, data={"id": "a"}))
    good = live_server.ended(run_id)
    assert good["status"] == "COMPLETED"
    assert json.loads(good["output"]) == {"id": "a", "quantity": 1}
    attempts.clear()
    run_id = live_server.start(
        client, inngest.Event(name=order_placed.name, data={"id": "a", "quantity": SECRET})
    )
    bad = live_server.ended(run_id)
    assert bad["status"] == "FAILED"
    assert attempts == []
    assert "/quantity: int_parsing" in bad["output"]
    assert SECRET not in bad["output"]


def test_live_validation_wait_and_invoke(live_server: LiveServer) -> None:
    """The child of an invoke refuses bad data, and so does the caller when outgoing is checked."""
    client = client_of(live_server, "live-validation-invoke", outgoing=True)

    @client.create_function(fn_id="child", trigger=order_handed_over.trigger())
    async def child(ctx: inngest.Context) -> str:
        return order_handed_over.parse(ctx.event).id

    @client.create_function(
        fn_id="parent", trigger=inngest.TriggerEvent(event="live-validation/go")
    )
    async def parent(ctx: inngest.Context) -> Any:
        good = await ctx.step.invoke("good", function=child, data={"id": "x"})
        try:
            await ctx.step.invoke("bad", function=child, data={"quantity": SECRET})
        except ValidationFailed as failure:
            return [good, [error.pointer for error in failure.errors]]
        return None

    live_server.serve(client, [child, parent])
    run_id = live_server.start(client, inngest.Event(name="live-validation/go"))
    run = live_server.ended(run_id)
    assert run["status"] == "COMPLETED"
    assert json.loads(run["output"]) == ["x", ["/id", "/quantity"]]


def test_live_validation_refuses_to_send(live_server: LiveServer) -> None:
    """A bad event raises where it is sent and never arrives."""
    client = client_of(live_server, "live-validation-send", outgoing=True)
    with pytest.raises(ValidationFailed):
        client.send_sync(inngest.Event(name=order_placed.name, data={}))
