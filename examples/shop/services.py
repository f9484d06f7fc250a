"""The outside world of the shop: payment provider, warehouse, carrier and mail, all pretended.

They answer the same way every time, so that the demo tells the same story on every machine: the
payment provider loses the first connection for each order and then works, the card
``tok_declined`` is refused, and the carrier loses parcels whose label says so.
"""

from __future__ import annotations

import hashlib
import typing


class PaymentUnavailableError(Exception):
    """The provider did not answer: trying again is right."""


class CardDeclinedError(Exception):
    """The bank refused the card: trying again is pointless."""


class PaymentProvider:
    """Charges cards, at most once for each idempotency key."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._charges: dict[str, str] = {}

    async def charge(self, token: str, cents: int, *, key: str) -> str:
        """Charge a card and return the id of the charge."""
        if token == "tok_declined":  # noqa: S105 - not a secret, a name
            raise CardDeclinedError("the bank refused the card")
        if key not in self._asked:
            self._asked.add(key)
            raise PaymentUnavailableError("connection to the payment provider lost")
        self._charges[key] = _reference("ch", f"{key}/{cents}")
        return self._charges[key]

    async def refund(self, key: str) -> str | None:
        """Give back what was charged under a key; None when nothing was."""
        paid = self._charges.pop(key, None)
        return None if paid is None else _reference("re", paid)


class Warehouse:
    """Sets articles aside."""

    async def reserve(self, order_id: str, articles: dict[str, int]) -> str:
        """Set articles aside for an order and return the id of the reservation."""
        return _reference("res", f"{order_id}/{sorted(articles.items())}")

    async def release(self, order_id: str) -> None:
        """Put back whatever is set aside for an order."""
        del order_id


class Carrier:
    """Prints labels and knows where parcels are."""

    async def label(self, order_id: str, address: str) -> str:
        """Print a label and return the parcel's tracking number."""
        lost = "LOST-" if "nowhere" in address.lower() else ""
        return lost + _reference("trk", order_id).upper()

    def arrives(self, tracking: str) -> bool:
        """Whether the parcel ever gets to the depot."""
        return not tracking.startswith("LOST-")


def _reference(prefix: str, of: str) -> str:
    return f"{prefix}_{hashlib.sha256(of.encode()).hexdigest()[:8]}"


payments: typing.Final = PaymentProvider()
warehouse: typing.Final = Warehouse()
carrier: typing.Final = Carrier()
