"""Tokens, cost and budgets of model calls, exact under replay and retries."""

from inngest_plugins.core import ModelCall, ModelUsage, require_calls

from ._errors import (
    AIError,
    BudgetDeferredError,
    BudgetError,
    BudgetExceededError,
    BudgetKeyError,
    BudgetStoreError,
    UsageContextError,
    UsageValueError,
)
from ._plugin import AIPlugin
from .budgets.budget import Budget
from .budgets.redis_store import RedisBudgetStore
from .budgets.sql_store import SQLAlchemyBudgetStore
from .budgets.stores import Balance, BudgetStore, MemoryBudgetStore
from .calls.prices import Price
from .sources.by_hand import usage
from .sources.instrument import instrument

# An app that forgot the plugin gets an error that says so, also when it has no other plugin.
require_calls("inngest_plugins.ai")

__all__ = [
    "AIError",
    "AIPlugin",
    "Balance",
    "Budget",
    "BudgetDeferredError",
    "BudgetError",
    "BudgetExceededError",
    "BudgetKeyError",
    "BudgetStore",
    "BudgetStoreError",
    "MemoryBudgetStore",
    "ModelCall",
    "ModelUsage",
    "Price",
    "RedisBudgetStore",
    "SQLAlchemyBudgetStore",
    "UsageContextError",
    "UsageValueError",
    "instrument",
    "usage",
]
