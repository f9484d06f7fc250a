"""A shop for many machines: `uvicorn examples.production.app:app`, as many as are needed.

`/api/inngest` is for the Inngest server, which signs its requests; `POST /orders` places an order;
`/runs/page` shows the runs to who has `SHOP_OPERATOR_TOKEN`; `/health` is for the load balancer.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import httpx
import inngest
import inngest.fast_api
from fastapi.security import HTTPBasic

from inngest_plugins.defer import defer, deferred_function
from inngest_plugins.fetch import DurableTransport
from inngest_plugins.injection import aget
from inngest_plugins.metadata import metadata
from inngest_plugins.mirror import Scope, SQLAlchemyStore, mirror_router
from inngest_plugins.realtime import publish

from . import events
from .orders import Orders
from .stack import plugins
from .writer import writer

orders = Orders(os.environ["SHOP_DATABASE"])
store = SQLAlchemyStore(os.environ["INNGEST_MIRROR_URL"])
client = inngest.Inngest(app_id="shop", middleware=[*plugins(orders, store)])


async def done(ctx: inngest.Context, step: str, order_id: str, value: str) -> str:
    """Do a step's work: here, write it into the shop's database."""
    database = await aget(Orders)
    return await database.write(ctx.run_id, step, order_id, value)


@client.create_function(fn_id="invoice", trigger=events.invoice_requested.trigger(), retries=10)
async def invoice(ctx: inngest.Context) -> str:
    wanted = events.invoice_requested.parse(ctx.event)
    return await ctx.step.run("number", done, ctx, "number", wanted.order_id, f"{wanted.cents} EUR")


thank = deferred_function(client, fn_id="thank", schema=events.Thanks, retries=10)


@thank
async def thank_customer(ctx: inngest.Context, thanks: events.Thanks) -> str:
    return await ctx.step.run("mail", done, ctx, "mail", thanks.order_id, "thanked")


# And not `on_failure=`: a handler of that kind has a single attempt, which a worker's death takes.
@client.create_function(
    fn_id="compensate",
    trigger=inngest.TriggerEvent(
        event="inngest/function.failed", expression="event.data.function_id == 'shop-fulfil'"
    ),
    retries=10,
)
async def compensate(ctx: inngest.Context) -> str:
    """Free what was set aside, when `fulfil` has failed for good."""
    failed: Any = ctx.event.data["event"]
    order = events.order_placed.parse(failed)
    return await ctx.step.run("release", done, ctx, "release", order.order_id, "released")


async def charge(order: events.Order) -> str:
    """Charge the card by a durable request: what was answered is never sent again."""
    async with httpx.AsyncClient(
        transport=DurableTransport(), base_url=os.environ["PAYMENTS_URL"]
    ) as http:
        paid = await http.post(
            "/charges",
            json={
                "order_id": order.order_id,
                "cents": order.total(),
                "card_token": order.payment.card_token,
            },
        )
    if paid.status_code == httpx.codes.PAYMENT_REQUIRED:
        raise inngest.NonRetriableError(f"the card of {order.customer.name} was refused")
    return str(paid.raise_for_status().json()["charge"])


@client.create_function(fn_id="fulfil", trigger=events.order_placed.trigger(), retries=10)
async def fulfil(ctx: inngest.Context) -> dict[str, object]:
    order = events.order_placed.parse(ctx.event)
    number, step = order.order_id, ctx.step
    channel = events.OrderChannel(order_id=number)

    await step.run("reserve", done, ctx, "reserve", number, ",".join(sorted(order.articles)))
    paid = await charge(order)
    metadata.set("state", "paid")
    await publish(channel.state, "paid")

    packed, label = await ctx.group.parallel(
        (
            lambda: step.run("pack", done, ctx, "pack", number, "packed"),
            lambda: step.run("label", done, ctx, "label", number, order.customer.name),
        )
    )
    letter = await writer.run(f"Thank {order.customer.name} for the order.")
    billed = await step.invoke(
        "invoice",
        function=invoice,
        data={"order_id": number, "branch": order.branch, "cents": order.total()},
    )
    thanks = events.Thanks(order_id=number, branch=order.branch, customer=order.customer)
    defer("thank", thank, thanks)
    metadata.set("state", "sent")
    await publish(channel.state, "sent")
    return {
        "order_id": number,
        "charge": paid,
        "packed": packed,
        "label": label,
        "letter": letter.output,
        "invoice": billed,
    }


functions: list[inngest.Function[Any]] = [fulfil, invoice, thank_customer, compensate]


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    yield
    await orders.close()
    await store.close()


app = fastapi.FastAPI(lifespan=lifespan)
inngest.fast_api.serve(app, client, functions)
basic = HTTPBasic()


async def authorise(request: fastapi.Request) -> Scope:
    """Operators see every branch. A product reads its session here, and returns `Scope(branch)`."""
    given = await basic(request)
    token = os.environ["SHOP_OPERATOR_TOKEN"]
    if given is None or not secrets.compare_digest(given.password.encode(), token.encode()):
        raise fastapi.HTTPException(401, "wrong token", {"WWW-Authenticate": "Basic"})
    return Scope.of_everything()


app.include_router(mirror_router(store, client=client, authorise=authorise), prefix="/runs")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "up"}


@app.post("/orders", status_code=202)
async def place(order: events.Order) -> dict[str, str]:
    (event_id,) = await client.send(events.order_placed.new(order))
    return {"event": event_id}
