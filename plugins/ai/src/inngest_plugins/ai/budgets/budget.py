"""A budget: how much may be spent, by whom, in which period."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from inngest_plugins.ai._errors import BudgetExceededError, BudgetKeyError
from inngest_plugins.ai.calls.model_call import as_dollars
from inngest_plugins.core import ArgumentError, Call, ModelUsage, check_function, class_name

from .stores import BudgetStore

Period: TypeAlias = Literal["run", "hour", "day", "month"]
OnExceeded: TypeAlias = Literal["fail", "defer"] | Callable[[BudgetExceededError], None]

_FORMATS: dict[str, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
_SECONDS: dict[str, int] = {"run": 2_592_000, "hour": 3600, "day": 86_400, "month": 2_678_400}
_NANO = 1_000_000_000


@dataclass(frozen=True)
class Budget:
    """How much model calls may cost.

    Attributes:
        usd: US dollars. Either this or `tokens`.
        tokens: input and output tokens.
        per: "run", or the calendar's "hour", "day" or "month" in UTC.
        key: whose budget it is: a path into the event such as "event.data.tenant", or a function
            of the `Call` that returns a string. Each value has a budget of its own. None: all runs
            share one. Where the function finds no value (`LookupError`, `AttributeError` or
            `TypeError`), the run fails; what else it raises fails the attempt.
        store: keeps what was spent; needed unless `per` is "run".
        reserve: an upper estimate of what one call costs, in the budget's unit. It is reserved
            before a call and settled after it, so calls at the same time cannot exceed the budget
            together. 0: calls that are under way when the budget is spent still end.
        on_exceeded: "fail" raises `BudgetExceededError`; "defer" has the engine try again when the
            period is over; a function is called with the error and may raise or let the call be.
        name: for messages and the store; by default made of the other fields.

    Raises:
        ArgumentError: a field has the wrong type, or the fields do not go together.
    """

    usd: Decimal | float | int | str | None = None
    tokens: int | None = None
    per: Period = "run"
    key: str | Callable[[Call], str] | None = None
    store: BudgetStore | None = None
    reserve: Decimal | float | int | str = 0
    on_exceeded: OnExceeded = "fail"
    name: str = ""

    def __post_init__(self) -> None:
        if (self.usd is None) == (self.tokens is None):
            raise ArgumentError("Budget(...) takes either usd= or tokens=")
        tokens: object = self.tokens
        if tokens is not None and (type(tokens) is not int or tokens < 0):
            raise ArgumentError(f"Budget(tokens=...) is a count from 0, not {class_name(tokens)}")
        if self.per not in tuple(_SECONDS):
            raise ArgumentError(
                f"Budget(per=...) is one of {', '.join(_SECONDS)}, not {self.per!r}"
            )
        if self.per == "run" and self.key is not None:
            raise ArgumentError("Budget(per='run') is one run's: it takes no key=")
        if self.per != "run" and self.store is None:
            raise ArgumentError(
                f"Budget(per={self.per!r}) is shared by runs on all workers: give it a store=, "
                "such as RedisBudgetStore or SQLAlchemyBudgetStore"
            )
        self._check_key()
        is_class = isinstance(self.store, type)
        if self.store is not None and (is_class or not isinstance(self.store, BudgetStore)):
            raise ArgumentError(f"Budget(store=...) is a BudgetStore, not {class_name(self.store)}")
        self._check_sync()
        if self.on_exceeded not in ("fail", "defer") and not callable(self.on_exceeded):
            raise ArgumentError("Budget(on_exceeded=...) is 'fail', 'defer' or a function")
        if self.on_exceeded == "defer" and self.per == "run":
            raise ArgumentError(
                "Budget(per='run') has no later period: on_exceeded='defer' never ends"
            )
        if not self.name:
            object.__setattr__(self, "name", self._default_name())
        _ = self.limit, self.in_units(self.reserve, "reserve")

    def _check_sync(self) -> None:
        """Refuse what nobody would await, so that no reservation and no decision came of it."""
        for name, function in (("key", self.key), ("on_exceeded", self.on_exceeded)):
            if callable(function):
                check_function(f"Budget({name}=...)", function)
        for name in ("reserve", "settle", "balance") if self.store is not None else ():
            called = getattr(self.store, name)
            check_function(f"Budget(store=...): its {name}()", called, "called in worker threads")

    def _check_key(self) -> None:
        key: object = self.key
        if key is None or callable(key):
            return
        if not isinstance(key, str):
            raise ArgumentError(f"Budget(key=...) is a path or a function, not {class_name(key)}")
        if key != "event.name" and not key.startswith("event.data."):
            raise ArgumentError(
                f"Budget(key={key!r}) is no path into the event, such as 'event.data.tenant'"
            )

    def _default_name(self) -> str:
        what = f"{self.tokens} tokens" if self.usd is None else f"{self.usd} USD"
        whose = f" by {self.key}" if isinstance(self.key, str) else ""
        return f"{what} per {self.per}{whose}"

    @property
    def limit(self) -> int:
        """The budget in the store's unit: tokens, or billionths of a US dollar."""
        return self.in_units(self.tokens if self.usd is None else self.usd, "usd")

    @property
    def keep_seconds(self) -> float:
        """For how long the store has to keep an account."""
        return _SECONDS[self.per] + _SECONDS["day"]

    def in_units(self, amount: object, field: str) -> int:
        """Return an amount of the budget in the store's unit, rounded up."""
        number = as_dollars(amount, f"Budget({field}=...)")
        return math.ceil(number if self.usd is None else number * _NANO)

    def from_units(self, units: int) -> Decimal:
        """Return an amount of the store in the budget's unit."""
        return Decimal(units) if self.usd is None else Decimal(units) / _NANO

    def spent_by(self, usage: ModelUsage) -> int:
        """Return what model calls take of this budget, in the store's unit."""
        return usage.tokens if self.usd is None else math.ceil(usage.cost_usd * _NANO)

    def account(self, call: Call, at: float) -> str:
        """Return the store's name of the account that a run spends from.

        Args:
            call: a request of the run.
            at: the time, in seconds since the epoch.

        Raises:
            BudgetKeyError: the event has no value for the key.
        """
        if self.per == "run":
            return f"{self.name}/run/{call.run_id}"
        return self.account_of(None if self.key is None else self._value(call), at)

    def account_of(self, key: str | None, at: float) -> str:
        """Return the store's name of an account, to look at it or to mend it.

        Args:
            key: the key's value, or None for a budget without a key.
            at: a time in the period, in seconds since the epoch.
        """
        start = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        whose = "all" if key is None else f"key={key}"
        return f"{self.name}/{start.strftime(_FORMATS[self.per])}/{whose}"

    def period_end(self, at: float) -> datetime.datetime:
        """Return when the period of a time ends."""
        start = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        start = start.replace(minute=0, second=0, microsecond=0)
        if self.per == "hour":
            return start + datetime.timedelta(hours=1)
        start = start.replace(hour=0)
        if self.per == "day":
            return start + datetime.timedelta(days=1)
        return (start.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)

    def _value(self, call: Call) -> str:
        if callable(self.key):
            try:
                value: Any = self.key(call)
            except (LookupError, AttributeError, TypeError) as err:
                raise BudgetKeyError(
                    f"budget {self.name!r} of function {call.local_id!r}: its key function found "
                    f"no value: {class_name(err)}"
                ) from err
        else:
            path = str(self.key).split(".")
            value = {"event": {"data": call.event.data, "name": call.event.name}}
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if type(value) is int:
            value = str(value)
        if not isinstance(value, str) or not value:
            raise BudgetKeyError(
                f"budget {self.name!r} of function {call.local_id!r}: its key "
                f"{self.key if isinstance(self.key, str) else '(a function)'} gives "
                f"{class_name(value)}, and has to give a non-empty string or an int"
            )
        return value
