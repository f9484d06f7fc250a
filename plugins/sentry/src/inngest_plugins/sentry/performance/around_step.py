"""Context managers around a step's handler: they see what it raises, and hold its span open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import sentry_sdk

from inngest_plugins.core import USAGE, ModelUsage, Step

Raised = Callable[[Step, BaseException], None]
"""Gets a step and what its handler raised."""


class AroundStep:
    """Sees what the handler raises. It is a class: a generator would add a frame to the traceback.

    Args:
        step: the step.
        raised: called with an exception of the handler.
    """

    def __init__(self, step: Step, raised: Raised) -> None:
        self._step = step
        self._raised = raised

    def __enter__(self) -> None:
        """Do nothing before the step."""

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, Exception):
            self._raised(self._step, exc)


class AroundTracedStep(AroundStep):
    """The same with the step's span, in a scope of its own: steps may run side by side.

    Args:
        step: the step.
        raised: called with an exception of the handler.
        make_span: makes the span; called in the scope that it is to be active in.
    """

    def __init__(
        self, step: Step, raised: Raised, make_span: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__(step, raised)
        self._make_span = make_span
        self._scope: AbstractContextManager[Any] | None = None
        self._span: Any = None

    def __enter__(self) -> None:
        scope = sentry_sdk.new_scope()
        scope.__enter__()
        self._scope = scope
        # Made only now: a span is active in the scope in which it is made.
        span = self._make_span()
        span.__enter__()
        self._span = span

    def __exit__(self, *exception: Any) -> None:
        if self._span is not None:
            used = self._step.get(USAGE)
            if used is not None:
                for name, value in usage_data(used).items():
                    self._span.set_data(name, value)
            self._span.__exit__(*exception)
        if self._scope is not None:
            # End without the exception, which a generator would raise again.
            self._scope.__exit__(None, None, None)
        super().__exit__(*exception)


def usage_data(used: ModelUsage) -> dict[str, Any]:
    """Return what model calls used, under the names of Sentry's conventions for AI.

    Sentry adds up spans whose operation begins with `gen_ai.`; a step's does not, so that calls
    which an integration of Sentry has made spans of count once.
    """
    data: dict[str, Any] = {
        "gen_ai.usage.input_tokens": used.input_tokens,
        "gen_ai.usage.input_tokens.cached": used.cache_read_tokens,
        "gen_ai.usage.input_tokens.cache_write": used.cache_write_tokens,
        "gen_ai.usage.output_tokens": used.output_tokens,
        "gen_ai.usage.output_tokens.reasoning": used.reasoning_tokens,
        "gen_ai.usage.total_tokens": used.tokens,
    }
    if used.models:
        data["gen_ai.request.model"] = ", ".join(used.models)
    if used.unpriced_calls < used.calls:
        # The name speaks of tokens, but Sentry expects US dollars.
        data["gen_ai.cost.total_tokens"] = float(used.cost_usd)
    return data
