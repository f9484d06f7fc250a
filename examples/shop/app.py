"""The shop's functions: from an order to a parcel at the customer's, come what may.

Run it: ``inngest-plugins run path/to/shop/app.py --event @path/to/shop/order.json``.

========================  =====================================================================
``fulfil`` (async)        validate, charge (the provider fails once), then in parallel reserve,
                          label and notify; wait up to three days for the carrier; get an invoice
``invoice`` (sync)        numbers and writes the invoice; `fulfil` invokes it
``send-email`` (sync)     sends one mail; started by events
``carrier`` (sync)        pretends to be the carrier: scans the parcel some hours later
``fulfil`` on failure     gives the money back, frees the articles, tells the customer
========================  =====================================================================
"""

from __future__ import annotations

import datetime
import typing

import inngest

from .orders import Order
from .plugins import plugins
from .services import CardDeclinedError, carrier, payments, warehouse

client = inngest.Inngest(app_id="shop", middleware=[*plugins()])


class LostParcelError(inngest.NonRetriableError):
    """The carrier never saw the parcel."""


# ------------------------------------------------------------------ invoices


def next_invoice_number(order_id: str) -> str:
    """Number an invoice; the step makes sure that it happens once."""
    return f"INV-{datetime.date.today().year}-{order_id}"


def write_invoice(number: str, cents: int) -> dict[str, str]:
    """Write the invoice and return where it is."""
    return {"number": number, "file": f"invoices/{number}.pdf", "total": f"{cents / 100:.2f} EUR"}


@client.create_function(
    fn_id="invoice", trigger=inngest.TriggerEvent(event="shop/invoice.requested")
)
def invoice(ctx: inngest.ContextSync) -> dict[str, str]:
    number = ctx.step.run("number", next_invoice_number, str(ctx.event.data["order_id"]))
    cents = typing.cast("int", ctx.event.data["cents"])
    return ctx.step.run("write", write_invoice, number, cents)


# -------------------------------------------------------------------- e-mail


def deliver_mail(to: str, template: str) -> str:
    """Hand a mail to the mail server."""
    return f"{template} to {to.partition('@')[0][:1]}***"


@client.create_function(
    fn_id="send-email", trigger=inngest.TriggerEvent(event="shop/email.requested")
)
def send_email(ctx: inngest.ContextSync) -> str:
    customer = typing.cast("dict[str, str]", ctx.event.data["customer"])
    return ctx.step.run("deliver", deliver_mail, customer["email"], str(ctx.event.data["template"]))


def email(order_id: str, template: str, customer: object) -> inngest.Event:
    """The event that has a mail sent."""
    data = {"order_id": order_id, "template": template, "customer": customer}
    return inngest.Event(name="shop/email.requested", data=typing.cast("typing.Any", data))


# ------------------------------------------------------------------- carrier


@client.create_function(
    fn_id="carrier", trigger=inngest.TriggerEvent(event="shop/parcel.handed-over")
)
def carry(ctx: inngest.ContextSync) -> str:
    tracking = str(ctx.event.data["tracking"])
    ctx.step.sleep("on-the-road", datetime.timedelta(hours=9))
    if not carrier.arrives(tracking):
        return "lost"
    data: typing.Any = {"order_id": ctx.event.data["order_id"], "tracking": tracking}
    ctx.step.send_event("scan", inngest.Event(name="carrier/parcel.scanned", data=data))
    return "scanned"


# -------------------------------------------------------------------- orders


async def validate(order: Order) -> dict[str, int]:
    """Check what no schema can: that we sell it, and what it costs."""
    unknown = order.unknown_articles()
    if unknown:
        raise inngest.NonRetriableError(f"the shop does not sell {len(unknown)} of the articles")
    return {"cents": order.total(), "articles": sum(item.quantity for item in order.items)}


async def charge(order: Order, cents: int) -> str:
    """Charge the customer's card; a refused card is final, anything else is tried again."""
    try:
        return await payments.charge(order.payment.card_token, cents, key=order.order_id)
    except CardDeclinedError as error:
        raise inngest.NonRetriableError(str(error)) from error


async def compensate(ctx: inngest.Context) -> dict[str, object]:
    """Undo what a failed order left behind; Inngest starts it when `fulfil` has failed for good."""
    failed = typing.cast("dict[str, typing.Any]", ctx.event.data["event"])
    order = Order.model_validate(failed["data"])
    refund = await ctx.step.run("refund", payments.refund, order.order_id)
    await ctx.step.run("release", warehouse.release, order.order_id)
    apology = email(order.order_id, "order-failed", order.customer.model_dump())
    await ctx.step.send_event("apologise", apology)
    return {"order_id": order.order_id, "refund": refund}


@client.create_function(
    fn_id="fulfil",
    trigger=inngest.TriggerEvent(event="shop/order.placed"),
    retries=3,
    on_failure=compensate,
)
async def fulfil(ctx: inngest.Context) -> dict[str, object]:
    order = Order.model_validate(ctx.event.data)
    step = ctx.step

    price = await step.run("validate", validate, order)
    paid = await step.run("charge", charge, order, price["cents"])

    articles = {item.sku: item.quantity for item in order.items}
    confirmation = email(order.order_id, "order-confirmed", order.customer.model_dump())
    reservation, parcel, _ = await ctx.group.parallel(
        (
            lambda: step.run("reserve", warehouse.reserve, order.order_id, articles),
            lambda: step.run("label", carrier.label, order.order_id, order.customer.address),
            lambda: step.send_event("notify", confirmation),
        )
    )

    handed_over: typing.Any = {"order_id": order.order_id, "tracking": parcel}
    await step.send_event(
        "hand-over", inngest.Event(name="shop/parcel.handed-over", data=handed_over)
    )
    scanned = await step.wait_for_event(
        "carrier-scan",
        event="carrier/parcel.scanned",
        if_exp="event.data.order_id == async.data.order_id",
        timeout=datetime.timedelta(days=3),
    )
    if scanned is None:
        raise LostParcelError("the carrier has not seen the parcel for three days")

    document = await step.invoke(
        "invoice", function=invoice, data={"order_id": order.order_id, "cents": price["cents"]}
    )
    return {
        "order_id": order.order_id,
        "charge": paid,
        "reservation": reservation,
        "tracking": str(scanned.data["tracking"]),
        "invoice": document["number"],
    }


functions = [fulfil, invoice, send_email, carry]
