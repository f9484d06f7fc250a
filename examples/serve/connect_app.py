"""A worker that connects to the engine and needs no port: `python connect_app.py`."""

from __future__ import annotations

import asyncio

import inngest
from inngest.connect import connect
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


async def main() -> None:
    await connect([(client, [fulfil])]).start()


if __name__ == "__main__":
    asyncio.run(main())
