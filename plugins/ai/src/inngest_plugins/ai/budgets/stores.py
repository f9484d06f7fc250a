"""The protocol of a budget store, and a store in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Balance:
    """An account's state.

    Attributes:
        spent: what was spent, in the budget's smallest unit: tokens, or billionths of a US dollar.
        reserved: what calls under way have reserved.
        granted: whether the reservation was made.
    """

    spent: int
    reserved: int
    granted: bool = True


@runtime_checkable
class BudgetStore(Protocol):
    """Keeps accounts. Each method is atomic, also between processes and machines.

    Methods are called from several threads, and never in an event loop's.
    """

    def reserve(
        self, account: str, *, reservation: str, amount: int, limit: int, seconds: float
    ) -> Balance:
        """Reserve an amount, unless what is spent and reserved would exceed the limit.

        An account that is not known yet has spent nothing. Nothing is granted when the limit is
        reached already, also for an amount of 0; a reservation of 0 need not be kept.

        Args:
            account: the account.
            reservation: names the reservation.
            amount: how much.
            limit: the most that may be spent and reserved with it.
            seconds: after which the reservation lapses.
        """
        ...

    def settle(
        self, account: str, *, spent: int, reservations: Sequence[str], seconds: float
    ) -> None:
        """Add to what is spent, and give reservations back.

        Args:
            account: the account.
            spent: what is added; may be negative, to mend an account.
            reservations: those that end; unknown ones are ignored.
            seconds: for which the account has to be kept.
        """
        ...

    def balance(self, account: str) -> Balance:
        """Return an account's state."""
        ...


@runtime_checkable
class ListsAccounts(Protocol):
    """A store that can list its accounts, for `inngest-plugins ai budgets`."""

    def accounts(self) -> Iterable[str]:
        """Return the names of the accounts of periods that the store still keeps."""
        ...


def is_granted(*, used: int, amount: int, limit: int) -> bool:
    """Return whether an amount may be reserved, given what is spent and reserved."""
    return used < limit and used + amount <= limit


class MemoryBudgetStore:
    """A store in this process, for tests and for apps that are one process.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: dict[str, int] = {}
        self._reserved: dict[str, dict[str, tuple[int, float]]] = {}

    def reserve(
        self, account: str, *, reservation: str, amount: int, limit: int, seconds: float
    ) -> Balance:
        """See `BudgetStore.reserve`."""
        with self._lock:
            spent, reserved = self._spent.get(account, 0), self._valid(account)
            granted = is_granted(used=spent + reserved, amount=amount, limit=limit)
            if granted and amount:
                held = self._reserved.setdefault(account, {})
                held[reservation] = (amount, self._clock() + seconds)
            return Balance(spent, reserved, granted)

    def settle(
        self, account: str, *, spent: int, reservations: Sequence[str], seconds: float
    ) -> None:
        """See `BudgetStore.settle`."""
        with self._lock:
            self._spent[account] = self._spent.get(account, 0) + spent
            for reservation in reservations:
                self._reserved.get(account, {}).pop(reservation, None)

    def balance(self, account: str) -> Balance:
        """See `BudgetStore.balance`."""
        with self._lock:
            return Balance(self._spent.get(account, 0), self._valid(account))

    def accounts(self) -> list[str]:
        """Return the names of the accounts."""
        with self._lock:
            return sorted(self._spent.keys() | self._reserved.keys())

    def _valid(self, account: str) -> int:
        now = self._clock()
        held = self._reserved.get(account, {})
        for reservation in [name for name, (_, until) in held.items() if until <= now]:
            del held[reservation]
        return sum(amount for amount, _ in held.values())
