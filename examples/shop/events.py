"""The shop's events: one typed definition for those who send them and those who handle them."""

from __future__ import annotations

import pydantic

from inngest_plugins.validation import EventType

from .orders import Customer, Order


class EmailRequested(pydantic.BaseModel):
    """A message that somebody is to get."""

    order_id: str
    template: str
    customer: Customer


class Parcel(pydantic.BaseModel):
    """A parcel on its way."""

    order_id: str
    tracking: str


class InvoiceRequested(pydantic.BaseModel):
    """An invoice over some cents is due."""

    order_id: str
    cents: int = pydantic.Field(gt=0)


order_placed = EventType("shop/order.placed", Order)
invoice_requested = EventType("shop/invoice.requested", InvoiceRequested)
email_requested = EventType("shop/email.requested", EmailRequested)
parcel_handed_over = EventType("shop/parcel.handed-over", Parcel)
parcel_scanned = EventType("carrier/parcel.scanned", Parcel)

ALL = (order_placed, invoice_requested, email_requested, parcel_handed_over, parcel_scanned)
"""Every event of the shop, for the plugin that validates them."""
