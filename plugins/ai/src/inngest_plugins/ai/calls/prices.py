"""What a model call costs: the team's own prices first, then the table of `genai-prices`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TypeAlias

from inngest_plugins.core import ArgumentError, ModelCall, check_function, class_name

from .model_call import as_dollars

_MILLION = Decimal(1_000_000)

_PROVIDERS = {
    "aws.bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gen_ai": "google",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "google-gla": "google",
    "google-vertex": "google",
    "mistral_ai": "mistral",
    "xai": "x-ai",
    "x_ai": "x-ai",
}
"""OpenTelemetry's names of providers, as `genai-prices` calls them."""


@dataclass(frozen=True)
class Price:
    """What a model costs, in US dollars for a million tokens.

    Attributes:
        input: tokens of the input that are not of the cache.
        output: tokens of the output, reasoning included.
        cache_read: tokens read from the cache; as `input` when not given.
        cache_write: tokens written to the cache; as `input` when not given.

    Raises:
        UsageValueError: one is no amount of dollars.
    """

    input: Decimal | float | int | str
    output: Decimal | float | int | str
    cache_read: Decimal | float | int | str | None = None
    cache_write: Decimal | float | int | str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                as_dollars(value, f"Price({field.name}=...)")

    def cost(self, call: ModelCall) -> Decimal | None:
        """Return what a call costs; None when its tokens are not known."""
        if call.input_tokens is None or call.output_tokens is None:
            return None
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        # Some APIs report the cache's part beside the input, and not as a part of it.
        fresh = max(0, call.input_tokens - call.cache_read_tokens - call.cache_write_tokens)
        parts = (
            (fresh, self.input),
            (call.cache_read_tokens, read),
            (call.cache_write_tokens, write),
            (call.output_tokens, self.output),
        )
        return sum((count * Decimal(str(price)) for count, price in parts), Decimal(0)) / _MILLION


PriceFunction: TypeAlias = Callable[[ModelCall], Decimal | None]


class Prices:
    """Prices calls.

    Args:
        own: prices by model name, or a function that returns US dollars or None when it does not
            know; they go before the table.

    Raises:
        ArgumentError: it is neither.
    """

    def __init__(self, own: Mapping[str, Price] | PriceFunction | None) -> None:
        self._function: PriceFunction | None = None
        self._own: dict[str, Price] = {}
        if callable(own):
            check_function("AIPlugin(prices=...)", own, "a mapping or a function of the call")
            self._function = own
        elif isinstance(own, Mapping):
            for model, price in own.items():
                if not isinstance(price, Price):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise ArgumentError(
                        f"AIPlugin(prices=...)[{model!r}] is a Price, not {class_name(price)}"
                    )
            self._own = dict(own)
        elif own is not None:
            raise ArgumentError(
                "AIPlugin(prices=...) is a mapping of models to Price, or a function, "
                f"not {class_name(own)}"
            )

    def cost(self, call: ModelCall) -> tuple[Decimal | None, str]:
        """Return what a call costs in US dollars, or None, and where the price is from."""
        if call.cost_usd is not None:
            return call.cost_usd, "reported with the call"
        if self._function is not None:
            amount = self._function(call)
            if amount is not None:
                return as_dollars(amount, "what AIPlugin(prices=<function>) returned"), "prices="
        for model in (call.response_model, call.model):
            if model is not None and model in self._own:
                return self._own[model].cost(call), "prices="
        return _from_table(call), "genai-prices"


def _from_table(call: ModelCall) -> Decimal | None:
    from genai_prices import Usage, calc_price

    if call.input_tokens is None or call.output_tokens is None:
        return None
    usage = Usage(
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_tokens=call.cache_write_tokens,
    )
    provider = None if call.provider is None else _PROVIDERS.get(call.provider, call.provider)
    for model in (call.response_model, call.model):
        if model is None:
            continue
        try:
            return calc_price(usage, model, provider_id=provider).total_price
        except LookupError:
            continue
        except ValueError:
            return None
    return None
