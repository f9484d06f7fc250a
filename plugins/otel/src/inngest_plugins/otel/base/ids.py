"""Derives trace and span ids that are the same in every request of a run."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_SPAN_ID: Final = 8
_TRACE_ID: Final = 16
"""Sizes of ids, bytes."""


def derived_span_id(*seed: str) -> int:
    """Derive a span id from values."""
    return _derived(_SPAN_ID, seed)


_MASK = 2**64 - 1
_STRIDE = 0x9E3779B97F4A7C15
"""Odd, so that 2**64 siblings have different ids; the golden ratio, so that ids are spread."""


class SpanIds:
    """The ids of spans that differ only by their order.

    Args:
        *seed: further values that the ids depend on.
    """

    __slots__ = ("_next",)

    def __init__(self, *seed: str) -> None:
        self._next = derived_span_id("span", *seed)

    def __next__(self) -> int:
        value = self._next
        self._next = (value + _STRIDE) & _MASK or 1
        return value


def derived_trace_id(*seed: str) -> int:
    """Derive a trace id from values."""
    return _derived(_TRACE_ID, seed)


_HASHES: Final = {
    size: blake2b(digest_size=size, person=b"inngest-otel") for size in (_SPAN_ID, _TRACE_ID)
}
"""Never updated, only copied: that is faster than making new ones."""


def _derived(size: int, seed: tuple[str, ...]) -> int:
    digest = _HASHES[size].copy()
    digest.update("\0".join(seed).encode())
    # All zeros is the one invalid id.
    return int.from_bytes(digest.digest(), "big") or 1
