"""What the shop's events hold. The fields `customer` and `payment` leave the workers sealed."""

from __future__ import annotations

import pydantic

from inngest_plugins.realtime import Channel, Topic
from inngest_plugins.validation import EventType

PRICES = {"tea-sencha": 1290, "tea-assam": 990, "pot-iron": 5400}
"""Price in cents by article."""


class Customer(pydantic.BaseModel):
    """Who ordered."""

    name: str
    email: str


class Payment(pydantic.BaseModel):
    """The token of a card that the payment provider keeps."""

    card_token: str


class Order(pydantic.BaseModel):
    """The data of `shop/order.placed`."""

    order_id: str
    branch: str
    articles: dict[str, int] = pydantic.Field(min_length=1)
    customer: Customer
    payment: Payment

    def total(self) -> int:
        """The price in cents."""
        return sum(PRICES[sku] * quantity for sku, quantity in self.articles.items())


class InvoiceRequested(pydantic.BaseModel):
    """An invoice over some cents is due."""

    order_id: str
    branch: str
    cents: int


class Thanks(pydantic.BaseModel):
    """The message to the customer when everything is over."""

    order_id: str
    branch: str
    customer: Customer


class OrderChannel(Channel, name="order:{order_id}"):
    """Where a page can follow one order."""

    state = Topic(str, plaintext=True)  # "paid", "sent": nothing of the customer


order_placed = EventType("shop/order.placed", Order)
invoice_requested = EventType("shop/invoice.requested", InvoiceRequested)
ALL = (order_placed, invoice_requested)
