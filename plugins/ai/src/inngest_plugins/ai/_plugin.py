"""`AIPlugin`: counts the model calls of runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import ClassVar

from inngest_plugins.core import (
    USAGE,
    USAGE_RECORDER,
    ArgumentError,
    Call,
    Layer,
    Outcome,
    Plugin,
    Step,
    class_name,
    require_extra,
)

from ._errors import BudgetError
from .budgets.budget import Budget
from .budgets.enforcement import ENFORCEMENT, Enforcement
from .calls.attempt import Attempt
from .calls.prices import Price, PriceFunction, Prices
from .sources.by_plugins import Recorder
from .totals.related_runs import RELATIVES, RelatedRuns, Relative
from .totals.run_usage import (
    ATTACHMENT,
    ATTEMPT,
    RUN_USAGE,
    RUNNING,
    RunUsage,
)
from .totals.unreported import Unreported


class AIPlugin(Plugin):
    """Counts the tokens and the money of model calls, exactly under replay and retries.

    Calls are reported by `usage.record(...)`, wrapped clients, spans, and plugins such as that of
    durable agents; each counts once. What a step used travels with its memoized result,
    so every later request knows the run's total on any worker. The engine gets the figures with
    each attempt's answer, failed attempts included.

    Args:
        budgets: what may be spent. Each is checked when the function reaches a step and before a
            model call. Once one is spent, `BudgetExceededError` is raised there.
        prices: the team's own prices by model name, or a function that prices a call; other models
            are looked up in the table of `genai-prices`. A model that is in neither has an unknown
            cost, not zero.
        totals_at: which other runs get what a run used: "parent", the one that invoked or
            deferred it, and "root", the first of such a chain. The plugins of all of these runs
            need the option.

    Raises:
        MissingExtraError: the extra `ai` is not installed.
        ArgumentError: `prices` are no prices, `budgets` no budgets, or `totals_at` names something
            else.
    """

    layer = Layer.CONTEXT
    fail_open = False
    name = "ai"
    one_per_list: ClassVar[bool] = True

    def __init__(
        self,
        *,
        budgets: Iterable[Budget] = (),
        prices: Mapping[str, Price] | PriceFunction | None = None,
        totals_at: Collection[Relative] = (),
    ) -> None:
        require_extra("ai", "genai_prices")
        self._prices = Prices(prices)
        if not isinstance(budgets, Iterable):
            raise ArgumentError(
                f"AIPlugin(budgets=...) is a list of Budgets, not {class_name(budgets)}"
            )
        self._budgets = tuple(budgets)
        for budget in self._budgets:
            if not isinstance(budget, Budget):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentError(
                    f"AIPlugin(budgets=...) holds a {class_name(budget)}: give Budgets"
                )
        is_no_list = isinstance(totals_at, str) or not isinstance(totals_at, Iterable)
        if is_no_list or any(one not in RELATIVES for one in totals_at):
            raise ArgumentError(
                f"AIPlugin(totals_at=...) holds 'parent', 'root' or both, not {totals_at!r}"
            )
        self._totals_at = tuple(totals_at)
        self._unreported = Unreported()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What may be spent."""
        return self._budgets

    # ------------------------------------------------------------ hooks

    def transform_input(self, call: Call) -> None:
        """Begin to collect the run's usage for this request."""
        related = RelatedRuns(call, self._totals_at)
        call[RUN_USAGE] = RunUsage(call, self._prices, self._unreported, related)
        call[USAGE] = call[RUN_USAGE].total()
        call[USAGE_RECORDER] = Recorder(call[RUN_USAGE])
        call[ENFORCEMENT] = Enforcement(self._budgets, call[RUN_USAGE])
        # The embedded engine may run one run inside a step of another: its calls are not that
        # step's.
        call.set_context(RUNNING, None)

    def step_reached(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Refuse a step that may call models when a budget is spent."""
        call[RUN_USAGE].spans.step_reached()
        if not self._budgets or step.op not in _SPENDING or step.status in ("memoized", "skipped"):
            return None
        return _in_worker_thread(call, call[ENFORCEMENT].check_step)

    def transform_memo(self, call: Call, step: Step) -> None:
        """Add what a memoized step used when it ran."""
        call[RUN_USAGE].add_stored(step.memo_attachment(ATTACHMENT))

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Send the ids of its parent and root along to an invoked or deferred run."""
        if self._totals_at and step.op in ("InvokeFunction", "DeferAdd"):
            call[RUN_USAGE].related.link(step)

    def around_step(self, call: Call, step: Step) -> AbstractContextManager[None]:
        """Count the model calls of the step's handler."""
        return _StepSession(step, call[RUN_USAGE].begin(step))

    def transform_output(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """Attach what the step used to its result."""
        state = call[RUN_USAGE]
        exceeded = _exceeded(outcome.error)
        if exceeded is not None:
            # Model clients wrap the budget's error in one of their own, which the engine would
            # retry.
            outcome.error = exceeded
        if outcome.step is None:
            state.ended = not outcome.will_retry
            return None
        attempt = outcome.step.get(ATTEMPT)
        if attempt is not None:
            state.end_step(attempt, outcome)
        return _in_worker_thread(call, call[ENFORCEMENT].settle)

    def before_response(self, call: Call) -> Awaitable[None] | None:
        """Send what was used outside of steps. Everything else leaves with the steps' answers."""
        state, enforcement = call[RUN_USAGE], call[ENFORCEMENT]
        updates = state.close()
        call[USAGE] = state.total()

        def report() -> None:
            enforcement.settle()
            if state.ended:
                enforcement.settle_body(state.recorded_in_body())
            for update in updates:
                update.send(call)

        return _in_worker_thread(call, report) if updates else None


_SPENDING = frozenset({"StepRun", "AIGateway", "InvokeFunction"})
"""Kinds of steps that may call models."""


def _in_worker_thread(call: Call, function: Callable[[], None]) -> Awaitable[None] | None:
    """Call a function that may wait for a network, in a worker thread where there is a loop."""
    if call.is_async and (call[ENFORCEMENT].uses_stores or function.__name__ == "report"):
        # Imported on first use: many programs never need it (see benchmarks/startup.py).
        import anyio.to_thread

        return anyio.to_thread.run_sync(function, abandon_on_cancel=True)
    function()
    return None


def _exceeded(error: BaseException | None) -> BudgetError | None:
    """Return the budget's error that caused an error, or None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BudgetError):
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


class _StepSession:
    """Makes the step's attempt the current one while the step's handler runs."""

    __slots__ = ("_attempt", "_step", "_token")

    def __init__(self, step: Step, attempt: Attempt) -> None:
        self._step = step
        self._attempt = attempt
        self._token: Token[Attempt | None] | None = None

    def __enter__(self) -> None:
        self._token = RUNNING.set(self._attempt)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            RUNNING.reset(self._token)
        used = self._attempt.usage()
        if used.calls:
            # For plugins further out, which put the figures on the step's span.
            self._step[USAGE] = used
