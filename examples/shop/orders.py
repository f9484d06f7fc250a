"""What the shop sells and what an order looks like."""

from __future__ import annotations

import pydantic

PRICES = {"tea-sencha": 1290, "tea-assam": 990, "pot-iron": 5400}
"""Price in cents by article."""


class Item(pydantic.BaseModel):
    """One line of an order."""

    sku: str
    quantity: int = pydantic.Field(gt=0)


class Customer(pydantic.BaseModel):
    """Who ordered, and where it goes."""

    name: str
    email: str
    address: str


class Payment(pydantic.BaseModel):
    """How it is paid. The token stands for a card that the payment provider keeps."""

    card_token: str


class Order(pydantic.BaseModel):
    """The data of a ``shop/order.placed`` event."""

    order_id: str
    items: list[Item] = pydantic.Field(min_length=1)
    customer: Customer
    payment: Payment

    def total(self) -> int:
        """The price in cents."""
        return sum(PRICES[item.sku] * item.quantity for item in self.items)

    def unknown_articles(self) -> list[str]:
        """Articles that the shop does not sell."""
        return [item.sku for item in self.items if item.sku not in PRICES]
