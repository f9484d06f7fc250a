"""Where a span comes from: kept on its id, which reaches the span processor unchanged."""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol

from opentelemetry.sdk.trace import ReadableSpan

from inngest_plugins.otel.base.placement import Placement
from inngest_plugins.otel.base.start_times import Forward, StartTimes
from inngest_plugins.otel.replay.boundary import Point, Stretch


class RequestSpans(Protocol):
    """The ledger of a request, as the span processor sees it later.

    Attributes:
        attempt: the attempt that the request is.
    """

    attempt: int

    @property
    def placement(self) -> Placement | None:
        """Where the engine's own trace view shows the run; None if the engine did not say."""

    def ended(
        self, span: ReadableSpan, origin: Origin, starts: StartTimes, forward: Forward
    ) -> None:
        """Take a span that has just ended."""


class Scope(Enum):
    """Which part of the user's code started a span."""

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
        stretch: for the function's body, the code that started it.
        step_hash: for a step's handler, the engine's id of the step.
    """

    __slots__ = ("begun", "ledger", "scope", "step_hash", "stretch")

    def __init__(
        self,
        ledger: RequestSpans,
        scope: Scope,
        *,
        begun: Point | None = None,
        stretch: Stretch | None = None,
        step_hash: str | None = None,
    ) -> None:
        self.ledger = ledger
        self.scope = scope
        self.begun = begun
        self.stretch = stretch
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

    The id is the only part of a span that the tracing SDK takes from outside and passes to the span
    processor unchanged, also when the span ends in another thread or after the request. A table
    from ids to origins would need a clean-up, and could not distinguish two requests of one run in
    one process, whose replayed spans have the same ids.
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
