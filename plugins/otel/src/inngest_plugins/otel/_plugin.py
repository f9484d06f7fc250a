"""The plugin."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from inngest_plugins.core import Call, CallKey, Layer, Outcome, Plugin, Send, Stack, Step

from . import _attributes as names
from ._branches import follow_branches
from ._carrier import Carrier, carrier_of, take_carriers, with_carrier
from ._completion import completion_of
from ._exporter import InngestSpanExporter
from ._ids import Origin, Scope, SpanId, derived_span_id
from ._instruments import Instruments
from ._ledger import LEDGER, Ledger, ulid_time
from ._options import check_provider, check_switch
from ._parentage import attributes_of, parentage_of
from ._placement import Placement
from ._provider import assigned_ids, is_replay_safe
from ._request import REQUEST, Attached, Request, StepRecord, captured, error_type

SCOPE: Final = "inngest_plugins.otel"
_VERSION: Final = version("inngest-plugins")
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()
_PRODUCER: CallKey[Span] = CallKey("otel.producer")
_logger = logging.getLogger(SCOPE)


class OpenTelemetryPlugin(Plugin):
    """Traces and metrics of runs, with every span exported once however often a run is replayed.

    The spans of user code need a provider that is replay-safe: `replay_safe_provider()`, or
    `make_replay_safe(provider)` for one that exists. With any other the plugin's own spans are
    right, and those of replayed code are exported again by every request; a warning says so.

    Without a provider, given or global, nothing is traced or measured.

    Args:
        tracer_provider: makes the plugin's spans; the global one by default.
        meter_provider: makes its metrics; the global one by default.
        inngest_traces: show the spans of user code in Inngest's own trace view as well. They are
            sent before each answer, which waits for that, two seconds at most.
        capture_payloads: put event data and outputs into attributes, cut off after 4096 characters.
            With encryption in the stack that is ciphertext.
        exception_messages: whether the texts and tracebacks of exceptions are exported; None: yes,
            unless a plugin of the stack keeps payloads secret. Their types always are.
        continue_traces: whether a run that an event triggered continues the trace of the event's
            sender. By default it has a trace of its own, which links there. Runs of batches link.
    """

    layer = Layer.OBSERVE
    name = "otel"

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        inngest_traces: bool = False,
        capture_payloads: bool = False,
        exception_messages: bool | None = None,
        continue_traces: bool = False,
    ) -> None:
        check_provider("tracer_provider", tracer_provider, "get_tracer")
        check_provider("meter_provider", meter_provider, "get_meter")
        check_switch("capture_payloads", capture_payloads)
        if exception_messages is not None:
            check_switch("exception_messages", exception_messages)
        check_switch("inngest_traces", inngest_traces)
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._inngest_traces = inngest_traces
        self._capture_payloads = capture_payloads
        self._exception_messages = exception_messages
        self._continue_traces = continue_traces
        self._inert_tracing: TracerProvider | None = None
        self._inert_metrics: MeterProvider | None = None
        self._tracer: tuple[TracerProvider, Tracer] | None = None
        self._instruments: tuple[MeterProvider, Instruments] | None = None

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Tell `inngest-plugins doctor` of a provider that is missing or not replay-safe."""
        provider = self._provider()
        if _does_nothing(provider):
            yield "no tracer provider is set: nothing is traced (trace.set_tracer_provider)"
        elif not is_replay_safe(provider):
            yield (
                "the tracer provider is not replay-safe, so that spans of replayed code are "
                "exported by every request: call inngest_plugins.otel.make_replay_safe(provider)"
            )

    # ------------------------------------------------------------ hooks

    def transform_input(self, call: Call) -> None:
        """Start the request's span, in the run's trace."""
        carriers = take_carriers(call)
        tracer, instruments = self._get_tracer(), self._get_instruments()
        if tracer is None and instruments is None:
            return
        keep = self._exception_messages
        request = Request(
            call, keep_messages=not call.stack.secret_payloads if keep is None else keep
        )
        call[REQUEST] = request
        if tracer is not None:
            self._begin(request, tracer, carriers)
        call.enter(_Open(self, request))
        if instruments is not None and call.memo_count == call.attempt == 0 and not call.target:
            instruments.payload_size.record(
                _size([event.data for event in call.events]),
                {**_metric_attributes(call), names.DIRECTION: "input"},
            )

    def before_memoization(self, call: Call) -> None:
        """Note when replay began; from here on the function's code runs."""
        request = call.get(REQUEST)
        if request is None:
            return
        request.replay_started = time.time_ns()
        if request.ledger is not None:
            request.ledger.in_body = True
        self._measure_hooks(request, "transform_input", request.started)

    def after_memoization(self, call: Call) -> None:
        """Record how long the replay took."""
        request = call.get(REQUEST)
        if request is None or not call.memo_count or not request.is_recording:
            return
        self._span(
            request,
            "memoization",
            "memoization",
            start_time=request.replay_started,
            context=request.context,
        ).end()

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Send the trace along with an invoke."""
        request = call.get(REQUEST)
        if request is None or request.ledger is None or step.op != "InvokeFunction":
            return
        data = step.input
        if data is None:
            return
        function_id = str(data["function_id"])
        span = self._span(
            request,
            f"invoke {function_id}",
            f"invoke {step.hashed_id}",
            kind=SpanKind.PRODUCER,
            attributes={
                **_step_attributes(call, step),
                "messaging.system": "inngest",
                "messaging.operation.name": "invoke",
                "messaging.operation.type": "send",
                "faas.invoked_name": function_id,
            },
        )
        carrier = carrier_of(trace.set_span_in_context(span))
        payload = data["payload"]
        step.input = {
            **data,
            "payload": {**payload, "data": with_carrier(payload.get("data"), carrier)},
        }
        span.end()

    def around_step(self, call: Call, step: Step) -> AbstractContextManager[Any]:
        """Open the span of a step that really runs."""
        request = call.get(REQUEST)
        if request is None:
            return _NOTHING
        return _RunningStep(self, request, step)

    def after_execution(self, call: Call) -> None:
        """The function's code is over."""
        request = call.get(REQUEST)
        if request is None:
            return
        request.executed = time.perf_counter()
        if request.ledger is not None:
            request.ledger.in_body = False

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Note what the step or the function came to."""
        request = call.get(REQUEST)
        if request is None:
            return
        request.settle(outcome)
        self._measure_hooks(request, "transform_output", request.executed)
        instruments = self._get_instruments()
        if instruments is not None:
            self._measure_outcome(instruments, request, outcome)
        if outcome.step is None and outcome.raised is not None and request.is_recording:
            request.fail(request.span, outcome.raised)
        if self._capture_payloads and outcome.has_output and outcome.error is None:
            record = request.step
            span = record.span if outcome.step is not None and record is not None else request.span
            if span is not None and span.is_recording():
                span.set_attribute(names.OUTPUT, captured(outcome.output))
        if outcome.step is not None:
            request.end_step(request.result.removeprefix("step "))

    def before_response(self, call: Call) -> Awaitable[None] | None:
        """Let go of the spans that this request adds to the trace."""
        request = call.get(REQUEST)
        if request is None:
            return None
        self._settle(request)
        ledger = request.ledger
        if ledger is None or not ledger.exported or call.cancelled:
            return None
        spans, ledger.exported = ledger.exported, []
        exporter = InngestSpanExporter(call.client)
        if call.is_async:
            return _awaited(exporter, spans)
        exporter.export(spans)
        return None

    def before_send_events(self, send: Send) -> None:
        """Open the span of the send, and send the trace along."""
        tracer = self._get_tracer()
        if tracer is None or not send.events:
            return
        kinds = {event.name for event in send.events}
        attributes: dict[str, str | int] = {
            "messaging.system": "inngest",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            names.APP_ID: send.client.app_id,
        }
        name = "send"
        if len(kinds) == 1:
            attributes["messaging.destination.name"] = send.events[0].name
            name = f"send {send.events[0].name}"
        if len(send.events) > 1:
            attributes["messaging.batch.message_count"] = len(send.events)
        if send.call is not None:
            attributes[names.RUN_ID] = send.call.run_id
        span = tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
        send[_PRODUCER] = span
        carrier = carrier_of(trace.set_span_in_context(span))
        for event in send.events:
            event.data = with_carrier(event.data, carrier)

    def after_send_events(self, send: Send) -> None:
        """Close the span of the send."""
        span = send.get(_PRODUCER)
        if span is None:
            return
        if send.error is not None:
            span.set_attribute(ERROR_TYPE, "SendEventsError")
            span.set_status(Status(StatusCode.ERROR))
        elif span.is_recording():
            span.set_attribute(names.EVENT_IDS, send.ids)
            if len(send.ids) == 1:
                span.set_attribute("messaging.message.id", send.ids[0])
        span.end()

    # ------------------------------------------------------------ a request

    def _begin(self, request: Request, tracer: Tracer, carriers: Sequence[Carrier]) -> None:
        call = request.call
        provider = self._provider()
        safe = is_replay_safe(provider)
        parentage = parentage_of(
            call,
            carriers,
            continue_traces=self._continue_traces,
            sampler=None if safe else getattr(provider, "sampler", provider),
        )
        root = derived_span_id(call.run_id, "request", request.key)
        ledger = Ledger(
            call,
            root_span_id=root,
            completion=lambda: completion_of(call),
            keep_messages=request.keep_messages,
            placement=(
                Placement.from_headers(call.run_id, call.trace_headers)
                if self._inngest_traces
                else None
            ),
        )
        request.tracer, request.ledger = tracer, ledger
        with assigned_ids(SpanId(root, Origin(ledger, Scope.OWN)), parentage.trace_id):
            request.span = tracer.start_span(
                f"run {call.function_id}",
                context=parentage.context,
                kind=SpanKind.CONSUMER,
                attributes={
                    **attributes_of(call),
                    names.APP_ID: call.app_id,
                    names.FUNCTION_ID: call.function_id,
                    names.RUN_ID: call.run_id,
                    names.HANDLER: call.handler_kind,
                    names.ATTEMPT: call.attempt,
                    names.MEMOIZED: call.memo_count,
                },
                links=parentage.links,
            )
        request.is_recording = request.span.is_recording()
        if request.is_recording:
            if call.request_id:
                request.span.set_attribute(names.REQUEST_ID, call.request_id)
            if call.job_id:
                request.span.set_attribute(names.JOB_ID, call.job_id)
            if self._capture_payloads:
                request.span.set_attribute(
                    names.INPUT, captured([event.data for event in call.events])
                )
        request.context = trace.set_span_in_context(request.span, parentage.context)
        if safe:
            call[LEDGER] = ledger
            follow_branches(call, ledger.territory)

    def _span(
        self,
        request: Request,
        name: str,
        seed: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, Any] | None = None,
        start_time: int | None = None,
        context: Context | None = None,
    ) -> Span:
        """Start a span of the plugin itself, under the current one unless a context is given."""
        assert request.ledger is not None and request.tracer is not None  # noqa: S101, PT018
        with assigned_ids(request.ledger.own_span_id(seed, request.key)):
            return request.tracer.start_span(name, context, kind, attributes, start_time=start_time)

    def _settle(self, request: Request) -> None:
        request.settle_without_outcome()
        if request.ledger is not None and request.verdict is not None:
            request.ledger.in_body = False
            request.ledger.close(request.verdict, request.raised)

    def _end(self, request: Request) -> None:
        self._settle(request)
        request.end_step(None)
        call = request.call
        instruments = self._get_instruments()
        if instruments is not None:
            attributes = {**_metric_attributes(call), names.OUTCOME: request.result}
            instruments.request_duration.record(time.perf_counter() - request.started, attributes)
            instruments.memoized_steps.record(call.memo_count, _metric_attributes(call))
            if call.failure is not None:
                instruments.plugin_failures.add(
                    1, {**_metric_attributes(call), ERROR_TYPE: error_type(call.failure)}
                )
        if request.is_recording:
            request.span.set_attribute(names.OUTCOME, request.result)
            if call.failure is not None and request.raised is call.failure:
                request.fail(request.span, call.failure)
        request.span.end()

    # ------------------------------------------------------------ metrics

    def _measure_hooks(self, request: Request, hook: str, since: float) -> None:
        instruments = self._get_instruments()
        if instruments is not None and since:
            instruments.plugin_duration.record(
                time.perf_counter() - since,
                {**_metric_attributes(request.call), "inngest.plugin.hook": hook},
            )

    def _measure_outcome(
        self, instruments: Instruments, request: Request, outcome: Outcome
    ) -> None:
        call = request.call
        attributes = _metric_attributes(call)
        if outcome.has_output and outcome.error is None:
            instruments.payload_size.record(
                _size(outcome.output), {**attributes, names.DIRECTION: "output"}
            )
        failure = {} if outcome.raised is None else {ERROR_TYPE: error_type(outcome.raised)}
        word = request.result.removeprefix("step ")
        if outcome.step is not None:
            attributes = {**attributes, names.STEP_OP: outcome.step.op}
            if request.step is not None:
                instruments.step_duration.record(
                    request.step.duration, {**attributes, names.OUTCOME: word, **failure}
                )
            if not outcome.will_retry:
                instruments.step_attempts.record(
                    call.attempt + 1, {**attributes, names.OUTCOME: word}
                )
        elif not outcome.will_retry:
            started = ulid_time(call.run_id)
            if started is not None:
                instruments.run_duration.record(
                    max(0.0, time.time() - started / 1e9),
                    {**attributes, names.STATUS: word, **failure},
                )

    # ------------------------------------------------------------ providers

    def _provider(self) -> TracerProvider:
        return self._tracer_provider or trace.get_tracer_provider()

    def _get_tracer(self) -> Tracer | None:
        """Return the tracer, None when nobody configured tracing."""
        provider = self._tracer_provider or trace.get_tracer_provider()
        known = self._tracer
        if known is not None and known[0] is provider:
            return known[1]
        if provider is self._inert_tracing or _does_nothing(provider):
            self._inert_tracing = provider
            return None
        tracer = provider.get_tracer(SCOPE, _VERSION)
        self._tracer = provider, tracer
        if not is_replay_safe(provider):
            _logger.warning(
                "spans of replayed code will be exported by every request, because the tracer "
                "provider %s.%s is not replay-safe: call "
                "inngest_plugins.otel.make_replay_safe(provider) once, where it is set up",
                type(provider).__module__,
                type(provider).__qualname__,
            )
        return tracer

    def _get_instruments(self) -> Instruments | None:
        """Return the instruments, None when nobody configured metrics."""
        provider = self._meter_provider or metrics.get_meter_provider()
        known = self._instruments
        if known is not None and known[0] is provider:
            return known[1]
        if provider is self._inert_metrics or _does_nothing(provider):
            self._inert_metrics = provider
            return None
        instruments = Instruments(provider, SCOPE, _VERSION)
        self._instruments = provider, instruments
        return instruments


class _Open:
    """A request from its first hook to the moment when everything of it is closed."""

    __slots__ = ("_attached", "_plugin", "_request")

    def __init__(self, plugin: OpenTelemetryPlugin, request: Request) -> None:
        self._plugin = plugin
        self._request = request
        self._attached = None if request.context is None else Attached(request.context)

    def __enter__(self) -> None:
        if self._attached is not None:
            self._attached.__enter__()

    def __exit__(self, *_: object) -> None:
        try:
            if self._attached is not None:
                self._attached.__exit__()
        finally:
            self._plugin._end(self._request)  # noqa: SLF001 - its other half


class _RunningStep:
    """A step's handler while it runs, with its span as the current one."""

    __slots__ = ("_attached", "_plugin", "_record", "_request", "_started")

    def __init__(self, plugin: OpenTelemetryPlugin, request: Request, step: Step) -> None:
        self._plugin = plugin
        self._request = request
        self._record = StepRecord(step, None)
        self._attached: Attached | None = None
        self._started = 0.0

    def __enter__(self) -> None:
        request, record = self._request, self._record
        request.step = record
        self._started = time.perf_counter()
        if request.ledger is None:
            return
        span = self._plugin._span(  # noqa: SLF001 - its other half
            request,
            f"step {record.step.id}",
            f"step {record.step.hashed_id}",
            attributes=_step_attributes(request.call, record.step),
        )
        self._attached = Attached(trace.set_span_in_context(span))
        self._attached.__enter__()
        record.span = span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        record = self._record
        record.ended_at = time.time_ns()
        record.duration = time.perf_counter() - self._started
        if self._request.ledger is not None:
            self._request.ledger.step_ran()
        if self._attached is not None:
            self._attached.__exit__()
        if isinstance(error, Exception) and record.span is not None:
            self._request.fail(record.span, error)


def _step_attributes(call: Call, step: Step) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        names.RUN_ID: call.run_id,
        names.FUNCTION_ID: call.function_id,
        names.STEP_ID: step.id,
        names.STEP_HASH: step.hashed_id,
        names.STEP_OP: step.op,
        names.ATTEMPT: call.attempt,
    }
    if step.index:
        attributes[names.STEP_INDEX] = step.index
    return attributes


def _metric_attributes(call: Call) -> dict[str, Any]:
    return {
        names.APP_ID: call.app_id,
        names.FUNCTION_ID: call.function_id,
        names.HANDLER: call.handler_kind,
    }


def _does_nothing(provider: object) -> bool:
    """Tell whether a provider is one of the API's own, which stand in where none was set."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _size(payload: Any) -> int:
    return len(json.dumps(payload, default=str, separators=(",", ":"), ensure_ascii=False).encode())


async def _awaited(exporter: InngestSpanExporter, spans: Sequence[Any]) -> None:
    await exporter.export_async(spans)
