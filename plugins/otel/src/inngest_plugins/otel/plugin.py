"""`OpenTelemetryPlugin`: its options, and what each hook does."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import Any, ClassVar, Final

import inngest
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Tracer, TracerProvider

from inngest_plugins.core import (
    Call,
    Layer,
    Outcome,
    Plugin,
    Send,
    Stack,
    Step,
    check_switch,
)
from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.base.global_providers import (
    Followed,
    does_nothing,
    no_meter_provider,
    no_tracer_provider,
)
from inngest_plugins.otel.base.options import check_provider
from inngest_plugins.otel.exporter import InngestSpanExporter
from inngest_plugins.otel.replay.ledger import LEDGER
from inngest_plugins.otel.replay.provider import is_replay_safe
from inngest_plugins.otel.requests.carrier import take_carriers
from inngest_plugins.otel.requests.measures import Measures, json_size
from inngest_plugins.otel.requests.profile import Profiles
from inngest_plugins.otel.requests.request import REQUEST, Request, captured
from inngest_plugins.otel.requests.sends import begin_send, end_send
from inngest_plugins.otel.requests.steps import RunningStep, trace_invoke
from inngest_plugins.otel.requests.tracing import begin_trace

SCOPE: Final = "inngest_plugins.otel"
_VERSION: Final = version("inngest-plugins")
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()
_SENDING: Final = frozenset({"before_response", "step_delivered"})
_ENDING: Final = frozenset({"planned", "waiting", "skipped"})
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
    one_per_list: ClassVar[bool] = True
    skips_memoized_steps: ClassVar[bool] = True
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
        check_switch("OpenTelemetryPlugin(capture_payloads=...)", capture_payloads)
        if exception_messages is not None:
            check_switch("OpenTelemetryPlugin(exception_messages=...)", exception_messages)
        check_switch("OpenTelemetryPlugin(inngest_traces=...)", inngest_traces)
        check_switch("OpenTelemetryPlugin(continue_traces=...)", continue_traces)
        self._inngest_traces = inngest_traces
        self._capture_payloads = capture_payloads
        self._exception_messages = exception_messages
        self._continue_traces = continue_traces
        # Looked up each time, as a provider may be set long after the plugin is made.
        self._tracing: Followed[TracerProvider, Tracer] = Followed(
            tracer_provider, trace.get_tracer_provider, no_tracer_provider, _tracer_of
        )
        self._measuring: Followed[MeterProvider, Measures] = Followed(
            meter_provider, metrics.get_meter_provider, no_meter_provider, _measures_of
        )
        self._profiles = Profiles(self)

    def hook_functions(self) -> Mapping[str, Sequence[Any]]:
        """Return the hooks; `before_response` and `step_delivered` only if spans are sent there."""
        hooks = super().hook_functions()
        if self._inngest_traces:
            return hooks
        return {name: functions for name, functions in hooks.items() if name not in _SENDING}

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Tell `inngest-plugins doctor` of a provider that is missing or not replay-safe."""
        provider = self._tracing.provider()
        if does_nothing(provider):
            yield "no tracer provider is set: nothing is traced (trace.set_tracer_provider)"
        elif not is_replay_safe(provider):
            yield (
                "the tracer provider is not replay-safe, so that spans of replayed code are "
                "exported by every request: call inngest_plugins.otel.make_replay_safe(provider)"
            )

    def diagnose_client(self, client: inngest.Inngest) -> Iterable[str]:
        """Tell `inngest-plugins doctor` that Inngest would refuse the spans."""
        if self._inngest_traces and client.is_production and client.signing_key is None:
            yield (
                "inngest_traces=True sends spans to Inngest, which asks for the signing key, and "
                "the client has none: set INNGEST_SIGNING_KEY"
            )

    def transform_input(self, call: Call) -> None:
        """Start the request's span, in the run's trace."""
        carriers = take_carriers(call)
        tracer, measures = self._tracing.get(), self._measuring.get()
        if tracer is None and measures is None:
            return
        profile, keep = self._profiles.of(call), self._exception_messages
        record = None if measures is None else measures.record
        request = Request(
            call, profile, record, keep_messages=not profile.secret if keep is None else keep
        )
        call[REQUEST] = request
        if tracer is not None:
            begin_trace(
                request,
                tracer,
                self._tracing.provider(),
                carriers,
                continue_traces=self._continue_traces,
                inngest_traces=self._inngest_traces,
                capture_payloads=self._capture_payloads,
            )
        call.enter(request)
        if measures is not None and call.memo_count == call.attempt == 0 and not call.target:
            size = json_size([event.data for event in call.events])
            request.payload_sizes.append(("input", size))

    def before_memoization(self, call: Call) -> None:
        """Note when replay began; from here on the function's code runs."""
        request = call.get(REQUEST)
        if request is None:
            return
        if request.ledger is not None:
            request.replay_started = time.time_ns()
            request.ledger.in_body = True
        request.measure_hooks("transform_input", request.started)

    def after_memoization(self, call: Call) -> None:
        """Record how long the replay took."""
        request = call.get(REQUEST)
        if request is None or not request.is_recording or not call.memo_count:
            return
        request.start_span(
            "memoization", start_time=request.replay_started, context=request.context
        ).end()

    def step_reached(self, call: Call, step: Step) -> None:
        """Note that a step which does not run here interrupts the code that reached it."""
        if step.status in _ENDING:
            ledger = call.get(LEDGER)
            if ledger is not None:
                ledger.boundary.interrupt()

    def transform_step_input(self, call: Call, step: Step) -> None:
        """Send the trace along with an invoke or a deferral."""
        request = call.get(REQUEST)
        carries = step.op in ("InvokeFunction", "DeferAdd")
        if request is None or request.ledger is None or not carries:
            return
        trace_invoke(request, step)

    def around_step(self, call: Call, step: Step) -> AbstractContextManager[Any]:
        """Open the span of a step that really runs."""
        request = call.get(REQUEST)
        return _NOTHING if request is None else RunningStep(request, step)

    def after_execution(self, call: Call) -> None:
        """Note that the function's code has ended."""
        request = call.get(REQUEST)
        if request is None:
            return
        request.executed = time.perf_counter()
        if request.ledger is not None:
            request.ledger.in_body = False

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        """Note how the step or the function ended."""
        request = call.get(REQUEST)
        if request is None:
            return
        request.settle(outcome)
        request.measure_hooks("transform_output", request.executed)
        step = outcome.step
        succeeded = outcome.has_output and outcome.error is None
        if request.is_recording and step is None and outcome.raised is not None:
            request.fail(request.span, outcome.raised)
        if succeeded and self._capture_payloads:
            record = request.step
            span = record.span if step is not None and record is not None else request.span
            if span is not None and span.is_recording():
                span.set_attribute(names.OUTPUT, captured(outcome.output))
        if step is not None:
            request.end_step(request.result.removeprefix("step "))
        if succeeded and request.record is not None:
            request.payload_sizes.append(("output", json_size(outcome.output)))

    def before_response(self, call: Call) -> Awaitable[None] | None:
        """Send the spans that this request adds to the trace to the engine."""
        request = call.get(REQUEST)
        if request is None:
            return None
        request.leave_body()
        return _send_spans(call, request)

    def step_delivered(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Send the spans that have ended to the engine, which has the step's result now."""
        request = call.get(REQUEST)
        return None if request is None else _send_spans(call, request)

    def before_send_events(self, send: Send) -> None:
        """Open the span of the send, and send the trace along."""
        tracer = self._tracing.get()
        if tracer is not None and send.events:
            begin_send(send, tracer)

    def after_send_events(self, send: Send) -> None:
        """Close the span of the send."""
        end_send(send)


def _tracer_of(provider: TracerProvider) -> Tracer:
    if not is_replay_safe(provider):
        _logger.warning(
            "spans of replayed code will be exported by every request, because the tracer "
            "provider %s.%s is not replay-safe: call "
            "inngest_plugins.otel.make_replay_safe(provider) once, where it is set up",
            type(provider).__module__,
            type(provider).__qualname__,
        )
    return provider.get_tracer(SCOPE, _VERSION)


def _measures_of(provider: MeterProvider) -> Measures:
    return Measures(provider, SCOPE, _VERSION)


def _send_spans(call: Call, request: Request) -> Awaitable[None] | None:
    ledger = request.ledger
    if ledger is None or not ledger.exported or call.cancelled:
        return None
    spans, ledger.exported = ledger.exported, []
    exporter = InngestSpanExporter(call.client)
    if call.is_async:
        return _awaited(exporter, spans)
    exporter.export(spans)
    return None


async def _awaited(exporter: InngestSpanExporter, spans: Sequence[ReadableSpan]) -> None:
    await exporter.export_async(spans)
