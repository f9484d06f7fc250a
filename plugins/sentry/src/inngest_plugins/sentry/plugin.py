"""`SentryPlugin`: its options, and what each hook does."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar

import inngest
import sentry_sdk
from sentry_sdk.client import BaseClient
from sentry_sdk.scope import add_global_event_processor

from inngest_plugins.core import (
    Call,
    Layer,
    Memo,
    MemoError,
    Outcome,
    Plugin,
    PluginsError,
    RefusedRequest,
    Send,
    Stack,
    Step,
    refused_request,
    require_extra,
)
from inngest_plugins.sentry.base.flush import Flusher, is_serverless
from inngest_plugins.sentry.base.logs import filter_sent_logs
from inngest_plugins.sentry.base.privacy import OWN_LOGS, Decrypted
from inngest_plugins.sentry.base.settings import (
    BeforeCapture,
    Capture,
    CaughtStepErrors,
    RefusedOption,
    Settings,
    StepErrors,
)
from inngest_plugins.sentry.base.trace import Carrier, take_carrier, without_carrier_in_event
from inngest_plugins.sentry.events.captures import Captures
from inngest_plugins.sentry.events.one_at_a_time import OneAtATime
from inngest_plugins.sentry.events.refused import RefusedRequests
from inngest_plugins.sentry.events.step_failures import StepFailures
from inngest_plugins.sentry.performance.queues import begin_publish, end_publish
from inngest_plugins.sentry.performance.transactions import records_transactions
from inngest_plugins.sentry.request import REQUEST, Request

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_UNSENDABLE_LOG = "output_unserializable: "
_SDK_RESPONSE_MODULE = "comm_lib"
_OWN_LOGGER = "inngest_plugins"
_MAX_PENDING_LOGS = 100


class SentryPlugin(Plugin):
    """Reports each failure of a run to Sentry once, on the right run, without its payload.

    Errors, breadcrumbs and cron check-ins work as soon as `sentry_sdk.init` was called;
    transactions and queue spans when Sentry's tracing is on. If Sentry is not initialised, the
    plugin says so once and does nothing.

    Args:
        capture: "final" reports an error when the engine will not try again; "every" reports also
            each attempt before that, at level `warning`.
        step_errors: "capture" reports the final failure of a step once, when the run has ended:
            as an error if it ended the run, else as `caught_step_errors` says. "immediate" reports
            it at once, as an error that is handled, whatever the function does with it.
            "breadcrumb" leaves a breadcrumb, and reports the `inngest.StepError` if the function
            passes it on.
        caught_step_errors: what becomes of a step's final failure that the function has caught:
            "warning" reports it at that level, "ignore" does not.
        refused_requests: what becomes of requests that the SDK refuses before a run is known (a
            wrong signature, an unknown function): "warning" reports them as one issue, at most
            one event a minute for each path and reason; "ignore" does not.
        send_payloads: True adds the events' data to Sentry's events, and keeps local variables
            that show payloads.
        send_decrypted: what may leave although a plugin of the stack keeps payloads secret, by
            name: "frame_variables", "exception_values", "log_messages", "payloads" (the last with
            `send_payloads`).
        propagate: True lets sent events carry the trace to the runs they start, under the
            reserved key `_sentry` of their data, when tracing is on.
        crons: True sends check-ins for runs that a cron trigger has started.
        flush: True lets each request wait until Sentry has got its events; False does not; None
            does so on serverless platforms, which freeze a process that has answered.
        flush_timeout: how long a request waits for that at most, in seconds.
        before_capture: called with the call, the outcome (None when a plugin failed elsewhere)
            and the event before one of the plugin's own error events is captured; returns the
            event, edited or not, or None to drop it.

    Raises:
        MissingExtraError: sentry-sdk is not installed.
        TypeError: an option is of the wrong type, as a switch given as text.
        ValueError: an option has a value that it cannot have.

    Example:
        ```python
        sentry_sdk.init(dsn=..., traces_sample_rate=0.1)
        client = inngest.Inngest(app_id="shop", middleware=[SentryPlugin()])
        ```
    """

    layer = Layer.OBSERVE
    one_per_list: ClassVar[bool] = True

    def __init__(
        self,
        *,
        capture: Capture = "final",
        step_errors: StepErrors = "capture",
        caught_step_errors: CaughtStepErrors = "warning",
        refused_requests: RefusedOption = "warning",
        send_payloads: bool = False,
        send_decrypted: tuple[Decrypted, ...] | Collection[Decrypted] = (),
        propagate: bool = True,
        crons: bool = True,
        flush: bool | None = None,
        flush_timeout: float = 2.0,
        before_capture: BeforeCapture | None = None,
    ) -> None:
        require_extra("sentry", "sentry_sdk")
        self._settings = Settings(
            capture=capture,
            step_errors=step_errors,
            caught_step_errors=caught_step_errors,
            refused_requests=refused_requests,
            send_payloads=send_payloads,
            send_decrypted=send_decrypted,
            propagate=propagate,
            crons=crons,
            flush=flush,
            flush_timeout=flush_timeout,
            before_capture=before_capture,
        )
        wanted = is_serverless() if flush is None else flush
        self._flusher = Flusher(flush_timeout) if wanted else None
        self._one_at_a_time = OneAtATime()
        self._warned = threading.Lock()
        self._unsendable: deque[None] = deque(maxlen=_MAX_PENDING_LOGS)
        self._step_failures = StepFailures()
        self._refused = RefusedRequests()
        # No hook runs for a refused request, so this cannot wait for the first hook.
        add_global_event_processor(self._clean_log)

    # ------------------------------------------------------------ hooks

    def transform_input(self, call: Call) -> Awaitable[None] | None:
        """Begin the request: its scope, its place in the trace, its transaction."""
        carrier, memo_data = _take_carriers(call)
        client = self._active_client(call.client)
        if client is None:
            return None
        captures = Captures(call, client, self._settings, memo_data, _failed(call, memo_data))
        request = Request(captures, carrier, self._step_failures)
        if call.stack.secret_payloads:
            filter_sent_logs(client, _hides_logs)
        if self._flusher is None:
            call.enter(request)
            return None
        flushed = _Flushed(request, self._flusher, client, call)
        if call.is_async:
            return call.enter_async(flushed)
        call.enter(flushed)
        return None

    def before_memoization(self, call: Call) -> None:
        """Begin the span of the replay."""
        request = call.get(REQUEST)
        if request is not None:
            request.begin_replay()

    def after_memoization(self, call: Call) -> None:
        """End the span of the replay."""
        request = call.get(REQUEST)
        if request is not None:
            request.end_replay()

    def around_step(self, call: Call, step: Step) -> AbstractContextManager[None]:
        """Hold a scope and a span open while the step runs."""
        request = call.get(REQUEST)
        return nullcontext() if request is None else request.step(step)

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Leave a breadcrumb of a wait, an invoke or an AI request."""
        request = call.get(REQUEST)
        if request is not None:
            request.leaving(step)

    def transform_output(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """Report what failed for good."""
        request = call.get(REQUEST)
        if request is None:
            return None
        raised = outcome.raised
        if raised is None:
            if request.succeeded(outcome):
                self._unsendable.append(None)
            return None
        if call.is_async and request.may_report(outcome):
            return self._one_at_a_time.take(lambda: request.failed(raised, outcome))
        request.failed(raised, outcome)
        return None

    def before_send_events(self, send: Send) -> None:
        """Begin the spans of a send, and put the trace into its events."""
        client = self._active_client(send.client)
        if client is not None and records_transactions(client):
            begin_publish(send, propagate=self._settings.propagate)

    def after_send_events(self, send: Send) -> None:
        """End the spans of a send, and leave a breadcrumb."""
        if self._active_client(send.client) is None:
            return
        end_publish(send)
        names = ", ".join(sorted({event.name for event in send.events}))
        done = send.error is None
        sentry_sdk.add_breadcrumb(
            type="default",
            category="inngest.send",
            level="info" if done else "error",
            message=f"{'sent' if done else 'could not send'} {len(send.events)} event(s): {names}",
            data={"ids": send.ids[:20]},
        )

    # ------------------------------------------------------------ inside

    def _active_client(self, client: inngest.Inngest) -> BaseClient | None:
        found = sentry_sdk.get_client()
        if found.is_active():
            return found
        if self._warned.acquire(blocking=False):
            client.logger.warning(
                "SentryPlugin does nothing: Sentry is not initialised. Call sentry_sdk.init(...) "
                "before the first request."
            )
        return None

    def _clean_log(self, event: Event, hint: Hint) -> Event | None:
        """Clean or drop an event that Sentry's logging integration makes outside of a request.

        What plugins log in a send is on no run's scope, and its frames hold the events. What the
        SDK logs of an output reported here, when the hooks are over, is a repetition.
        """
        record = (hint or {}).get("log_record")
        if record is None:
            return event
        if record.name.partition(".")[0] == _OWN_LOGGER:
            options = sentry_sdk.get_client().options
            OWN_LOGS.clean(event, payloads=tuple, event_key=None, options=options)
            return event
        if _SDK_RESPONSE_MODULE in record.pathname:
            refused = None if "fingerprint" in event else refused_request()
            if refused is not None and self._serves(refused):
                if self._settings.refused_requests == "ignore":
                    return None
                return self._refused.describe(event, refused, str(record.msg))
        if (
            not self._unsendable
            or _SDK_RESPONSE_MODULE not in record.pathname
            or not str(record.msg).startswith(_UNSENDABLE_LOG)
        ):
            return event
        try:
            self._unsendable.pop()
        except IndexError:
            return event
        return None

    def _serves(self, refused: RefusedRequest) -> bool:
        """Return whether the app that refused a request has this plugin, and not another one."""
        if refused.client is None:
            return True
        try:
            plugins = Stack.of(refused.client).plugins
        except PluginsError:
            return False
        return any(plugin is self for plugin in plugins)


class _Flushed:
    """A request that waits at its end until its events are sent."""

    def __init__(self, request: Request, flusher: Flusher, client: BaseClient, call: Call) -> None:
        self._request = request
        self._flusher = flusher
        self._client = client
        self._call = call

    def __enter__(self) -> None:
        self._request.__enter__()

    def __exit__(self, *_: object) -> None:
        self._request.__exit__()
        self._flusher.wait_sync(self._client)

    async def __aenter__(self) -> None:
        self._request.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self._request.__exit__()
        if not self._call.cancelled:
            await self._flusher.wait(self._client)


def _hides_logs() -> bool:
    """Return whether what is logged now may quote a payload that the stack keeps secret."""
    call = Call.current()
    request = None if call is None else call.get(REQUEST)
    return request is not None and not request.allows_log_messages


def _failed(call: Call, memo_data: list[object]) -> dict[str, MemoError]:
    """Return the errors of the memoized steps that failed; most requests have none."""
    if len(memo_data) == call.memo_count:
        return {}
    return dict(call.memos.errors())


def _take_carriers(call: Call) -> tuple[Carrier | None, list[object]]:
    """Remove the trace headers that senders put into events, and collect the memoized values."""
    carrier = take_carrier(call.event)
    for event in call.events:
        take_carrier(event)
    memo_data: list[object] = []
    if call.memo_count:
        for hashed_id, data in call.memos.data():
            clean = data
            if isinstance(data, dict) and "data" in data:
                # The memo of a wait is a whole event.
                clean = without_carrier_in_event(data)
                if clean is not data:
                    call.memos[hashed_id] = Memo(data=clean, error=call.memos[hashed_id].error)
            memo_data.append(clean)
    return carrier, memo_data
