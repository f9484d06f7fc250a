"""What the plugin says of payloads and errors, and to whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.core import Layer, Plugin

if TYPE_CHECKING:
    from tests.otel.conftest import Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
SECRET = "4111-1111"


class Sealing(Plugin):
    """Stands for encryption: a plugin that keeps payloads secret."""

    layer = Layer.WIRE
    secret_payloads = True


def told(telemetry: Telemetry) -> str:
    """All that was exported, as text."""
    return "\n".join(span.raw.to_json() for span in telemetry.spans)


def failing(client: inngest.Inngest, telemetry: Telemetry) -> inngest.Function[Any]:
    """A function whose step and body put a secret into error messages."""
    tracer = telemetry.tracer

    async def charge() -> None:
        with tracer.start_as_current_span("call bank"):
            raise ValueError(f"card {SECRET} declined")

    @client.create_function(fn_id="f", trigger=ORDER, retries=0)
    async def function(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("whole"):
            await ctx.step.run("charge", charge)

    return function


async def test_payloads_stay_out_of_spans_and_metrics(telemetry: Telemetry) -> None:
    """Event data, step results and outputs are not exported unless asked for."""
    client = telemetry.client()

    async def charge() -> dict[str, str]:
        return {"card": SECRET}

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> Any:
        return await ctx.step.run("charge", charge)

    await telemetry.run(client, function, data={"card": SECRET})

    assert telemetry.spans
    assert SECRET not in told(telemetry)
    assert SECRET not in str(telemetry.reader.get_metrics_data())


async def test_payloads_are_captured_on_demand(telemetry: Telemetry) -> None:
    """`capture_payloads` puts input and output into attributes, cut off where they get long."""
    client = telemetry.client(capture_payloads=True)

    async def charge() -> str:
        return "x" * 10_000

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> dict[str, int]:
        return {"length": len(await ctx.step.run("charge", charge))}

    await telemetry.run(client, function, data={"n": 1})

    last = telemetry.named("run shop-f")[-1]
    assert json.loads(last.attributes["inngest.input"]) == [{"n": 1}]
    assert json.loads(last.attributes["inngest.output"]) == {"length": 10_000}
    assert len(telemetry.one("step charge").attributes["inngest.output"]) == 4096


@pytest.mark.parametrize(
    ("exception_messages", "sealed", "kept"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
async def test_one_switch_governs_exception_messages(
    telemetry: Telemetry, exception_messages: bool | None, sealed: bool, kept: bool
) -> None:
    """Messages and tracebacks go by the switch, on the plugin's spans and on user code's alike.

    By default they stay unless payloads are secret. Exception types always stay.
    """
    others = [Sealing()] if sealed else []
    client = telemetry.client(*others, exception_messages=exception_messages)

    await telemetry.run(client, failing(client, telemetry))

    spans = [*telemetry.named("call bank"), *telemetry.named("step charge")]
    spans += [*telemetry.named("whole"), telemetry.named("run shop-f")[-1]]
    assert len(spans) == 4
    assert [span.status for span in spans] == ["ERROR"] * 4
    types = [span.raw.events[0].attributes or {} for span in spans]
    assert [str(a["exception.type"]).split(".")[-1] for a in types] == [
        "ValueError",
        "ValueError",
        "StepError",
        "StepError",
    ]
    for span in spans:
        assert (SECRET in span.raw.to_json()) is kept
    assert telemetry.one("step charge").attributes["error.type"] == "ValueError"
