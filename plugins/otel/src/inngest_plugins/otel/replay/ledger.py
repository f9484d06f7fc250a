"""Decides which spans of a request are exported, and when: the request's ledger."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import NamedTuple

import inngest
from opentelemetry.sdk.trace import ReadableSpan

from inngest_plugins.core import Call, CallKey, Step
from inngest_plugins.otel.base.attributes import ATTEMPT, START_ESTIMATED
from inngest_plugins.otel.base.ids import SpanIds, derived_span_id, derived_trace_id
from inngest_plugins.otel.base.placement import Placement
from inngest_plugins.otel.base.rewrite import context_of, rewritten, without_messages
from inngest_plugins.otel.base.start_times import Forward, StartTimes, started_ns
from inngest_plugins.otel.replay.boundary import Completion, Point, ReplayBoundary
from inngest_plugins.otel.replay.endings import (
    is_control_flow,
    is_letting_go,
    is_runtime_closing,
    watch_collector,
)
from inngest_plugins.otel.replay.origins import Origin, Scope, SpanId


class Verdict(Enum):
    """How a request ended, as far as it matters for spans of the function's body."""

    ADVANCED = auto()
    """The run goes on: a later request replays this code."""
    ENDED = auto()
    """The function returned, or failed for good."""
    FAILED_ATTEMPT = auto()
    """The function failed and will be tried again: its new code ran, and will run again."""
    REPEATED = auto()
    """A step failed and will be tried again, or the request broke off. The next request runs the
    body's new code again on its way to the same step."""


_FUNCTION_ENDED = frozenset({Verdict.ENDED, Verdict.FAILED_ATTEMPT})


class _Ended(NamedTuple):
    """A span of the body that ended without being cut off, awaiting the end of the request."""

    span: ReadableSpan
    origin: Origin
    point: Point
    after_step: bool
    error: BaseException | None
    starts: StartTimes
    forward: Forward


class Ledger:
    """Decides for every span of one request whether, when and as what it is exported.

    Args:
        call: the request.
        root_span_id: id of the span that the body's spans hang from; it differs between requests,
            so that derived ids must not depend on it.
        completion: reads the engine's order of completion off the request.
        keep_messages: whether the texts of exceptions may leave the process.
        trace_headers: the engine's trace headers, lower-case names.
        gathers: whether the spans of user code are collected for the engine's own trace view.
    """

    def __init__(
        self,
        call: Call,
        *,
        root_span_id: int,
        completion: Callable[[], Completion | None],
        keep_messages: bool,
        trace_headers: Mapping[str, str],
        gathers: bool,
    ) -> None:
        watch_collector()
        self.run_id = call.run_id
        self.attempt = call.attempt
        self._trace_headers = trace_headers
        self._gathers = gathers
        self._placed = False
        self._placement: Placement | None = None
        self.boundary = ReplayBoundary(call.consumed, completion)
        self.exported: list[ReadableSpan] = []
        """Spans of user code that this request exported, if they are to be collected."""
        self._targeted = call.target is not None
        self._root = root_span_id
        self._keep_messages = keep_messages
        self._step_ran = False
        self._pending: list[_Ended] = []
        self._cut_off: list[tuple[ReadableSpan, Point, StartTimes]] = []
        self._left: list[_Ended] = []
        self._siblings: dict[tuple[int, str], SpanIds] = {}
        self._detached = 0
        self._verdict: Verdict | None = None
        self._raised: BaseException | None = None
        self.in_body = False
        """Whether the function's code runs. What plugins do before and after is never replayed."""

    @property
    def placement(self) -> Placement | None:
        """Where the engine's own trace view shows the run; None if the engine did not say."""
        if not self._placed:
            self._placed = True
            self._placement = Placement.from_headers(self.run_id, self._trace_headers)
        return self._placement

    @property
    def closed(self) -> bool:
        """Whether the request is over."""
        return self._verdict is not None

    # ------------------------------------------------------------ ids

    def next_span_id(self, name: str, parent_id: int, *, step: Step | None) -> SpanId:
        """Return the id of a span that user code is starting.

        The id follows from the run, the parent's id, the name, and how many spans of that name the
        parent already has; so every request that replays the span gives it the same one.

        Args:
            name: the span's name.
            parent_id: id of its parent, 0 for none.
            step: the step whose handler is running, or None.
        """
        if parent_id == self._root:
            parent_id = 0
        key = (parent_id, name)
        siblings = self._siblings.get(key)
        if siblings is None:
            # A request that has ended no longer knows which ids it gave.
            late = ("late",) if self.closed else ()
            siblings = SpanIds(self.run_id, f"{parent_id:x}", name, *late)
            self._siblings[key] = siblings
        value = next(siblings)
        if step is not None:
            return SpanId(value, Origin(self, Scope.STEP, step_hash=step.hashed_id))
        begun, stretch = self.boundary.point(), self.boundary.stretch
        return SpanId(value, Origin(self, Scope.BODY, begun=begun, stretch=stretch))

    def next_trace_id(self) -> int:
        """Return the id of a trace that user code is starting, detached from the run's."""
        self._detached += 1
        return derived_trace_id(self.run_id, "detached", str(self._detached))

    # ------------------------------------------------------------ spans

    def step_ran(self, error: BaseException | None) -> None:
        """Note that a step's handler ran in this request.

        Args:
            error: what it raised.
        """
        self._step_ran = True
        if not issubclass(type(error), inngest.NonRetriableError | inngest.RetryAfterError):
            # The SDK raises these two in the function, and ends the request for all other errors.
            self.boundary.interrupt()

    def ended(
        self, span: ReadableSpan, origin: Origin, starts: StartTimes, forward: Forward
    ) -> None:
        """Take a span that has just ended.

        Args:
            span: the span.
            origin: where it comes from.
            starts: remembered start times.
            forward: exports it.
        """
        if origin.scope is Scope.STEP:
            self._export(span, forward)
            return
        error = sys.exc_info()[1]
        if is_control_flow(error):
            self._cut(span, origin, starts)
            return
        if self._is_abandoned(error, origin):
            self._abandoned(span, origin, starts, forward)
            return
        point = self.boundary.point()
        after_step = self._step_ran
        ended = _Ended(span, origin, point, after_step, error, starts, forward)
        if self._verdict is not None:
            # The span is of a task that outlived its request: there is nothing to wait for.
            self._pending = [ended]
            self._settle(self._verdict)
            return
        if self._pending and self._pending[-1].point.round < self.boundary.front:
            self._pending = [e for e in self._pending if e.error is not None]
        if point.round == self.boundary.front or error is not None:
            self._pending.append(ended)

    def _cut(self, span: ReadableSpan, origin: Origin, starts: StartTimes) -> None:
        """Take a span that ended only because this request did."""
        if origin.begun is None or self._targeted:
            return
        if not self.closed:
            self._cut_off.append((span, origin.begun, starts))
        elif self.boundary.is_new(origin.begun, ended=True):
            starts.remember(span)

    def _is_abandoned(self, error: BaseException | None, origin: Origin) -> bool:
        """Return whether a span ends only because Python discards the code that it is in.

        Where a step interrupts the function, its generators and objects are discarded with its
        frames. Where it goes on, the garbage collector and the event loop close them later, in each
        request at another place. Only the request in which the function ends knows that they were
        left for good.
        """
        started_in = origin.stretch
        interrupted = (
            not self.in_body
            or self.boundary.stretch.interrupted
            or (started_in is not None and started_in.interrupted)
        )
        return is_letting_go(error) if interrupted else is_runtime_closing(error)

    def _abandoned(
        self, span: ReadableSpan, origin: Origin, starts: StartTimes, forward: Forward
    ) -> None:
        if self._verdict is not None and self._verdict not in _FUNCTION_ENDED:
            self._cut(span, origin, starts)
            return
        left = _Ended(span, origin, self.boundary.point(), self._step_ran, None, starts, forward)
        if self._verdict is None:
            self._left.append(left)
        else:
            self._pending = [left]
            self._settle(self._verdict)

    def close(self, verdict: Verdict, raised: BaseException | None = None) -> None:
        """Export the spans that this request adds to the trace. Only the first call counts.

        Args:
            verdict: how the request ended.
            raised: the exception that the function ended with.
        """
        if self._verdict is not None:
            return
        self._verdict = verdict
        self._raised = raised
        if verdict is Verdict.FAILED_ATTEMPT and self._step_ran:
            self._verdict = Verdict.REPEATED
        left, self._left = self._left, []
        if self._verdict in _FUNCTION_ENDED:
            end = self.boundary.point()
            self._pending += [ended._replace(point=end) for ended in left]
        else:
            for ended in left:
                self._cut(ended.span, ended.origin, ended.starts)
        if self._pending or self._cut_off:
            self.boundary.point()
            self._settle(self._verdict)
        # Ids outlive the request, for instance in exemplars of the user's metrics. So keep only
        # what is needed to judge a span that ends late.
        self._raised = None
        self._siblings.clear()
        self.boundary.release()

    def _settle(self, verdict: Verdict) -> None:
        pending, self._pending = self._pending, []
        # An earlier request has seen these spans start, if it ran in this process.
        for span, begun, starts in self._cut_off:
            if self.boundary.is_new(begun, ended=True):
                starts.remember(span)
        self._cut_off.clear()
        if verdict is Verdict.REPEATED:
            return
        final = verdict is Verdict.ENDED
        new = [ended for ended in pending if self._is_new(ended, final=final)]
        if verdict is Verdict.FAILED_ATTEMPT:
            self._export_attempt(new)
            return
        for ended in new:
            self._export(self._with_true_start(ended), ended.forward)

    def _is_new(self, ended: _Ended, *, final: bool) -> bool:
        if final and ended.error is not None and ended.error is self._raised:
            return True
        further = ended.after_step if self._step_ran else final
        if self._targeted and not (further and self._verdict in _FUNCTION_ENDED):
            # The request that planned this step has been here. Only an error that the SDK lets out
            # of a step, such as NonRetriableError, takes the function further than that; or, in a
            # race, a target that has its result already, so that the function gets to its end.
            return False
        return self.boundary.is_new(ended.point, ended=final)

    def _export_attempt(self, new: list[_Ended]) -> None:
        """Export what a failed attempt of the function did, under ids of its own.

        Spans that began in an earlier request are left to the attempt that counts. Their children
        already refer to the id that they will have there.
        """
        own = [e for e in new if e.origin.begun is not None and self._began_here(e.origin.begun)]
        ids = {
            span_id: derived_span_id(self.run_id, "attempt", f"{span_id:x}", str(self.attempt))
            for span_id in (int(context_of(e.span).span_id) for e in own)
        }
        for ended in new:
            span_id = ids.get(int(context_of(ended.span).span_id))
            if span_id is None:
                continue
            parent = ended.span.parent
            span = rewritten(
                ended.span,
                span_id=SpanId(span_id, ended.origin),
                parent_id=ids.get(int(parent.span_id)) if parent is not None else None,
                attributes={ATTEMPT: self.attempt},
            )
            self._export(span, ended.forward)

    def _began_here(self, point: Point) -> bool:
        return self.boundary.is_new(point, ended=True)

    def _with_true_start(self, ended: _Ended) -> ReadableSpan:
        begun, span = ended.origin.begun, ended.span
        first = ended.starts.recall(span)
        if first is not None:
            if span.start_time is None or first < span.start_time:
                return rewritten(span, start_time=first)
            return span
        if begun is None or begun.round == ended.point.round:
            return span
        # Another process saw it start. If that was before the first step, the run's own start is
        # the best that is known; else nothing is, and the span is shorter than it should be.
        started = started_ns(self.run_id) if begun.round == 0 else None
        if started is not None and span.start_time is not None and started >= span.start_time:
            started = None
        return rewritten(span, start_time=started, attributes={START_ESTIMATED: True})

    def _export(self, span: ReadableSpan, forward: Forward) -> None:
        if not self._keep_messages:
            span = without_messages(span)
        if self._gathers and context_of(span).trace_flags.sampled and self.placement is not None:
            self.exported.append(span)
        forward(span)


LEDGER: CallKey[Ledger] = CallKey("otel.ledger")


def current_ledger() -> tuple[Ledger, Step | None] | None:
    """Return the ledger of the request whose function is running here.

    Returns:
        The ledger and the step whose handler is running, if one is; None outside of a run, in hooks
        before and after the function's code, and in tasks that have outlived their request, but
        for generators of the function that are closed that late.
    """
    call = Call.current()
    if call is None:
        return None
    ledger = call.get(LEDGER)
    if ledger is None:
        return None
    if not ledger.in_body and type(sys.exc_info()[1]) is not GeneratorExit:
        return None
    return ledger, call.step
