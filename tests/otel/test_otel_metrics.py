"""Metrics: what is measured, in which unit, with which attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import inngest
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from inngest_plugins.core import Layer, Plugin
from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import OpenTelemetryPlugin
from inngest_plugins.otel.requests.profile import MAX_LABELS, Profiles

if TYPE_CHECKING:
    from tests.otel.conftest import Telemetry

    from inngest_plugins.core import Call

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")


async def test_runs_requests_steps_and_attempts_are_measured(telemetry: Telemetry) -> None:
    """Counts and durations are there for a run with a retried and a failed step."""
    client = telemetry.client()
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("not yet")
        return "ok"

    async def broken() -> None:
        raise KeyError("never")

    @client.create_function(fn_id="f", trigger=ORDER, retries=1)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("flaky", flaky)
        await ctx.step.run("broken", broken)

    await telemetry.run(client, function)

    of = {"inngest_function_id": "shop-f", "inngest_handler": "main"}
    run = telemetry.histogram("inngest.run.duration", **of)
    assert run.count == 1
    assert dict(run.attributes or {}) == {
        "inngest.app.id": "shop",
        "inngest.function.id": "shop-f",
        "inngest.handler": "main",
        "inngest.run.status": "failed",
        "error.type": "inngest._internal.errors.StepError",
    }
    requests = {
        point.attributes["inngest.outcome"]: point.count
        for point in telemetry.points("inngest.request.duration")
    }
    assert requests == {
        "step retrying": 2,
        "step completed": 1,
        "step failed": 1,
        "failed": 1,
    }
    steps = {
        (point.attributes["inngest.outcome"], point.attributes.get("error.type")): point.count
        for point in telemetry.points("inngest.step.duration")
    }
    assert steps == {
        ("retrying", "ValueError"): 1,
        ("completed", None): 1,
        ("retrying", "KeyError"): 1,
        ("failed", "KeyError"): 1,
    }
    attempts = {
        point.attributes["inngest.outcome"]: point.sum
        for point in telemetry.points("inngest.step.attempts")
    }
    assert attempts == {"completed": 2, "failed": 2}
    memoized = telemetry.histogram("inngest.request.memoized_steps", **of)
    assert (memoized.count, memoized.sum) == (5, 0 + 0 + 1 + 1 + 2)


@pytest.mark.parametrize(("output", "expected"), [("1234", len('"1234"')), ("é€", 2 + 2 + 3)])
async def test_payload_sizes_are_bytes_of_json(
    telemetry: Telemetry, output: str, expected: int
) -> None:
    """Sizes are recorded in bytes of UTF-8: text beyond ASCII counts as on the wire, unescaped."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> str:
        return output

    await telemetry.run(client, function)

    size = telemetry.histogram("inngest.payload.size", inngest_payload_direction="output")
    assert size.sum == expected
    received = telemetry.histogram("inngest.payload.size", inngest_payload_direction="input")
    assert received.sum == len("[{}]")


async def test_plugin_time_and_failures_are_measured(telemetry: Telemetry) -> None:
    """A plugin that fails a request is counted, and the time in hooks is measured by hook."""

    class Broken(Plugin):
        layer = Layer.CONTRACT

        def transform_input(self, call: Call) -> None:
            raise ValueError("refused")

    client = telemetry.client(Broken())

    @client.create_function(fn_id="f", trigger=ORDER, retries=0)
    async def function(ctx: inngest.Context) -> None:
        return None

    run = await telemetry.run(client, function)

    assert run.status == "Failed"
    (failures,) = telemetry.points("inngest.plugin.failures")
    assert failures.value == 1
    assert failures.attributes["error.type"] == "ValueError"
    request = telemetry.one("run shop-f")
    assert request.status == "ERROR"
    assert request.attributes["inngest.outcome"] == "failed"


async def test_hooks_that_no_other_plugin_has_are_not_measured(telemetry: Telemetry) -> None:
    """Hook time is the other plugins': where none of them has the hook there is none."""

    class Inward(Plugin):
        def transform_input(self, call: Call) -> None:
            return None

    alone, beside = telemetry.client(app_id="alone"), telemetry.client(Inward(), app_id="beside")
    for client in (alone, beside):

        @client.create_function(fn_id="f", trigger=ORDER)
        async def function(ctx: inngest.Context) -> None:
            return None

        await telemetry.run(client, function)

    times = telemetry.points("inngest.plugin.hook.duration")
    assert [
        (point.attributes["inngest.app.id"], point.attributes["inngest.plugin.hook"], point.count)
        for point in times
    ] == [("beside", "transform_input", 1)]


async def test_attributes_are_bounded(telemetry: Telemetry) -> None:
    """No metric carries an id of a run, a request, an event or a step."""

    class Busy(Plugin):
        def transform_input(self, call: Call) -> None:
            return None

    client = telemetry.client(Busy())

    async def work() -> None:
        return None

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        for number in range(3):
            await ctx.step.run(f"step-{number}", work)

    first = await telemetry.run(client, function)

    data: Any = telemetry.reader.get_metrics_data()
    text = data.to_json()
    assert "inngest.step.duration" in text
    assert first.id not in text
    assert "step-1" not in text
    units = {
        metric.name: metric.unit
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert units == {
        "inngest.run.duration": "s",
        "inngest.request.duration": "s",
        "inngest.step.duration": "s",
        "inngest.step.attempts": "{attempt}",
        "inngest.request.memoized_steps": "{step}",
        "inngest.payload.size": "By",
        "inngest.plugin.hook.duration": "s",
    }


async def test_sets_of_attributes_are_kept_and_their_number_is_bounded(
    telemetry: Telemetry,
) -> None:
    """A function's attributes are made once each, up to a limit that no bounded code reaches."""
    calls: list[Call] = []

    class Keeping(Plugin):
        def transform_input(self, call: Call) -> None:
            calls.append(call)

    plugin = Keeping()
    client = telemetry.client(plugin)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        return None

    await telemetry.run(client, function)
    profiles = Profiles(plugin)
    profile = profiles.of(calls[0])

    assert profiles.of(calls[0]) is profile
    assert profile.labels() is profile.labels()
    assert profile.labels("error.type", "E0") is profile.labels("error.type", "E0")
    made = [profile.labels("error.type", f"E{number}") for number in range(2 * MAX_LABELS)]
    assert [labels["error.type"] for labels in made[-2:]] == ["E510", "E511"]
    assert profile.labels("error.type", "E511") == made[-1]
    assert profile.labels("error.type", "E511") is not made[-1]
    assert all(labels["inngest.function.id"] == "shop-f" for labels in made)


async def test_metrics_work_without_tracing() -> None:
    """A meter provider alone is enough for metrics; nothing is traced then."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    plugin = OpenTelemetryPlugin(meter_provider=meters)
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[plugin])

    async def work() -> None:
        return None

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", work)

    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="shop/order"))

    assert run.requests[0].request["event"]["data"] == {}
    data: Any = reader.get_metrics_data()
    names = {m.name for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {"inngest.run.duration", "inngest.step.duration"} <= names
    meters.shutdown()
