"""Requires the extra `otel` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("otel", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")
