"""The metric `gen_ai.client.token.usage`, for calls that no instrumentation measures itself."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from inngest_plugins.core import ModelCall


def measure(calls: Iterable[ModelCall]) -> None:
    """Measure calls; without OpenTelemetry's API nothing happens.

    Name, unit and attributes: OpenTelemetry's semantic conventions for generative AI.
    """
    histogram = _histogram()
    if histogram is None:
        return
    for call in calls:
        attributes = {
            "gen_ai.operation.name": call.operation,
            "gen_ai.provider.name": call.provider or "unknown",
            "gen_ai.request.model": call.model,
        }
        if call.response_model is not None:
            attributes["gen_ai.response.model"] = call.response_model
        for kind, count in (("input", call.input_tokens), ("output", call.output_tokens)):
            if count is not None:
                histogram.record(count, {**attributes, "gen_ai.token.type": kind})


@functools.cache
def _histogram() -> Any:
    try:
        from opentelemetry import metrics
    except ImportError:
        return None
    # OpenTelemetry's API has a meter that does nothing until the app sets its provider.
    return metrics.get_meter("inngest_plugins.ai").create_histogram(
        "gen_ai.client.token.usage",
        unit="{token}",
        description="Number of input and output tokens used.",
    )
