"""What model calls used: the figures that plugins share, and how one tells another of a call."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Protocol

from inngest_plugins.core.base.keys import CallKey


@dataclass(frozen=True)
class ModelUsage:
    """What a number of calls to language models used.

    Attributes:
        calls: how many calls.
        input_tokens: all tokens of the input, those of the provider's cache included.
        output_tokens: all tokens of the output, reasoning included.
        cache_read_tokens: the part of the input that was read from the provider's cache.
        cache_write_tokens: the part of the input that was written to it.
        reasoning_tokens: the part of the output that was reasoning.
        cost_usd: US dollars, of the calls whose price is known.
        unpriced_calls: calls whose price is not known; `cost_usd` lacks them.
        uncounted_calls: calls whose tokens are not known, wholly or in part.
        failed_calls: calls made in attempts of steps that failed. They are in all the figures.
        failed_tokens: input and output tokens of these.
        failed_cost_usd: US dollars of these.
        models: the models that were asked, each once, in the order of first use.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced_calls: int = 0
    uncounted_calls: int = 0
    failed_calls: int = 0
    failed_tokens: int = 0
    failed_cost_usd: Decimal = Decimal(0)
    models: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: ModelUsage) -> ModelUsage:
        added: dict[str, Any] = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        added["models"] = tuple(dict.fromkeys(added["models"]))
        return ModelUsage(**added)


@dataclass(frozen=True)
class ModelCall:
    """One call to a model. Holds figures and names, and nothing of the prompt or the answer.

    Attributes:
        model: the model that was asked.
        input_tokens: all tokens of the input, those of the cache included; None when not known.
        output_tokens: all tokens of the output, reasoning included; None when not known.
        cache_read_tokens: the part of the input that was read from the provider's cache.
        cache_write_tokens: the part of the input that was written to it.
        reasoning_tokens: the part of the output that was reasoning.
        provider: who was asked, such as "openai" or "anthropic".
        response_model: the model that answered, where it says so.
        response_id: the provider's id of the answer.
        operation: "chat", "embeddings", ...
        cost_usd: US dollars; None when not known.
    """

    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    provider: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    operation: str = "chat"
    cost_usd: Decimal | None = None

    def as_usage(self) -> ModelUsage:
        """Return the call's figures as a sum of one."""
        return ModelUsage(
            calls=1,
            input_tokens=self.input_tokens or 0,
            output_tokens=self.output_tokens or 0,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens,
            cost_usd=self.cost_usd or Decimal(0),
            unpriced_calls=int(self.cost_usd is None),
            uncounted_calls=int(self.input_tokens is None or self.output_tokens is None),
            models=(self.model,),
        )

    def filled_from(self, other: ModelCall) -> ModelCall:
        """Return this call with what only `other`, a report of the same call, knows."""
        known = {
            field.name: getattr(other, field.name)
            for field in fields(self)
            if getattr(self, field.name) in (None, 0) and getattr(other, field.name) is not None
        }
        return replace(self, **known)


USAGE = CallKey[ModelUsage]("core.usage")
"""Where a plugin that counts model calls keeps the figures, for others to read: on the call those
of the run as far as this request knows them, on a step those of its running attempt."""


class UsageRecorder(Protocol):
    """Takes the model calls that other plugins make, for a plugin that counts them.

    One is at `call[USAGE_RECORDER]`.
    """

    def record(self, call: ModelCall) -> None:
        """Count a call, in the step that the current code belongs to.

        To be called once for each answer, right after it, and when a stream ends or is broken off.
        Other reports of the call in the same step, such as its span, count nothing more. It never
        raises.

        Args:
            call: what is known of the call; `cost_usd` only if the provider told it.
        """
        ...

    def recorded(self, call: ModelCall) -> None:
        """Say, in the function's body, that a step has counted a call.

        To be called when the body has the step's result, also when that was read from the memo.
        The spans that are open around the step, and what else reports the call in the body, then
        count nothing more.

        Args:
            call: the call, with the same `response_id`, or the same model and token counts.
        """
        ...


USAGE_RECORDER = CallKey[UsageRecorder]("core.usage_recorder")
"""Where a plugin that counts model calls takes those that others make: on the call, from
`transform_input` on. Use `call.get(USAGE_RECORDER)`: there may be no such plugin."""
