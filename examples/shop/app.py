"""The shop's functions: from an order to a parcel at the customer's, come what may.

Run it (with ``pip install "inngest-plugins[all]"``):
``inngest-plugins run path/to/shop/app.py --event @path/to/shop/order.json``.

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

from inngest_plugins.metadata import metadata

from . import events
from .orders import Customer, Order
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


@client.create_function(fn_id="invoice", trigger=events.invoice_requested.trigger())
def invoice(ctx: inngest.ContextSync) -> dict[str, str]:
    wanted = events.invoice_requested.parse(ctx.event)
    number = ctx.step.run("number", next_invoice_number, wanted.order_id)
    return ctx.step.run("write", write_invoice, number, wanted.cents)


# -------------------------------------------------------------------- e-mail


def deliver_mail(to: str, template: str) -> str:
    """Hand a mail to the mail server."""
    return f"{template} to {to.partition('@')[0][:1]}***"


@client.create_function(fn_id="send-email", trigger=events.email_requested.trigger())
def send_email(ctx: inngest.ContextSync) -> str:
    mail = events.email_requested.parse(ctx.event)
    return ctx.step.run("deliver", deliver_mail, mail.customer.email, mail.template)


def email(order_id: str, template: str, customer: Customer) -> inngest.Event:
    """The event that has a mail sent."""
    return events.email_requested.new(
        events.EmailRequested(order_id=order_id, template=template, customer=customer)
    )


# ------------------------------------------------------------------- carrier


@client.create_function(fn_id="carrier", trigger=events.parcel_handed_over.trigger())
def carry(ctx: inngest.ContextSync) -> str:
    parcel = events.parcel_handed_over.parse(ctx.event)
    ctx.step.sleep("on-the-road", datetime.timedelta(hours=9))
    if not carrier.arrives(parcel.tracking):
        return "lost"
    ctx.step.send_event("scan", events.parcel_scanned.new(parcel))
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
    order = events.order_placed.parse(failed)
    refund = await ctx.step.run("refund", payments.refund, order.order_id)
    await ctx.step.run("release", warehouse.release, order.order_id)
    await ctx.step.send_event("apologise", email(order.order_id, "order-failed", order.customer))
    return {"order_id": order.order_id, "refund": refund}


@client.create_function(
    fn_id="fulfil",
    trigger=events.order_placed.trigger(),
    retries=3,
    on_failure=compensate,
)
async def fulfil(ctx: inngest.Context) -> dict[str, object]:
    order = events.order_placed.parse(ctx.event)
    step = ctx.step

    price = await step.run("validate", validate, order)
    paid = await step.run("charge", charge, order, price["cents"])
    metadata.set("progress", "paid")

    articles = {item.sku: item.quantity for item in order.items}
    confirmation = email(order.order_id, "order-confirmed", order.customer)
    reservation, tracking, _ = await ctx.group.parallel(
        (
            lambda: step.run("reserve", warehouse.reserve, order.order_id, articles),
            lambda: step.run("label", carrier.label, order.order_id, order.customer.address),
            lambda: step.send_event("notify", confirmation),
        )
    )

    parcel = events.Parcel(order_id=order.order_id, tracking=str(tracking))
    await step.send_event("hand-over", events.parcel_handed_over.new(parcel))
    metadata.set("progress", "sent")
    scanned = await step.wait_for_event(
        "carrier-scan",
        event=events.parcel_scanned.name,
        if_exp="event.data.order_id == async.data.order_id",
        timeout=datetime.timedelta(days=3),
    )
    if scanned is None:
        raise LostParcelError("the carrier has not seen the parcel for three days")

    document = await step.invoke(
        "invoice", function=invoice, data={"order_id": order.order_id, "cents": price["cents"]}
    )
    metadata.set("progress", "done")
    return {
        "order_id": order.order_id,
        "charge": paid,
        "reservation": reservation,
        "tracking": parcel.tracking,
        "invoice": document["number"],
    }


functions = [fulfil, invoice, send_email, carry]
