"""Spans of user code in the engine's own trace view."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import inngest
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import StatusCode
from tests.otel.test_otel_traces import RUN_ID, body, post

from inngest_plugins.core import answered_by
from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import InngestSpanExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.otel.conftest import Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
HASH_A = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"


class Endpoint(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Takes what is posted to the engine, in place of it."""

    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Keep a request and answer it."""
        request.read()
        self.requests.append(request)
        return self.answer()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Keep a request and answer it."""
        await request.aread()
        self.requests.append(request)
        return self.answer()

    @property
    def spans(self) -> list[dict[str, Any]]:
        """What was posted, decoded."""
        return [span for request in self.requests for span in decoded(request.content)]


def decoded(content: bytes) -> list[dict[str, Any]]:
    """The spans of an OTLP export request."""
    return [
        {
            "name": span.name,
            "id": span.span_id.hex(),
            "status": span.status.code,
            "attributes": {
                a.key: a.value.int_value if a.value.HasField("int_value") else a.value.string_value
                for a in span.attributes
            },
        }
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def accepted() -> httpx.Response:
    """The engine's answer when all is well."""
    return httpx.Response(200, content=ExportTraceServiceResponse().SerializeToString())


def nested(client: inngest.Inngest, telemetry: Telemetry) -> inngest.Function[Any]:
    """A function with spans in its body and, nested, in a step."""
    tracer = telemetry.tracer

    async def work() -> None:
        with tracer.start_as_current_span("top"), tracer.start_as_current_span("below"):
            pass
        with tracer.start_as_current_span("bad") as span:
            span.set_status(StatusCode.ERROR)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("body"):
            await ctx.step.run("a", work)

    return function


async def test_spans_are_sent_with_what_places_them(telemetry: Telemetry) -> None:
    """Spans of steps name run, function, step, attempt and parent; the plugin's own stay home."""
    client = telemetry.client(inngest_traces=True)
    endpoint = Endpoint(accepted)
    traceref = "%7B%22tp%22%3A%2200-7ec4816d786abe7e6fb19a8335ee4e5f-fa462957c0c90081-01%22%7D"
    headers = {
        "traceparent": "00-a7807b3b92947c3de9b6ca8fa2e35b4b-fc0fa718ec43c866-01",
        "tracestate": f"inngest@traceref={traceref},inngest@fn=b1a-uuid,inngest@app=app-uuid",
    }
    function = nested(client, telemetry)

    with answered_by(client, endpoint, endpoint):
        await post(client, function, headers, body(attempt=1))
        assert [span["name"] for span in endpoint.spans] == ["below", "top", "bad"]
        memoized = body(stack={"stack": [HASH_A], "current": 1})
        await post(client, function, headers, {**memoized, "steps": {HASH_A: {"data": None}}})

    below, top, bad, whole = endpoint.spans
    placed = {
        "inngest.traceref": traceref,
        "sys.function.id": "b1a-uuid",
        "sdk.run.id": RUN_ID,
        "inngest.step.hash": HASH_A,
        "inngest.step.attempt": 1,
    }
    assert top["attributes"] == placed
    assert below["attributes"] == {**placed, "inngest.step.parentSpanId": top["id"]}
    assert [span["status"] for span in (below, top, bad, whole)] == [1, 1, 2, 1]
    assert whole["name"] == "body"
    assert "inngest.step.hash" not in whole["attributes"]
    request = endpoint.requests[0]
    assert request.url.path == "/v1/traces/userland"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert "content-encoding" not in request.headers
    exported = telemetry.one("top")
    assert "inngest.traceref" not in exported.attributes


async def test_the_embedded_engine_takes_the_spans(telemetry: Telemetry) -> None:
    """Under the embedded engine the spans arrive, each once, over all of a run's requests."""
    client = telemetry.client(inngest_traces=True)
    function = nested(client, telemetry)

    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="shop/order"))
        spans = [span for sent in engine.userland_traces for span in decoded(sent.body)]

    assert {span["attributes"]["sdk.run.id"] for span in spans} == {run.id}
    names = [span["name"] for span in spans]

    assert sorted(names) == ["bad", "below", "body", "top"]


def test_sync_functions_send_their_spans_too(telemetry: Telemetry) -> None:
    """A sync function's spans are sent from its own thread."""
    client, tracer = telemetry.client(inngest_traces=True), telemetry.tracer

    def work() -> None:
        with tracer.start_as_current_span("inside"):
            pass

    @client.create_function(fn_id="f", trigger=ORDER)
    def function(ctx: inngest.ContextSync) -> None:
        ctx.step.run("a", work)

    async def main() -> list[str]:
        async with LocalEngine(client, [function]) as engine:
            await engine.run(inngest.Event(name="shop/order"))
            return [s["name"] for sent in engine.userland_traces for s in decoded(sent.body)]

    assert anyio.run(main) == ["inside"]


def refused() -> httpx.Response:
    """An engine that takes the request and rejects a span of it."""
    partial = ExportTracePartialSuccess(rejected_spans=1, error_message="unknown function")
    return httpx.Response(
        200, content=ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    )


def unreachable() -> httpx.Response:
    """An engine that is not there."""
    raise httpx.ConnectError("no route")


@pytest.mark.parametrize(
    "answer", [refused, unreachable, lambda: httpx.Response(413), lambda: httpx.Response(500)]
)
async def test_what_cannot_be_sent_does_not_disturb_the_run(
    telemetry: Telemetry, answer: Callable[[], httpx.Response], caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that rejects spans or is away costs a warning and nothing else."""
    client = telemetry.client(inngest_traces=True)
    endpoint = Endpoint(answer)
    headers = {"tracestate": "inngest@traceref=x,inngest@fn=y"}

    with answered_by(client, endpoint, endpoint), caplog.at_level(logging.WARNING):
        response = await post(client, nested(client, telemetry), headers, body())

    assert response.status_code == 206
    assert len(endpoint.requests) == 1
    assert [r.getMessage() for r in caplog.records if "did not reach" in r.getMessage()]


async def test_nothing_is_sent_when_the_engine_says_not_where(telemetry: Telemetry) -> None:
    """Without `tracestate` there is no place in the trace view, and no request."""
    client = telemetry.client(inngest_traces=True)
    endpoint = Endpoint(accepted)

    with answered_by(client, endpoint, endpoint):
        await post(client, nested(client, telemetry), {})

    assert not endpoint.requests


async def test_the_exporter_can_be_used_by_itself(telemetry: Telemetry) -> None:
    """As a plain span exporter it sends the spans of runs, and leaves others out."""
    client = telemetry.client()
    endpoint = Endpoint(accepted)
    exporter = InngestSpanExporter(client)
    telemetry.provider.add_span_processor(SimpleSpanProcessor(exporter))

    with answered_by(client, endpoint, endpoint):
        with telemetry.tracer.start_as_current_span("elsewhere"):
            pass
        assert not endpoint.requests
        headers = {"tracestate": "inngest@traceref=x,inngest@fn=y"}
        await post(client, nested(client, telemetry), headers, body())
        assert [span["name"] for span in endpoint.spans] == ["below", "top", "bad"]
        assert {span["attributes"]["inngest.step.hash"] for span in endpoint.spans} == {HASH_A}
        assert await exporter.export_async([]) is SpanExportResult.SUCCESS
    assert exporter.force_flush()


async def test_too_many_bytes_are_not_sent(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """What exceeds the endpoint's eight megabytes stays here, with a warning."""
    client, tracer = telemetry.client(inngest_traces=True), telemetry.tracer
    endpoint = Endpoint(accepted)

    async def work() -> None:
        with tracer.start_as_current_span("big") as span:
            span.set_attribute("big", "x" * (9 * 1024 * 1024))

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", work)

    headers = {"tracestate": "inngest@traceref=x,inngest@fn=y"}
    with answered_by(client, endpoint, endpoint):
        await post(client, function, headers, body())

    assert not endpoint.requests
    assert "more than" in caplog.text
