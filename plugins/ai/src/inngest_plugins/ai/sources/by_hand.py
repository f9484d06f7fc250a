"""`usage`: user code records model calls, and reads the totals of its run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from decimal import Decimal

from inngest_plugins.ai._errors import UsageContextError, UsageValueError
from inngest_plugins.ai.budgets.enforcement import ENFORCEMENT
from inngest_plugins.ai.calls.attempt import BY_HAND
from inngest_plugins.ai.calls.model_call import as_dollars, check_call, check_name
from inngest_plugins.ai.totals.run_usage import RUN_USAGE, RunUsage
from inngest_plugins.core import Call, ModelCall, ModelUsage, class_name

from .answers import Report


def current_run(asked_with: str) -> RunUsage:
    """Return the usage of the current run.

    Raises:
        UsageContextError: there is no run, or it has no plugin.
    """
    call = Call.current()
    if call is None:
        raise UsageContextError(
            f"{asked_with} was called outside of a run: call it in a function, a step or a hook; "
            "in a thread of your own, start it with contextvars.copy_context().run"
        )
    state = call.get(RUN_USAGE)
    if state is None:
        raise UsageContextError(
            f"{asked_with} was called in function {call.local_id!r}, whose client and function "
            "have no AIPlugin: add AIPlugin() to middleware=[...]"
        )
    return state


class RunUsageView:
    """Records and reads the model calls of the current run: `inngest_plugins.ai.usage`."""

    def record(
        self,
        *,
        model: str,
        input_tokens: int | None,
        output_tokens: int | None,
        provider: str | None = None,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        response_id: str | None = None,
        response_model: str | None = None,
        operation: str = "chat",
        cost_usd: Decimal | float | str | None = None,
    ) -> ModelCall:
        """Record one call to a model.

        In a step it belongs to the running attempt. In the function's body it counts once for the
        run, however often the body is replayed: report there what steps returned.

        Args:
            model: the requested model.
            input_tokens: all tokens of the input, those of the cache included; None when not
                known.
            output_tokens: all tokens of the output, reasoning included; None when not known.
            provider: who was asked, such as "openai"; it makes the price certain.
            cache_read_tokens: the part of the input that was read from the provider's cache.
            cache_write_tokens: the part of the input that was written to it.
            reasoning_tokens: the part of the output that was reasoning.
            response_id: the provider's id of the answer: what else reports this call has it too.
            response_model: the model that answered.
            operation: "chat", "embeddings", ...
            cost_usd: what the provider charged in US dollars, where it says so.

        Returns:
            The call, with its price where one is known.

        Raises:
            UsageContextError: there is no run, or it has no `AIPlugin`.
            UsageValueError: the figures cannot be right.
        """
        state = current_run("usage.record()")
        call = ModelCall(
            model=model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            reasoning_tokens=reasoning_tokens,
            provider=provider,
            response_model=response_model,
            response_id=response_id,
            operation=operation,
            cost_usd=None if cost_usd is None else as_dollars(cost_usd, "usage.record(cost_usd=)"),
        )
        return state.record(check_call(call, "usage.record()"), BY_HAND)

    def record_response(self, response: object, *, provider: str | None = None) -> ModelCall:
        """Record the call that a provider's answer belongs to.

        Each provider means something else by its counts; this knows OpenAI's, Anthropic's and
        Google's, and those of APIs that are made after them.

        Args:
            response: the answer, as an object of the provider's client or as decoded JSON.
            provider: who was asked, such as "openai"; it makes the price certain.

        Returns:
            The call, with its price where one is known.

        Raises:
            UsageContextError: there is no run, or it has no `AIPlugin`.
            UsageValueError: the answer says nothing of tokens or of a model, or `provider` is no
                text.
        """
        state = current_run("usage.record_response()")
        check_name(provider, "usage.record_response(): provider")
        report = Report(provider)
        dump = getattr(response, "model_dump", None)
        report.take(dump(by_alias=True) if callable(dump) else response)
        call = report.call()
        if call is None:
            raise UsageValueError(
                f"usage.record_response() found neither a model nor token counts in a "
                f"{class_name(response)}: use usage.record(...)"
            )
        return state.record(call, BY_HAND)

    def run_total(self) -> ModelUsage:
        """Return what the run has used so far, as far as this request knows it.

        That is every step that the function has reached, failed attempts included, and what the
        current code has used.

        Raises:
            UsageContextError: there is no run, or it has no `AIPlugin`.
        """
        return current_run("usage.run_total()").total()

    def step_total(self) -> ModelUsage:
        """Return what the running attempt of the current step has used so far.

        In the function's body: what this request has used outside of steps.

        Raises:
            UsageContextError: there is no run, or it has no `AIPlugin`.
        """
        return current_run("usage.step_total()").current().usage()

    def within_budget(self) -> AbstractAsyncContextManager[None]:
        """Hold the budgets' reservation during one call to a model that nothing else looks after.

        Example:
            ```python
            async with usage.within_budget():
                reply = await call_model(question)
                usage.record(model="m", input_tokens=reply.input, output_tokens=reply.output)
            ```

        Raises:
            BudgetExceededError: a budget is spent.
            BudgetDeferredError: the same, and the budget says to go on when its period is over.
            BudgetKeyError: the event has no value for a budget's key.
            BudgetStoreError: a budget's store could not be reached.
            UsageContextError: there is no run, or it has no `AIPlugin`.
        """
        return current_run("usage.within_budget()").call[ENFORCEMENT].call()

    def within_budget_sync(self) -> AbstractContextManager[None]:
        """See `within_budget`."""
        return current_run("usage.within_budget_sync()").call[ENFORCEMENT].call_sync()


usage = RunUsageView()
"""The model calls of the run that the current code belongs to."""
