"""The errors of this plugin: wrong figures, and budgets."""

from __future__ import annotations

from decimal import Decimal

import inngest

from inngest_plugins.core import PluginsError


class AIError(PluginsError):
    """Base of everything this plugin raises."""


class UsageContextError(AIError, RuntimeError):
    """`usage` was used outside of a run, or where no `AIPlugin` is registered."""


class UsageValueError(AIError, ValueError):
    """The figures of a model call cannot be right."""


class BudgetError(AIError):
    """Base of what budgets raise."""


class BudgetExceededError(BudgetError, inngest.NonRetriableError):
    """A budget is spent: the next model call is not made. Trying again would not help.

    Attributes:
        budget: the budget's name.
        spent: what was spent and is reserved, in tokens or US dollars.
        limit: the budget, in the same unit.
    """

    def __init__(self, message: str, *, budget: str, spent: Decimal, limit: Decimal) -> None:
        super().__init__(message)
        self.budget = budget
        self.spent = spent
        self.limit = limit


class BudgetDeferredError(BudgetError, inngest.RetryAfterError):
    """A budget is spent, and the function goes on when its period is over."""


class BudgetKeyError(BudgetError, inngest.NonRetriableError):
    """The event has no value for a budget's key: it is not known whose money would be spent."""


class BudgetStoreError(BudgetError):
    """A budget's store could not be reached, or gives no balance. The engine tries again."""
