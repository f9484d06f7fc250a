"""Budgets in one request: each is checked and reserved before a call, and settled after it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from inngest_plugins.ai._errors import (
    BudgetDeferredError,
    BudgetError,
    BudgetExceededError,
    BudgetStoreError,
)
from inngest_plugins.ai.totals.run_usage import RunUsage
from inngest_plugins.core import CallKey, ModelCall, ModelUsage, class_name, safe_text

from .budget import Budget
from .stores import Balance

_logger = logging.getLogger("inngest_plugins.ai")

ENFORCEMENT = CallKey["Enforcement"]("ai.enforcement")

_RESERVED_SECONDS = 900.0
"""Seconds after which the reservation of a killed worker lapses."""


@dataclass(frozen=True)
class _Reservation:
    budget: Budget
    account: str
    name: str


class Enforcement:
    """The budgets of the run that a request belongs to. Safe to use from several threads.

    Args:
        budgets: the budgets.
        state: what the request knows of the run's model calls.
        clock: the time in seconds.
    """

    def __init__(
        self, budgets: Sequence[Budget], state: RunUsage, clock: Callable[[], float] = time.time
    ) -> None:
        self._budgets = budgets
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        self._unsettled = ModelUsage()
        self._in_process: dict[str, tuple[Budget, int]] = {}
        self._raised = False
        self.uses_stores = any(budget.store is not None for budget in budgets)
        if self.uses_stores:
            state.on_call(self._spent)

    def _spent(self, call: ModelCall) -> None:
        with self._lock:
            self._unsettled += call.as_usage()

    # ------------------------------------------------------------ checks

    def check_step(self) -> None:
        """Raise at the first step after a budget is spent; the function may catch it and go on.

        Raises:
            BudgetError: see `reserve`.
        """
        if self._raised or self._state.call.handler_kind != "main":
            return
        try:
            self._release(self._reserve(estimate=False))
        except BudgetError:
            self._raised = True
            raise

    @contextmanager
    def call_sync(self) -> Iterator[None]:
        """Hold a reservation during one call to a model.

        Raises:
            BudgetExceededError: a budget is spent.
            BudgetDeferredError: the same, and the budget says to go on when its period is over.
            BudgetKeyError: it is not known whose budget it is.
            BudgetStoreError: a store could not be reached.
        """
        reservations = self._reserve(estimate=True)
        try:
            yield
        finally:
            self._release(reservations)

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """See `call_sync`."""
        if not self.uses_stores:
            with self.call_sync():
                yield
            return
        # Imported on first use: many programs never need it (see benchmarks/startup.py).
        import anyio.to_thread

        reservations = await anyio.to_thread.run_sync(lambda: self._reserve(estimate=True))
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._release, reservations)

    def _reserve(self, *, estimate: bool) -> list[_Reservation]:
        self.settle()
        made: list[_Reservation] = []
        try:
            for budget in self._budgets:
                amount = budget.in_units(budget.reserve, "reserve") if estimate else 0
                reservation = self._reserve_of(budget, amount)
                if reservation is not None:
                    made.append(reservation)
        except BaseException:
            self._release(made)
            raise
        return made

    def _reserve_of(self, budget: Budget, amount: int) -> _Reservation | None:
        name = uuid.uuid4().hex
        account = budget.account(self._state.call, self._clock())
        if budget.store is None:
            with self._lock:
                spent = budget.spent_by(self._state.total())
                # Calls of one step may run at the same time.
                held = (held for whose, held in self._in_process.values() if whose is budget)
                used = spent + sum(held)
                granted = used < budget.limit and used + amount <= budget.limit
                if granted:
                    self._in_process[name] = (budget, amount)
        else:
            with _reaching(budget):
                balance = budget.store.reserve(
                    account,
                    reservation=name,
                    amount=amount,
                    limit=budget.limit,
                    seconds=_RESERVED_SECONDS,
                )
            used, granted = _read(budget, balance)
        if granted:
            return _Reservation(budget, account, name)
        self._exceeded(budget, used, amount)
        return None

    def _exceeded(self, budget: Budget, used: int, amount: int) -> None:
        unit = "USD" if budget.tokens is None else "tokens"
        spent, limit = budget.from_units(used), budget.from_units(budget.limit)
        whose = f" for this value of {budget.key}" if isinstance(budget.key, str) else ""
        asked = f", and a call reserves {budget.from_units(amount)}" if amount else ""
        message = (
            f"budget {budget.name!r} of function {self._state.call.local_id!r} is exceeded{whose}: "
            f"{spent} of {limit} {unit} are spent or reserved{asked}. {self._state.price_sources()}"
        )
        error = BudgetExceededError(message, budget=budget.name, spent=spent, limit=limit)
        if budget.on_exceeded == "defer":
            end = budget.period_end(self._clock())
            raise BudgetDeferredError(
                f"{message} The engine tries again at {end:%Y-%m-%d %H:%M} UTC", end
            )
        if callable(budget.on_exceeded):
            budget.on_exceeded(error)
            return
        raise error

    # ------------------------------------------------------------ settling

    def settle(self) -> None:
        """Add to the stores what was spent since the last time.

        Raises:
            BudgetError: a store could not be reached. The next call settles what is missing.
        """
        if not self.uses_stores:
            return
        with self._lock:
            usage, self._unsettled = self._unsettled, ModelUsage()
        if not usage.calls:
            return
        self._tell(usage)

    def settle_body(self, usage: ModelUsage) -> None:
        """Add to the stores what the body reported by hand. Called once, when the run has ended."""
        if self.uses_stores and usage.calls:
            self._tell(usage)

    def _tell(self, usage: ModelUsage) -> None:
        for budget in self._budgets:
            if budget.store is not None:
                self._settle_with(budget, budget.account(self._state.call, self._clock()), usage)

    def _settle_with(self, budget: Budget, account: str, usage: ModelUsage) -> None:
        assert budget.store is not None  # noqa: S101 - the caller has looked
        spent = budget.spent_by(usage)
        try:
            with _reaching(budget):
                budget.store.settle(
                    account, spent=spent, reservations=(), seconds=budget.keep_seconds
                )
        except BudgetStoreError as err:
            # The call is paid for: a store that is down must not lose its answer.
            _logger.error(  # noqa: TRY400 - the cause was logged
                "run %s: %s %s of budget %r were not stored: %s",
                self._state.call.run_id,
                budget.from_units(spent),
                "USD" if budget.tokens is None else "tokens",
                budget.name,
                err,
            )

    def _release(self, reservations: Sequence[_Reservation]) -> None:
        self.settle()
        for reservation in reservations:
            budget = reservation.budget
            with self._lock:
                self._in_process.pop(reservation.name, None)
            if budget.store is None or not budget.in_units(budget.reserve, "reserve"):
                continue
            try:
                with _reaching(budget):
                    budget.store.settle(
                        reservation.account,
                        spent=0,
                        reservations=[reservation.name],
                        seconds=budget.keep_seconds,
                    )
            except BudgetStoreError as err:
                _logger.warning("%s. The reservation lapses in 15 minutes", err)


def _read(budget: Budget, balance: object) -> tuple[int, bool]:
    """Return what a store says is used, and whether it granted a reservation.

    Raises:
        BudgetStoreError: the store is one of the user's own, and gives something else.
    """
    if not isinstance(balance, Balance):
        raise BudgetStoreError(
            f"the store of budget {budget.name!r} ({class_name(budget.store)}) gives no Balance "
            f"from reserve(...), but {class_name(balance)}"
        )
    return balance.spent + balance.reserved, balance.granted


@contextmanager
def _reaching(budget: Budget) -> Iterator[None]:
    try:
        yield
    except BudgetError:
        raise
    except Exception as err:
        # A database's errors name hosts and values: they stay in this process.
        _logger.warning("budget %r: its store failed: %s", budget.name, safe_text(err))
        raise BudgetStoreError(
            f"the store of budget {budget.name!r} ({class_name(budget.store)}) could not be "
            f"reached: {class_name(err)}; this process's log says more"
        ) from None
