"""A Tornado app with one durable function: `python tornado_app.py`."""

from __future__ import annotations

import asyncio

import inngest
import inngest.tornado
import tornado.web
from pydantic import BaseModel

from inngest_plugins.validation import EventType, ValidationPlugin


class Order(BaseModel):
    """What a customer ordered."""

    id: str
    cents: int


order_placed = EventType("shop/order.placed", Order)
client = inngest.Inngest(app_id="shop", middleware=[ValidationPlugin(events=[order_placed])])


@client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
def fulfil(ctx: inngest.ContextSync) -> dict[str, int]:
    order = order_placed.parse(ctx.event)

    def charge() -> int:
        return order.cents

    return {"charged": ctx.step.run("charge", charge)}


class Orders(tornado.web.RequestHandler):
    """Takes orders."""

    async def post(self) -> None:
        """Send the event that starts a run."""
        order = Order.model_validate_json(self.request.body)
        (event_id,) = await client.send(order_placed.new(order))
        self.set_status(202)
        self.write({"event": event_id})


app = tornado.web.Application([("/orders", Orders)])
inngest.tornado.serve(app, client, [fulfil])


async def main() -> None:
    app.listen(8000)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
