"""The usage of a run, as one request knows it.

A request starts with nothing. When the function reaches a memoized step, the request reads what the
step used from beside its result. Each such record also names the attempts that had failed until
then, so later requests know them on any worker. Records are kept by attempt: adding one twice
changes nothing.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from decimal import Decimal
from typing import Any

from inngest_plugins.ai.calls.attempt import BY_HAND, Attempt
from inngest_plugins.ai.calls.metrics import measure
from inngest_plugins.ai.calls.model_call import (
    usage_as_numbers,
    usage_from_json,
    usage_to_json,
)
from inngest_plugins.ai.calls.prices import Prices
from inngest_plugins.core import (
    USAGE,
    Call,
    CallKey,
    ModelCall,
    ModelUsage,
    Outcome,
    Step,
    safe_text,
)

from .related_runs import RelatedRuns
from .spans import Spans
from .unreported import Unreported
from .updates import KIND_ATTEMPT, KIND_RUN, Update, engine_values, of_attempt, of_run

_logger = logging.getLogger("inngest_plugins.ai")

ATTACHMENT = "ai"
BODY = "body-"
"""Prefix of the keys for what requests used outside of steps."""
ATTEMPT = CallKey[Attempt]("ai.attempt")
RUN_USAGE = CallKey["RunUsage"]("ai.usage")

RUNNING: ContextVar[Attempt | None] = ContextVar("inngest_plugins_ai_attempt", default=None)
"""The attempt of a step that the current code belongs to."""


class RunUsage:
    """The model calls of the run that a request belongs to. Safe to use from several threads.

    Args:
        call: the request.
        prices: prices calls.
        unreported: where attempts without a result wait for the next request.
        related: the other runs that get what this run used.

    Attributes:
        call: the request.
        related: the other runs that get what this run used.
        spans: the spans of the request.
        ended: whether the run has ended with this request.
    """

    def __init__(
        self, call: Call, prices: Prices, unreported: Unreported, related: RelatedRuns
    ) -> None:
        self.call = call
        self.related = related
        self.spans = Spans()
        self.ended = False
        self._prices = prices
        self._unreported = unreported
        self._lock = threading.Lock()
        self._known: dict[str, ModelUsage] = unreported.of(call.run_id)
        self._known_total = sum(self._known.values(), ModelUsage())
        self._stored: set[str] = set()
        self._running: dict[str, Attempt] = {}
        self._failed: dict[str, ModelUsage] = {}
        self._body = Attempt(f"{BODY}{uuid.uuid4().hex[:16]}", None)
        self._by_hand: dict[tuple[tuple[int, ...], int], ModelCall] = {}
        self._in_branch: dict[tuple[int, ...], int] = {}
        self._listeners: list[Any] = []
        self._warned: set[str] = set()
        self._price_source: dict[str, str] = {}

    # ------------------------------------------------------------ counting

    def current(self) -> Attempt:
        """Return the attempt of the step that the current code belongs to, or the body's."""
        attempt = RUNNING.get()
        if attempt is not None and not attempt.ended and attempt.key in self._running:
            return attempt
        return self._body

    def record(self, call: ModelCall, source: str, attempt: Attempt | None = None) -> ModelCall:
        """Count a call.

        Args:
            call: the call.
            source: who reports it.
            attempt: whose it is; by default that of the current code.

        Returns:
            The call with its price.
        """
        if attempt is None:
            attempt = self.current()
        if attempt.ended or attempt.key not in self._running:
            attempt = self._body
        if self._body.ended:
            self.warn_once(
                "late",
                "run %s: a call to a model ended after its request was answered and was not "
                "counted: wait for streams and tasks in the step that starts them",
                self.call.run_id,
            )
        call = replace(call, cost_usd=self._cost(call, raises=source == BY_HAND))
        if attempt is self._body and source == BY_HAND:
            if not attempt.is_of_step(call, source):
                self._record_in_body(call)
                self._warn_of_unknown(call)
        elif attempt.add(call, source) is not None:
            self._warn_of_unknown(call)
            for listener in self._listeners:
                listener(call)
        return call

    def _cost(self, call: ModelCall, *, raises: bool) -> Decimal | None:
        """Return what a call costs. Its tokens count also where the team's function fails."""
        try:
            cost, self._price_source[call.model] = self._prices.cost(call)
        except Exception as err:
            if raises:
                raise
            self.warn_once(
                "price",
                "run %s: AIPlugin(prices=<function>) cannot tell the price of a call to %r: %s",
                self.call.run_id,
                call.model,
                safe_text(err),
            )
            return None
        return cost

    def on_call(self, listener: Any) -> None:
        """Call this function with each call that is counted.

        Calls of `usage.record` in the body are left out, as every replay reports them again.
        """
        self._listeners.append(listener)

    def record_automatic(self, call: ModelCall, source: str, attempt: Attempt) -> None:
        """Count a call that a client or a span reports; never raises."""
        try:
            self.record(call, source, attempt)
        except Exception as err:  # telemetry never fails a model call
            self.warn_once(
                "unrecorded",
                "run %s: a call to a model was not counted: %s",
                self.call.run_id,
                safe_text(err),
            )

    def mark_counted_by_step(self, call: ModelCall) -> None:
        """Remember in the body a call that a step has counted, so that it counts once."""
        self._body.mark_counted_by_step(call)
        self.spans.step_counted()

    def price_sources(self) -> str:
        """Return a sentence that says where this request's prices are from."""
        if not self._price_source:
            return "The prices are those of earlier requests of the run or of other runs."
        priced = ", ".join(f"{model}: {source}" for model, source in self._price_source.items())
        return f"Prices are from: {priced}."

    def _record_in_body(self, call: ModelCall) -> None:
        """Count what the body reports by hand, by its place: a replay reports it again there."""
        branch = self.call.branch
        with self._lock:
            number = self._in_branch.get(branch, 0)
            self._in_branch[branch] = number + 1
            self._by_hand[branch, number] = call

    def _warn_of_unknown(self, call: ModelCall) -> None:
        if call.input_tokens is None or call.output_tokens is None:
            self.warn_once(
                f"uncounted:{call.model}",
                "run %s: the provider did not report the tokens of a call to %r, which counts as "
                "unknown. A stream of the OpenAI API reports them when it is asked with "
                "stream_options={'include_usage': True}, and only at its end",
                self.call.run_id,
                call.model,
            )
        elif call.cost_usd is None:
            self.warn_once(
                f"unpriced:{call.model}",
                "run %s: no price is known for model %r of provider %r: its cost counts as "
                "unknown. Give one with AIPlugin(prices={model: Price(...)})",
                self.call.run_id,
                call.model,
                call.provider,
            )

    def warn_once(self, key: str, message: str, *args: object) -> None:
        """Log a warning once in this request, and not while the function is replayed."""
        if key not in self._warned:
            self._warned.add(key)
            _logger.warning(message, *args)

    # ------------------------------------------------------------ reading

    def total(self) -> ModelUsage:
        """Return what the run has used as far as this request knows it."""
        with self._lock:
            known = self._known_total
            by_hand = [call.as_usage() for call in self._by_hand.values()]
            running = [attempt.usage() for attempt in self._running.values()]
        return sum((part for part in (*by_hand, *running, self._body.usage()) if part.calls), known)

    def recorded_in_body(self) -> ModelUsage:
        """Return what the body has reported by hand so far."""
        with self._lock:
            by_hand = [call.as_usage() for call in self._by_hand.values()]
        return sum(by_hand, ModelUsage())

    # ------------------------------------------------------------ steps

    def begin(self, step: Step) -> Attempt:
        """Open the attempt of a step whose handler is about to run."""
        attempt = step[ATTEMPT] = Attempt(f"{step.hashed_id[:12]}-{uuid.uuid4().hex[:16]}", step.id)
        with self._lock:
            self._running[attempt.key] = attempt
        return attempt

    def add_stored(self, attachment: object) -> None:
        """Add what is stored beside a memoized step's result."""
        if not isinstance(attachment, Mapping):
            return
        records: Mapping[str, Any] = attachment  # pyright: ignore[reportUnknownVariableType]
        with self._lock:
            for key, encoded in records.items():
                self._keep_stored(key, encoded)
        self.call[USAGE] = self.total()

    def _keep_stored(self, key: str, encoded: Any) -> None:
        try:
            self._keep(key, usage_from_json(encoded))
            self._stored.add(key)
        except (ArithmeticError, TypeError, ValueError):
            self.warn_once(
                "malformed",
                "run %s: what a stored step says of its model calls is malformed and not counted",
                self.call.run_id,
            )

    def _keep(self, key: str, usage: ModelUsage) -> None:
        """Keep what an attempt used. The caller holds the lock.

        A request can deliver several results. Each names what the body had used until then, and the
        last counts.
        """
        known = self._known.get(key)
        if known is None:
            self._known[key] = usage
            self._known_total += usage
        elif known.calls < usage.calls:
            self._known[key] = usage
            self._known_total = sum(self._known.values(), ModelUsage())

    def end_step(self, attempt: Attempt, outcome: Outcome) -> ModelUsage:
        """Attach what a step used to its result, and add it to the engine's metadata."""
        step = outcome.step
        assert step is not None  # noqa: S101 - the caller has looked
        attempt.failed = outcome.error is not None
        attempt.ended = True
        usage = attempt.usage()
        with self._lock:
            self._running.pop(attempt.key, None)
            if usage.calls:
                self._keep(attempt.key, usage)
        measure(attempt.unmeasured)
        if usage.calls:
            for entry in (step, self.call):
                entry[USAGE] = usage if entry is step else self.total()
            outcome.add_metadata(KIND_ATTEMPT, engine_values(attempt.calls))
            outcome.add_metadata(KIND_RUN, usage_as_numbers(usage), scope="run", op="add")
        if outcome.error is None:
            records = self._take_unstored()
            if records:
                outcome.attach(ATTACHMENT, records)
        elif usage.calls:
            self._failed[attempt.key] = usage
            self._unreported.add(self.call.run_id, attempt.key, usage)
        return usage

    def _take_unstored(self) -> dict[str, Any]:
        """Return as JSON what no memoized result holds yet; from now on it counts as stored."""
        with self._lock:
            body = self._body.usage()
            found = {key: use for key, use in self._known.items() if key not in self._stored}
            self._stored.update(found)
            if body.calls:
                found[self._body.key] = body
        return {key: usage_to_json(usage) for key, usage in found.items()}

    # ------------------------------------------------------------ the request's end

    def close(self) -> list[Update]:
        """End the request, and return the metadata that no step's answer carries.

        That is what the body used, and what steps used whose end is not in the answer: a step that
        failed for good, or that ran beside the one in the answer.
        """
        late = self._body.usage()
        with self._lock:
            open_attempts = list(self._running.values())
            self._running.clear()
        updates: list[Update] = []
        measure(self._body.unmeasured)
        for attempt in open_attempts:
            attempt.failed = attempt.ended = True
            measure(attempt.unmeasured)
            used = attempt.usage()
            if used.calls:
                number = self.call.attempt
                updates.append(of_attempt(self.call.run_id, attempt.step_id, number, attempt.calls))
                self._failed[attempt.key] = used
                self._unreported.add(self.call.run_id, attempt.key, used)
                with self._lock:
                    self._keep(attempt.key, used)
                late += used
        if self._body.usage().calls:
            self._failed[self._body.key] = self._body.usage()
            self._unreported.add(self.call.run_id, self._body.key, self._body.usage())
        if self.ended:
            late += self.recorded_in_body()
            measure(self._by_hand.values())
            self._unreported.forget(self.call.run_id)
        self._body.ended = True
        if late.calls:
            updates.append(of_run(self.call.run_id, late))
        return updates + self._related_updates()

    def _related_updates(self) -> list[Update]:
        """Return the updates for the parent and the root.

        A later request may not know of a failed attempt, so each is sent at once under a key of its
        own. The rest is sent when the run ends.
        """
        updates: list[Update] = []
        for key, usage in self._failed.items():
            updates += self.related.updates(usage, key)
        if self.ended and self.related:
            self._add_unreached()
            returned = [
                usage
                for key, usage in self._known.items()
                if not usage.failed_calls and not key.startswith(BODY)
            ]
            updates += self.related.updates(sum(returned, self.recorded_in_body()))
        return updates

    def _add_unreached(self) -> None:
        """Add what steps used that the function did not reach, such as those that lost a race."""
        for hashed_id in self.call.memos.keys() - set(self.call.consumed):
            self.add_stored(self.call.attachment(hashed_id, ATTACHMENT))
