"""A Flask app with one durable function: `flask --app flask_app run --port 8000`."""

from __future__ import annotations

import flask
import inngest
import inngest.flask
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


app = flask.Flask(__name__)
inngest.flask.serve(app, client, [fulfil])


@app.post("/orders")
def place() -> tuple[dict[str, str], int]:
    order = Order.model_validate(flask.request.get_json())
    (event_id,) = client.send_sync(order_placed.new(order))
    return {"event": event_id}, 202
