"""With no provider the plugin's hooks return at once."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import OpenTelemetryPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from tests.otel.conftest import Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
HOOKS = {
    "transform_input",
    "before_memoization",
    "after_memoization",
    "step_reached",
    "transform_step_input",
    "around_step",
    "after_execution",
    "transform_output",
    "before_send_events",
    "after_send_events",
}
LOOKED_UP = {"get_tracer_provider", "get_meter_provider"}


PLUGIN, API = "inngest_plugins.otel", "opentelemetry"


@contextmanager
def watched() -> Iterator[set[tuple[str, str]]]:
    """Collect what is called of the plugin, and what the plugin calls of OpenTelemetry.

    As pairs of a package's or module's last name and a function's.
    """
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, arg: object) -> None:
        module = module_of(frame)
        if event != "call" or not module.startswith((PLUGIN, API)):
            return
        if module.startswith(PLUGIN):
            called.add((module.rpartition(".")[2], frame.f_code.co_name))
        elif frame.f_back is not None and module_of(frame.f_back).startswith(PLUGIN):
            called.add((API, frame.f_code.co_name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


def module_of(frame: FrameType) -> str:
    """Name of the module whose code a frame runs."""
    return str(frame.f_globals.get("__name__", ""))


def app(plugin: OpenTelemetryPlugin) -> tuple[inngest.Inngest, list[inngest.Function[Any]]]:
    """A function with every kind of step, and one that it invokes."""
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[plugin])

    async def work() -> int:
        return 1

    @client.create_function(fn_id="g", trigger=inngest.TriggerEvent(event="shop/call"))
    async def other(ctx: inngest.Context) -> None:
        return None

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", work)
        await ctx.step.send_event("tell", inngest.Event(name="shop/told"))
        await ctx.step.invoke("call", function=other)

    return client, [function, other]


async def called_by_a_run(plugin: OpenTelemetryPlugin) -> set[tuple[str, str]]:
    """What a run with every kind of step calls of the plugin and of OpenTelemetry."""
    client, functions = app(plugin)
    async with LocalEngine(client, functions) as engine:
        with watched() as called:
            run = await engine.run(inngest.Event(name="shop/order"), function=functions[0])
    assert run.status == "Completed"
    return called


@pytest.mark.parametrize(
    "plugin",
    [
        OpenTelemetryPlugin(),
        OpenTelemetryPlugin(
            tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider()
        ),
    ],
    ids=["nothing set", "providers that do nothing"],
)
async def test_hooks_return_at_once(plugin: OpenTelemetryPlugin) -> None:
    """No span, no ledger, no measurement: only the providers and the carriers are looked for."""
    called = await called_by_a_run(plugin)

    assert {name for module, name in called if module == API} <= LOOKED_UP
    assert {name for module, name in called if module == "plugin" and name in HOOKS} == HOOKS
    # The garbage collector's own callback is there once another provider was used.
    called -= {("endings", "_note_collection")}
    assert {module for module, _ in called} <= {
        API, "plugin", "global_providers", "carrier", "body", "sends",
    }  # fmt: skip


async def test_the_watch_sees_what_a_provider_sets_in_motion(telemetry: Telemetry) -> None:
    """The same run with providers does all that the test above says is not done."""
    called = await called_by_a_run(
        OpenTelemetryPlugin(tracer_provider=telemetry.provider, meter_provider=telemetry.meters)
    )

    names = {name for _, name in called}
    assert {"begin_trace", "start_span", "record", "begin_send"} <= names
    assert {"ledger", "request", "measures", "profile"} <= {module for module, _ in called}


async def test_releases_that_keep_the_provider_elsewhere_are_followed_too(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the short cut the API's own functions are asked in each request."""
    monkeypatch.delattr(trace, "_TRACER_PROVIDER")
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    provider: Any = NoOpTracerProvider()
    client, functions = app(OpenTelemetryPlugin())
    async with LocalEngine(client, functions) as engine:
        await engine.run(inngest.Event(name="shop/order"), function=functions[0])
        provider = telemetry.provider
        await engine.run(inngest.Event(name="shop/order"), function=functions[0])

    assert (
        len({span.attributes["faas.invocation_id"] for span in telemetry.named("run shop-f")}) == 1
    )


async def test_providers_set_later_are_followed(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application may set its providers after the first request; each counts from then on."""
    client, functions = app(OpenTelemetryPlugin())

    async def run() -> None:
        async with LocalEngine(client, functions) as engine:
            await engine.run(inngest.Event(name="shop/order"), function=functions[0])
            await engine.settle()

    await run()
    assert not telemetry.points("inngest.request.duration")
    # What `set_meter_provider` and `set_tracer_provider` do, which they do but once in a process.
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", telemetry.meters)
    await run()
    assert telemetry.histogram("inngest.run.duration", inngest_function_id="shop-f").count == 1
    assert not telemetry.named("run shop-f")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", telemetry.provider)
    await run()
    assert telemetry.named("run shop-f")
    monkeypatch.undo()
    telemetry.exporter.clear()
    await run()
    assert not telemetry.named("run shop-f")
