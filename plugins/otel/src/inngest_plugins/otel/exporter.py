"""`InngestSpanExporter`: shows spans in Inngest's own trace view."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import inngest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from inngest_plugins.core import EngineApi
from inngest_plugins.otel.base.rewrite import context_of, rewritten
from inngest_plugins.otel.replay.origins import Origin, origin_of

PATH: Final = "/v1/traces/userland"
_HEADERS: Final = {"content-type": "application/x-protobuf"}
_MAX_BYTES: Final = 8 * 1024 * 1024
"""The most bytes that the endpoint takes in one request."""

_logger = logging.getLogger("inngest_plugins.otel")


class InngestSpanExporter(SpanExporter):
    """Sends spans of runs to the engine, which shows them under the right step of the right run.

    `OpenTelemetryPlugin(inngest_traces=True)` does so by itself, before each answer. Use the
    exporter directly to send them in another way, such as in batches: the spans must come from a
    replay-safe provider, and spans that belong to no run are left out. Never raises; what could
    not be sent is logged and dropped.

    Args:
        client: the Inngest client, for origin and credentials.
        timeout: seconds that sending may take.
    """

    def __init__(self, client: inngest.Inngest, *, timeout: float = 2.0) -> None:
        self._api = EngineApi(client, timeout=timeout, attempts=1)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans of runs among these."""
        content = self._encode(spans)
        if content is None:
            return SpanExportResult.SUCCESS
        try:
            response = self._api.request_sync("POST", PATH, content=content, headers=_HEADERS)
        except Exception as err:
            return _failed(f"{type(err).__name__}: {err}")
        return _checked(response.status_code, response.content)

    async def export_async(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans of runs among these without blocking the event loop."""
        content = self._encode(spans)
        if content is None:
            return SpanExportResult.SUCCESS
        try:
            response = await self._api.request("POST", PATH, content=content, headers=_HEADERS)
        except Exception as err:
            return _failed(f"{type(err).__name__}: {err}")
        return _checked(response.status_code, response.content)

    def shutdown(self) -> None:
        """Nothing is held open."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back."""
        return True

    def _encode(self, spans: Sequence[ReadableSpan]) -> bytes | None:
        placed = [p for p in map(_placed, spans) if p is not None]
        if not placed:
            return None
        content: bytes = encode_spans(placed).SerializeToString()
        if len(content) > _MAX_BYTES:
            _logger.warning(
                "%d spans of run code make %d bytes, which is more than the %d that the engine "
                "takes: they are not shown in its trace view",
                len(placed), len(content), _MAX_BYTES,
            )  # fmt: skip
            return None
        return content


def _placed(span: ReadableSpan) -> ReadableSpan | None:
    """Return the span with what the engine needs in order to place it, or None."""
    origin = origin_of(context_of(span).span_id)
    if not isinstance(origin, Origin) or origin.ledger.placement is None:
        return None
    placement = origin.ledger.placement
    attributes: dict[str, AttributeValue] = {
        "inngest.traceref": placement.traceref,
        "sys.function.id": placement.function_uuid,
        "sdk.run.id": placement.run_id,
    }
    if origin.step_hash is not None:
        attributes["inngest.step.hash"] = origin.step_hash
        attributes["inngest.step.attempt"] = origin.ledger.attempt
    parent = span.parent
    if parent is not None and _is_shown(parent.span_id):
        # The engine accepts no OTLP parent id, as it compares its length with that of its base64
        # text. It reads this attribute instead.
        attributes["inngest.step.parentSpanId"] = f"{int(parent.span_id):016x}"
    status = span.status
    if status.status_code is StatusCode.UNSET:
        # Without a status the engine shows the span as still running.
        status = Status(StatusCode.OK)
    return rewritten(span, attributes=attributes, status=status)


def _is_shown(span_id: int) -> bool:
    """Return whether the engine shows the span: user code's, but not the plugin's own."""
    return isinstance(origin_of(span_id), Origin)


def _checked(status: int, content: bytes) -> SpanExportResult:
    if status >= 300:
        return _failed(f"status {status}")
    rejected = ExportTraceServiceResponse.FromString(content).partial_success
    if rejected.rejected_spans:
        return _failed(f"{rejected.rejected_spans} spans rejected: {rejected.error_message}")
    return SpanExportResult.SUCCESS


def _failed(why: str) -> SpanExportResult:
    _logger.warning("spans of run code did not reach the engine's trace view (%s)", why)
    return SpanExportResult.FAILURE
