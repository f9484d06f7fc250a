"""Trace and span ids that every request of a run derives alike."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_SPAN_ID: Final = 8
_TRACE_ID: Final = 16
"""Sizes of ids, bytes."""


def derived_span_id(*seed: str) -> int:
    """Derive a span id from what it must depend on."""
    return _derived(_SPAN_ID, seed)


_MASK = 2**64 - 1
_STRIDE = 0x9E3779B97F4A7C15
"""Odd, so that the ids of 2**64 siblings differ; the golden ratio, so that they spread."""


class SpanIds:
    """The ids of spans that are told apart by their order.

    Args:
        *seed: what the ids must depend on besides.
    """

    __slots__ = ("_next",)

    def __init__(self, *seed: str) -> None:
        self._next = derived_span_id("span", *seed)

    def __next__(self) -> int:
        value = self._next
        self._next = (value + _STRIDE) & _MASK or 1
        return value


def derived_trace_id(*seed: str) -> int:
    """Derive a trace id from what it must depend on."""
    return _derived(_TRACE_ID, seed)


_HASHES: Final = {
    size: blake2b(digest_size=size, person=b"inngest-otel") for size in (_SPAN_ID, _TRACE_ID)
}
"""Never updated, only copied, which costs less than to make them anew."""


def _derived(size: int, seed: tuple[str, ...]) -> int:
    digest = _HASHES[size].copy()
    digest.update("\0".join(seed).encode())
    # All zeros is the one invalid id.
    return int.from_bytes(digest.digest(), "big") or 1
