"""Beside plugins that seal and check payloads, and under another web framework."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import flask
import inngest
import inngest.flask
import pytest

from inngest_plugins.core import Layer, Plugin
from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import CARRIER_KEY, OpenTelemetryPlugin

if TYPE_CHECKING:
    from tests.otel.conftest import Telemetry

    from inngest_plugins.core import Call, Send, Step

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")


class Sealing(Plugin):
    """Seals event data whole, and opens nothing that has another shape."""

    layer = Layer.WIRE
    secret_payloads = True

    def transform_input(self, call: Call) -> None:
        for event in (call.event, *call.events):
            data: Any = dict(event.data)
            engine = {key: data.pop(key) for key in ("_inngest",) if key in data}
            if data.keys() != {"sealed"}:
                raise inngest.NonRetriableError(f"not sealed: {sorted(data)}")
            event.data = {**json.loads(data["sealed"][::-1]), **engine}

    def before_send_events(self, send: Send) -> None:
        for event in send.events:
            event.data = {"sealed": json.dumps(event.data)[::-1]}

    def transform_step_input(self, call: Call, step: Step) -> None:
        if step.op == "InvokeFunction" and step.input is not None:
            payload = step.input["payload"]
            sealed = {"sealed": json.dumps(payload["data"] or {})[::-1]}
            step.input = {**step.input, "payload": {**payload, "data": sealed}}


class Strict(Plugin):
    """Refuses event data with keys that it does not know."""

    layer = Layer.CONTRACT

    def transform_input(self, call: Call) -> None:
        if not call.event.data.keys() <= {"card", "_inngest"}:
            raise inngest.NonRetriableError(f"unknown keys: {sorted(call.event.data)}")


@pytest.mark.parametrize("last", [False, True], ids=["otel first", "otel last"])
async def test_the_carrier_survives_sealing_and_passes_by_validation(
    telemetry: Telemetry, last: bool
) -> None:
    """The carrier travels outside of sealed data; neither opening nor checking ever sees it."""
    client = telemetry.client(Strict(), Sealing())
    if last:
        client.middleware = list(reversed(client.middleware))

    async def note() -> None:
        return None

    @client.create_function(fn_id="pay", trigger=inngest.TriggerEvent(event="shop/pay"))
    async def pay(ctx: inngest.Context) -> Any:
        return ctx.event.data["card"]

    @client.create_function(fn_id="order", trigger=ORDER)
    async def order(ctx: inngest.Context) -> Any:
        await ctx.step.run("note", note)
        return await ctx.step.invoke("pay", function=pay, data={"card": "top secret"})

    async with LocalEngine(client, [order, pay]) as engine:
        run = await engine.run(
            inngest.Event(name="shop/order", data={"card": "top secret"}), function=order
        )
        paid = next(found for found in engine.runs if found.function_id == "shop-pay")

    assert run.output == "top secret"
    wire = run.requests[0].request["event"]["data"]
    assert wire.keys() == {"sealed", CARRIER_KEY}
    invoked = paid.requests[0].request["event"]["data"]
    assert invoked.keys() == {"sealed", CARRIER_KEY, "_inngest"}
    links = telemetry.one("run shop-pay").raw.links
    assert links[-1].context.span_id == telemetry.one("invoke shop-pay").id
    assert "top secret" not in "".join(span.raw.to_json() for span in telemetry.spans)


@pytest.mark.parametrize(
    "mode", [inngest.ParallelMode.WAIT, inngest.ParallelMode.RACE], ids=["wait", "race"]
)
async def test_flask_apps_have_the_same_traces(
    telemetry: Telemetry, mode: inngest.ParallelMode
) -> None:
    """Under Flask a run is one trace with every span once, RACE groups included."""
    client, tracer = telemetry.client(), telemetry.tracer

    def work(name: str = "") -> None:
        # In a race, two branches that end at the same moment let two requests end the function.
        while mode is inngest.ParallelMode.RACE and name == "r":
            if telemetry.named("l after"):
                break
            time.sleep(0.001)
        with tracer.start_as_current_span("inside"):
            pass

    @client.create_function(fn_id="f", trigger=ORDER)
    def function(ctx: inngest.ContextSync) -> None:
        with tracer.start_as_current_span("whole"):
            ctx.step.run("a", work)

            def branch(name: str) -> None:
                ctx.step.run(f"{name}1", work, name)
                with tracer.start_as_current_span(f"{name} between"):
                    pass
                ctx.step.run(f"{name}2", work, name)
                with tracer.start_as_current_span(f"{name} after"):
                    pass

            ctx.group.parallel((lambda: branch("l"), lambda: branch("r")), parallel_mode=mode)

    def serve(client: inngest.Inngest, functions: list[inngest.Function[Any]]) -> flask.Flask:
        app = flask.Flask("app")
        inngest.flask.serve(app, client, functions)
        return app

    async with LocalEngine(client, [function], serve=serve) as engine:
        run = await engine.run(inngest.Event(name="shop/order", data={}))

    assert run.status == "Completed"
    telemetry.check_exactly_once()
    expected = ["inside"] * 5 + ["whole"]
    expected += [f"{side} {where}" for side in "lr" for where in ("between", "after")]
    assert sorted(span.name for span in telemetry.users()) == sorted(expected)
    trace_id = run.requests[0].request_headers["traceparent"].split("-")[1]
    runs = [span for span in telemetry.spans if not span.name.startswith("send ")]
    assert {f"{span.trace_id:032x}" for span in runs} == {trace_id}


async def test_a_functions_plugin_replaces_the_clients(telemetry: Telemetry) -> None:
    """A default on the client and another one on a function: every span once, by the function's."""
    client, tracer = telemetry.client(), telemetry.tracer
    own = OpenTelemetryPlugin(
        tracer_provider=telemetry.provider, meter_provider=telemetry.meters, capture_payloads=True
    )

    async def work() -> str:
        with tracer.start_as_current_span("inside"):
            return "done"

    @client.create_function(fn_id="f", trigger=ORDER, middleware=[own])
    async def function(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("whole"):
            await ctx.step.run("a", work)

    run = await telemetry.run(client, function)

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == ["whole", "  step a", "    inside"]
    requests = telemetry.named("run shop-f")
    assert len(requests) == len(run.requests)
    assert all("inngest.input" in span.attributes for span in requests)
    assert telemetry.histogram("inngest.request.duration", inngest_outcome="completed").count == 1
