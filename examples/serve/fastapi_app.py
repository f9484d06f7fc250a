"""A FastAPI app with one durable function: `uvicorn fastapi_app:app`."""

from __future__ import annotations

import fastapi
import inngest
import inngest.fast_api
from pydantic import BaseModel

from inngest_plugins.validation import EventType, ValidationPlugin


class Order(BaseModel):
    """What a customer ordered."""

    id: str
    cents: int


order_placed = EventType("shop/order.placed", Order)
client = inngest.Inngest(app_id="shop", middleware=[ValidationPlugin(events=[order_placed])])


@client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
async def fulfil(ctx: inngest.Context) -> dict[str, int]:
    order = order_placed.parse(ctx.event)

    async def charge() -> int:
        return order.cents

    return {"charged": await ctx.step.run("charge", charge)}


app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [fulfil])


@app.post("/orders", status_code=202)
async def place(order: Order) -> dict[str, str]:
    (event_id,) = await client.send(order_placed.new(order))
    return {"event": event_id}
