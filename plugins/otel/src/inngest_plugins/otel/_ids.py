"""Trace and span ids that every request of a run derives alike."""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._ledger import Ledger
    from ._territory import Point


_SPAN_ID: Final = 8
_TRACE_ID: Final = 16
"""Sizes of ids, bytes."""


class Scope(Enum):
    """Which of the user's code started a span."""

    STEP = "step"
    """A step's handler, which runs once for each attempt and is never replayed."""
    BODY = "body"
    """The function's body, which every request replays."""


class Origin:
    """Where a span of user code comes from; travels with its id.

    Attributes:
        ledger: the request that started it.
        scope: which code of the request did.
        begun: for the function's body, where in it.
        step_hash: for a step's handler, the engine's id of the step.
    """

    __slots__ = ("begun", "ledger", "scope", "step_hash")

    def __init__(
        self,
        ledger: Ledger,
        scope: Scope,
        *,
        begun: Point | None = None,
        step_hash: str | None = None,
    ) -> None:
        self.ledger = ledger
        self.scope = scope
        self.begun = begun
        self.step_hash = step_hash


class OwnOrigin:
    """The origin of a span of the plugin itself, which is exported when it ends.

    It knows nothing of its request: metrics keep the ids of these spans in exemplars, for as long
    as they like.

    Attributes:
        keep_messages: whether the texts of exceptions may leave the process.
    """

    __slots__ = ("keep_messages",)

    def __init__(self, *, keep_messages: bool) -> None:
        self.keep_messages = keep_messages


class SpanId(int):
    """A span id that knows the span's origin.

    The id is the one thing of a span that the tracing SDK takes from outside and hands to the span
    processor unchanged, also when the span ends in another thread or after the request. A table
    from spans to origins would need to be cleaned up, and could not tell apart two requests of one
    run in one process, whose replayed spans have the same ids.
    """

    origin: Origin | OwnOrigin

    def __new__(cls, value: int, origin: Origin | OwnOrigin) -> SpanId:
        """Make the id `value` of a span from `origin`."""
        self = super().__new__(cls, value)
        self.origin = origin
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


_OWN: Final = {keep: OwnOrigin(keep_messages=keep) for keep in (False, True)}


def own_span_id(value: int, *, keep_messages: bool) -> SpanId:
    """Return the id `value` for a span of the plugin itself."""
    return SpanId(value, _OWN[keep_messages])


def origin_of(span_id: int) -> Origin | OwnOrigin | None:
    """Return the origin of a span of a run, None for any other span."""
    return span_id.origin if isinstance(span_id, SpanId) else None


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
