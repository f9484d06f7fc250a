"""The events of one request: makes the plugin's own, completes and cleans all others."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

import sentry_sdk
from sentry_sdk.client import BaseClient

from inngest_plugins.core import Call, MemoError, Outcome, Step
from inngest_plugins.sentry.base.privacy import Privacy
from inngest_plugins.sentry.base.settings import Settings
from inngest_plugins.sentry.events.exception_events import event_of_exception
from inngest_plugins.sentry.events.pending_events import RELEASED, PendingEvents, forget_last_seen
from inngest_plugins.sentry.events.serialized_parts import finish
from inngest_plugins.sentry.events.step_failures import set_handled

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

Level = Literal["error", "warning"]

_OURS = "inngest_plugins.step"
"""Key of the hint of the plugin's own events. It holds the event's step."""

_KEEP = "inngest_plugins.keep"
"""Key of the hint of an event that is kept and not sent. It holds where to put it."""

_KEPT = "inngest_plugins.kept"
"""Key of the hint of a kept event when it is sent. It holds what no scope may change."""

_TAGS = "inngest_plugins.tags"
"""Key of the hint for the event's own tags, which those of the scope must not replace."""

_EVENT_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/inngest-plugins/inngest-plugins")
"""Namespace of the ids of the plugin's own events."""

_FRAMEWORK_SOURCES = ("url", "route", "component", "view", None)
_MAX_REPLAYED = 50
_logger = logging.getLogger("inngest_plugins.sentry")


class Captures:
    """Captures errors of a request, and completes and cleans whatever is captured in it.

    What only events need is computed when there is one: most requests have none.

    Args:
        call: the request.
        client: Sentry's client.
        settings: the user's options.
        memo_data: the memoized values, as the engine sent them.
        memo_errors: the errors of the memoized steps that failed, by hashed id.

    Attributes:
        name: what the request is called in Sentry: the function, or its failure handler.
        held: the events of others that wait for the request's outcome.
    """

    __slots__ = (
        "_memo_data",
        "_privacy",
        "_started",
        "call",
        "client",
        "held",
        "memo_errors",
        "name",
        "settings",
    )

    def __init__(
        self,
        call: Call,
        client: BaseClient,
        settings: Settings,
        memo_data: list[object],
        memo_errors: Mapping[str, MemoError],
    ) -> None:
        self.call = call
        self.client = client
        self.settings = settings
        self._memo_data = memo_data
        self.memo_errors = memo_errors
        self._started = time.time()
        self._privacy: Privacy | None = None
        self.held = PendingEvents()
        name = call.function.name
        self.name = f"{name} (failure)" if call.handler_kind == "on_failure" else name

    # ------------------------------------------------------------ the plugin's own events

    def capture(
        self,
        error: BaseException,
        level: Level,
        *,
        handled: bool,
        step: Step | None = None,
        outcome: Outcome | None = None,
        variables: bool = True,
        will_retry: bool = False,
        failed_step: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Report an error of the run, unless user code has reported this very exception.

        Args:
            error: the exception as it was raised.
            level: "error" for what failed the run, "warning" for what did not, or not yet.
            handled: whether the run goes on.
            step: the step it is about, if it is about one.
            outcome: for the user's `before_capture`.
            variables: False where the variables of the error's frames are payloads.
            will_retry: whether the engine tries again; each such attempt is an event of its own.
            failed_step: hashed id of the step of an earlier request whose failure this is.
            tags: more tags.
        """
        if self.held.was_reported(error):
            return
        event, hint = self.event_of(error, handled=handled, variables=variables)
        if step is not None and failed_step is None:
            failed_step = step.hashed_id
        event["event_id"] = self.event_id(failed_step, will_retry=will_retry)
        if tags:
            event["tags"] = dict(tags)
        self.send(event, level, hint, step=step, outcome=outcome)

    def event_id(self, hashed_id: str | None, *, will_retry: bool = False) -> str:
        """Return the id of the event about the failure of a step, or of the function.

        A worker that dies between reporting a failure and answering the engine runs the same code
        again, and so may another worker. Sentry stores one event for an id: a name-based UUID
        (RFC 9562, version 5) keeps one failure one event.

        Args:
            hashed_id: the step's engine-side id; None for the function.
            will_retry: as for `capture`.
        """
        call = self.call
        name = [call.app_id, call.function_id, call.handler_kind, call.run_id, hashed_id or ""]
        if will_retry:
            # The function itself may fail, be tried again and go on to fail behind a later step.
            name += [str(call.attempt), str(call.memo_count)]
        return uuid.uuid5(_EVENT_IDS, json.dumps(name)).hex

    def event_of(
        self, error: BaseException, *, handled: bool, variables: bool = True
    ) -> tuple[Event, dict[str, Any]]:
        """Make the event of an error, and Sentry's hint; see `capture` for the arguments."""
        options = self.client.options
        rules = self.rules()
        if not (rules.allows("frame_variables") and (variables or rules.allows_payloads)):
            # Sentry would turn variables into text, most of the work of a capture, and then drop
            # them.
            options = {**options, "include_local_variables": False}
        return event_of_exception(error, options, {"type": "inngest", "handled": handled})

    def send(
        self,
        event: Event,
        level: Level,
        hint: dict[str, Any],
        *,
        step: Step | None,
        outcome: Outcome | None,
    ) -> None:
        """Send an event as one of the plugin's own, unless `before_capture` drops it."""
        event["level"] = level
        if step is not None:
            # The step is no longer the one that runs now.
            event["tags"] = {"inngest.step.id": step.id}
        edited = self._edited(event, outcome)
        if edited is None:
            return
        forget_last_seen()
        marked: Any = {**hint, _OURS: step, _TAGS: dict(edited.get("tags") or {})}
        sentry_sdk.capture_event(edited, hint=marked)

    def _edited(self, event: Event, outcome: Outcome | None) -> Event | None:
        before_capture = self.settings.before_capture
        if before_capture is None:
            return event
        try:
            edited = before_capture(self.call, outcome, event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            # Sent as it is, the event would hold what the user's function takes out.
            _logger.exception("before_capture raised, the event was dropped")
            return None
        if edited is not None and not isinstance(edited, dict):
            _logger.error(
                "before_capture returned %s, which is no event, and the event was dropped: "
                "return the event, or None to drop it",
                type(edited).__name__,
            )
            return None
        return edited

    def keep(self, error: BaseException, step: Step, outcome: Outcome) -> Event | None:
        """Make the event of an error as `capture` does, complete and clean, but do not send it.

        Returns:
            The event; None when user code has reported this very exception, or dropped the event.
        """
        if self.held.was_reported(error):
            return None
        event, hint = self.event_of(error, handled=False)
        event["event_id"] = self.event_id(step.hashed_id)
        made: list[Event] = []
        self.send(event, "error", {**hint, _KEEP: made.append}, step=step, outcome=outcome)
        return made[0] if made else None

    def send_kept(self, event: Event, level: Level, *, handled: bool) -> None:
        """Send an event that `keep` has made, perhaps in another request of the run."""
        raw: Any = event
        if raw.get("level") == "error":
            # Anything else is the choice of `before_capture`.
            raw["level"] = level
        set_handled(event, handled=handled)
        crumbs = raw.get("breadcrumbs") or {}
        marked: Any = {
            _KEPT: {
                "tags": dict(raw.get("tags") or {}),
                "breadcrumbs": {"values": list(crumbs.get("values") or ())},
                "contexts": dict(raw.get("contexts") or {}),
            }
        }
        sentry_sdk.capture_event(event, hint=marked)

    def crumb(self, message: str, step: Step, level: str = "info") -> None:
        """Leave a breadcrumb about a step."""
        sentry_sdk.add_breadcrumb(
            type="default",
            category="inngest.step",
            level=level,
            message=message,
            data={"id": step.id, "op": step.op, "attempt": self.call.attempt},
        )

    # ------------------------------------------------------------ all events of the request

    def process(self, event: Event, hint: Hint) -> Event | None:
        """Sentry's event processor for everything that is captured in this request."""
        raw: Any = event
        kind = raw.get("type")
        if kind not in (None, "event", "transaction"):
            return event
        marks: Mapping[str, Any] = hint or {}
        if _KEPT in marks:
            # A kept event belongs to the scope of an earlier request.
            raw.update(marks[_KEPT])
            return event
        is_transaction = kind == "transaction"
        is_own = is_transaction or _OURS in marks or RELEASED in marks
        if not is_own and self.held.take(event, hint):
            return None
        try:
            self._complete(raw, marks, is_transaction=is_transaction)
        except Exception:
            # An event that could not be cleaned may hold anything.
            _logger.exception("preparing an event of a run failed, it was dropped")
            return None
        if _KEEP in marks:
            marks[_KEEP](event)
            return None
        return event

    def _complete(self, raw: Any, marks: Mapping[str, Any], *, is_transaction: bool) -> None:
        call, privacy = self.call, self.rules()
        contexts = raw.setdefault("contexts", {})
        if (raw.get("transaction_info") or {}).get("source") in _FRAMEWORK_SOURCES:
            raw["transaction"] = self.name
            raw["transaction_info"] = {"source": "task"}
        if is_transaction:
            contexts["inngest"] = _request_of(call)
        else:
            step = marks.get(_OURS) or call.step
            raw.setdefault("tags", {}).update(marks.get(_TAGS) or {})
            contexts["inngest"] = _run_of(call, step)
            if step is not None:
                raw.setdefault("tags", {}).setdefault("inngest.step.id", step.id)
            replayed = self._replayed_crumbs()
            if replayed:
                crumbs = raw.setdefault("breadcrumbs", {}).setdefault("values", [])
                crumbs[:0] = replayed
        if privacy.allows_payloads:
            contexts["inngest.payloads"] = {"events": [dict(event.data) for event in call.events]}
        privacy.clean(
            raw,
            payloads=self._payloads,
            event_key=call.client.event_key,
            options=self.client.options,
        )
        finish(raw, longest=self.client.options.get("max_value_length"))

    def rules(self) -> Privacy:
        """Return the privacy rules of the stack."""
        if self._privacy is None:
            settings = self.settings
            self._privacy = Privacy(
                self.call.stack.secret_payloads, settings.send_payloads, settings.send_decrypted
            )
        return self._privacy

    def _payloads(self) -> Iterable[object]:
        yield self.call.event.data
        for event in self.call.events:
            yield event.data
        yield from self._memo_data

    def _replayed_crumbs(self) -> list[dict[str, object]]:
        """Return a breadcrumb for each step that has ended in an earlier request."""
        call = self.call
        if not call.consumed:
            return []
        started = datetime.fromtimestamp(self._started, timezone.utc)
        return [
            {
                "timestamp": started,
                "type": "default",
                "category": "inngest.step",
                "level": "error" if (failed := hashed in self.memo_errors) else "info",
                "message": f"{_called(call, hashed)} {'failed' if failed else 'done'} before",
            }
            for hashed in call.consumed[-_MAX_REPLAYED:]
        ]


def _called(call: Call, hashed_id: str) -> str:
    step_id, index = call.identity_of(hashed_id) or (hashed_id, 0)
    return f"step {step_id!r} ({index + 1}. use)" if index else f"step {step_id!r}"


def tags_of(call: Call) -> dict[str, str]:
    """Return the tags by which every event of a request can be found."""
    ctx, function = call.ctx, call.function
    event = ctx.event
    by = call.deferred_by
    parent = {} if by is None else {"inngest.deferred_by.run_id": by.run_id}
    return {
        **parent,
        "inngest.app.id": call.app_id,
        "inngest.function.id": function.id,
        "inngest.function.name": function.name,
        "inngest.run.id": ctx.run_id,
        "inngest.event.name": event.name,
        "inngest.event.id": event.id,
        "inngest.attempt": str(ctx.attempt),
    }


def _request_of(call: Call) -> dict[str, object]:
    """Return the context of a transaction: what its tags and its messaging data do not say."""
    context: dict[str, object] = {
        "type": "inngest",
        "handler": call.handler_kind,
        "max_attempts": call.max_attempts,
        "memoized_steps": call.memo_count,
    }
    request_id, job_id = call.request_id, call.job_id
    if request_id is not None:
        context["request_id"] = request_id
    if job_id is not None:
        context["job_id"] = job_id
    return context


def _run_of(call: Call, step: Step | None) -> dict[str, object]:
    """Return the context of an error or message: the run, its events and the step."""
    events = call.events
    context = _request_of(call)
    context.update(
        app_id=call.app_id,
        function_id=call.function_id,
        function_name=call.function_name,
        run_id=call.run_id,
        attempt=call.attempt,
        event_names=sorted({event.name for event in events}),
        event_ids=[event.id for event in events[:20]],
        event_count=len(events),
    )
    if step is not None:
        context["step"] = {
            "id": step.id,
            "index": step.index,
            "op": step.op,
            "hashed_id": step.hashed_id,
            "parallel": step.parallel,
        }
    return context
