"""The metrics: names, units and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.util.types import AttributeValue

_SECONDS: Final[Sequence[float]] = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400,
)  # fmt: skip
_COUNTS: Final[Sequence[float]] = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
_BYTES: Final[Sequence[float]] = (
    256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 33554432,
)  # fmt: skip

Attributes = Mapping[str, AttributeValue]


class Instruments:
    """The plugin's instruments on one meter provider.

    Every one is a histogram, whose count is the number of runs, requests, steps and so on.
    Attributes are bounded by the code: ids of apps and functions, never of runs or steps.

    Args:
        provider: where to make them.
        version: the instrumentation scope's version.
    """

    def __init__(self, provider: MeterProvider, scope: str, version: str) -> None:
        meter = provider.get_meter(scope, version)

        def histogram(name: str, unit: str, description: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=bounds
            )

        self.run_duration = histogram(
            "inngest.run.duration", "s", "From the start of a run to its end", _SECONDS
        )
        self.request_duration = histogram(
            "inngest.request.duration", "s", "One request of a run", _SECONDS
        )
        self.step_duration = histogram(
            "inngest.step.duration", "s", "One attempt of a step", _SECONDS
        )
        self.step_attempts = histogram(
            "inngest.step.attempts", "{attempt}", "Attempts that a step took to end", _COUNTS
        )
        self.memoized_steps = histogram(
            "inngest.request.memoized_steps", "{step}", "Step results that came along", _COUNTS
        )
        self.payload_size = histogram("inngest.payload.size", "By", "Payloads, as JSON", _BYTES)
        self.plugin_duration = histogram(
            "inngest.plugin.hook.duration", "s", "Time in the hooks of the other plugins", _SECONDS
        )
        self.plugin_failures = meter.create_counter(
            "inngest.plugin.failures", "{failure}", "Requests that a plugin failed"
        )
