"""Checks the figures of model calls, and writes those of many as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any, TypeGuard

from inngest_plugins.ai._errors import UsageValueError
from inngest_plugins.core import ModelCall, ModelUsage, class_name

_MOST_TOKENS = 2**31 - 1
"""A larger count is none: databases and programs in other languages could not hold it."""

_MOST_DOLLARS = Decimal(10) ** 18
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


def check_call(call: ModelCall, where: str) -> ModelCall:
    """Check the figures of a call that user code reported.

    Args:
        call: the call.
        where: who reported it, for the message.

    Raises:
        UsageValueError: a figure is no count, or a part is larger than its whole.
    """
    model: object = call.model
    if not isinstance(model, str) or not model:
        raise UsageValueError(f"{where}: model is the model's name, not {class_name(call.model)}")
    operation: object = call.operation
    if not isinstance(operation, str) or not operation:
        raise UsageValueError(f"{where}: operation is a text such as 'chat'")
    for name in ("provider", "response_model", "response_id"):
        check_name(getattr(call, name), f"{where}: {name}")
    for name in _COUNTS:
        value: object = getattr(call, name)
        if not is_count(value):
            if value is None and name in ("input_tokens", "output_tokens"):
                continue
            shown = value if type(value) is int else class_name(value)
            raise UsageValueError(f"{where}: {name} is a count of tokens from 0, not {shown}")
    cached = call.cache_read_tokens + call.cache_write_tokens
    if call.input_tokens is not None and cached > call.input_tokens:
        raise UsageValueError(
            f"{where}: cache_read_tokens and cache_write_tokens are {cached}, more than "
            f"input_tokens ({call.input_tokens}): input_tokens is the whole input with the cache's "
            "part. Anthropic's own input_tokens lacks it: add the three, or use "
            "usage.record_response(response)"
        )
    if call.output_tokens is not None and call.reasoning_tokens > call.output_tokens:
        raise UsageValueError(
            f"{where}: reasoning_tokens ({call.reasoning_tokens}) are more than output_tokens "
            f"({call.output_tokens}): output_tokens is the whole output with reasoning"
        )
    return call


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a value is a number of tokens that can be stored."""
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def check_name(value: object, what: str) -> None:
    """Check a text that may be missing.

    Raises:
        UsageValueError: it is none.
    """
    if value is not None and not isinstance(value, str):
        raise UsageValueError(f"{what} is a text or None, not {class_name(value)}")


def as_dollars(value: object, where: str) -> Decimal:
    """Return an amount of US dollars.

    Raises:
        UsageValueError: it is no finite amount from 0.
    """
    if isinstance(value, int | float | Decimal | str) and not isinstance(value, bool):
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal("NaN")
        if amount.is_finite() and 0 <= amount <= _MOST_DOLLARS:
            return amount
    raise UsageValueError(f"{where} is an amount of US dollars from 0, not {class_name(value)}")


def usage_to_json(usage: ModelUsage) -> dict[str, Any]:
    """Return the figures as JSON, without zeros. Amounts are strings, so they stay exact."""
    values = {field.name: getattr(usage, field.name) for field in fields(usage)}
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in values.items()
        if value
    }


def usage_from_json(encoded: Mapping[str, Any]) -> ModelUsage:
    """Read what `usage_to_json` wrote. Keys that another version added are ignored."""
    values: dict[str, Any] = {}
    for field in fields(ModelUsage):
        if field.name in encoded:
            raw = encoded[field.name]
            kind: Any = type(field.default)
            values[field.name] = tuple(map(str, raw)) if kind is tuple else kind(raw)
    return ModelUsage(**values)


def usage_as_numbers(usage: ModelUsage) -> dict[str, int | float]:
    """Return the figures as numbers, which the engine can add up; zeros only for `calls`."""
    numbers = {field.name: getattr(usage, field.name) for field in fields(usage)}
    return {
        name: float(value) if isinstance(value, Decimal) else value
        for name, value in numbers.items()
        if value and isinstance(value, int | Decimal)
    }
