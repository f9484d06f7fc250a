"""Which trace a run belongs to, and how it hangs together with its neighbours."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import inngest.fast_api
import pytest
from fastapi import FastAPI
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from inngest_plugins.local import LocalEngine
from inngest_plugins.otel import CARRIER_KEY, OpenTelemetryPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.otel.conftest import Exported, Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
RUN_ID = "01M7Y83W47AWHPGXRZ4WYQADAC"
ENGINE_TRACE = "a7807b3b92947c3de9b6ca8fa2e35b4b"


def links_of(span: Exported) -> list[int]:
    """Ids of the spans that a span links to.

    The embedded engine calls the app within the context of who started it, so that a span which is
    current there is linked to as well, before the others.
    """
    return [link.context.span_id for link in span.raw.links]


async def done() -> str:
    """A step's handler."""
    return "done"


def body(**ctx: Any) -> dict[str, Any]:
    """A request body as the engine sends it."""
    event = {"name": "shop/order", "data": {}, "id": "01M7Y83W3Q", "ts": 1}
    return {
        "ctx": {
            "attempt": 0,
            "disable_immediate_execution": False,
            "run_id": RUN_ID,
            "stack": {"stack": [], "current": 0},
            "use_api": False,
            "max_attempts": 3,
            **ctx,
        },
        "event": event,
        "events": [event],
        "steps": {},
        "use_api": False,
    }


async def post(
    client: inngest.Inngest,
    function: inngest.Function[Any],
    headers: dict[str, str],
    sent: dict[str, Any] | None = None,
    fn_id: str | None = None,
) -> httpx.Response:
    """Send one request to an app as the engine does."""
    app = FastAPI()
    inngest.fast_api.serve(app, client, [function])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        return await http.post(
            "/api/inngest",
            params={"fnId": fn_id or function.id, "stepId": "step"},
            json=sent or body(),
            headers=headers,
        )


@contextlib.contextmanager
def attached(ctx: context.Context) -> Iterator[None]:
    """Make a context the current one."""
    token = context.attach(ctx)
    try:
        yield
    finally:
        context.detach(token)


async def test_a_run_is_one_trace_the_engines(telemetry: Telemetry) -> None:
    """All requests, attempts and the failure handler continue the traceparent of the engine."""
    client = telemetry.client()

    async def broken() -> None:
        raise ValueError("broken")

    async def on_failure(ctx: inngest.Context) -> None:
        await ctx.step.run("note", done)

    @client.create_function(fn_id="f", trigger=ORDER, retries=1, on_failure=on_failure)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)
        await ctx.step.run("b", broken)

    run = await telemetry.run(client, function)

    headers = run.requests[0].request_headers
    requests = telemetry.named("run shop-f")
    assert len(requests) == 6
    assert {f"{span.trace_id:032x}" for span in requests} == {headers["traceparent"].split("-")[1]}
    assert all(span.parent is not None and span.parent.is_remote for span in requests)
    assert [span.attributes["inngest.outcome"] for span in requests] == [
        "step completed",
        "step retrying",
        "step failed",
        "failed",
        "step completed",
        "completed",
    ]
    assert [span.status for span in requests] == ["UNSET"] * 3 + ["ERROR"] + ["UNSET"] * 2
    handlers = [span.attributes["inngest.handler"] for span in requests]
    assert handlers == ["main"] * 4 + ["on_failure"] * 2
    assert telemetry.one("step note").trace_id == requests[0].trace_id


async def test_without_a_traceparent_every_request_derives_the_same_trace(
    telemetry: Telemetry,
) -> None:
    """Workers that share nothing agree on the trace of a run, and of its failure handler."""
    client = telemetry.client()

    async def on_failure(ctx: inngest.Context) -> None:
        return None

    @client.create_function(fn_id="f", trigger=ORDER, on_failure=on_failure)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)

    await post(client, function, {})
    await post(client, function, {}, body(attempt=1))
    failure = body(run_id="01M7Y83XBEYQFH0FEF75WQ6FEB", max_attempts=1)
    failed = {"name": "inngest/function.failed", "data": {"run_id": RUN_ID, "event": {}}, "id": "x"}
    failure |= {"event": failed, "events": [failed]}
    await post(client, function, {}, failure, fn_id="shop-f-failure")

    requests = telemetry.named("run shop-f")
    assert len(requests) == 3
    assert len({span.trace_id for span in requests}) == 1
    assert [span.parent for span in requests] == [None] * 3


@pytest.mark.parametrize("same_trace", [True, False])
async def test_a_span_of_the_web_framework_is_parent_or_link(
    telemetry: Telemetry, same_trace: bool
) -> None:
    """A server span in the engine's trace is the parent; one in another trace is linked to."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        return None

    trace_id = int(ENGINE_TRACE, 16) if same_trace else 7
    server = SpanContext(trace_id, 9, is_remote=False, trace_flags=TraceFlags(1))
    with attached(trace.set_span_in_context(trace.NonRecordingSpan(server))):
        await post(client, function, {"traceparent": f"00-{ENGINE_TRACE}-fc0fa718ec43c866-01"})

    request = telemetry.one("run shop-f")
    assert request.trace_id == int(ENGINE_TRACE, 16)
    if same_trace:
        assert request.parent_id == 9
        assert not request.raw.links
    else:
        assert f"{request.parent_id:016x}" == "fc0fa718ec43c866"
        assert links_of(request) == [9]


async def test_request_spans_follow_the_semantic_conventions(telemetry: Telemetry) -> None:
    """A request span is a consumer's, with messaging and FaaS attributes."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)

    headers = {"x-request-id": "01REQUEST", "x-inngest-job-id": "job"}
    await post(client, function, headers)

    request, step = telemetry.one("run shop-f"), telemetry.one("step a")
    assert request.raw.kind is SpanKind.CONSUMER
    described = request.attributes
    code = {name: described.pop(name) for name in list(described) if name.startswith("code.")}
    assert set(code) == {"code.function.name", "code.file.path", "code.line.number"}
    assert described == {
        "messaging.system": "inngest",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop/order",
        "messaging.message.id": "01M7Y83W3Q",
        "faas.name": "shop-f",
        "faas.invocation_id": RUN_ID,
        "faas.trigger": "pubsub",
        "inngest.app.id": "shop",
        "inngest.function.id": "shop-f",
        "inngest.run.id": RUN_ID,
        "inngest.handler": "main",
        "inngest.attempt": 0,
        "inngest.memoized_steps": 0,
        "inngest.request.id": "01REQUEST",
        "inngest.job.id": "job",
        "inngest.outcome": "step completed",
    }
    assert step.attributes == {
        "inngest.run.id": RUN_ID,
        "inngest.function.id": "shop-f",
        "inngest.step.id": "a",
        "inngest.step.hash": "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8",
        "inngest.step.op": "StepRun",
        "inngest.attempt": 0,
        "inngest.outcome": "completed",
    }


async def test_a_memoization_span_covers_the_replay(telemetry: Telemetry) -> None:
    """Requests that came with memos have a memoization span below them, others none."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)
        await ctx.step.run("b", done)

    await telemetry.run(client, function)

    requests = telemetry.named("run shop-f")
    replays = telemetry.named("memoization")
    assert [span.parent_id for span in replays] == [span.id for span in requests[1:]]


async def test_events_carry_the_trace_and_baggage_to_the_run_they_trigger(
    telemetry: Telemetry,
) -> None:
    """`client.send`, `step.send_event`: the triggered run links to its producer."""
    client, tracer = telemetry.client(), telemetry.tracer
    seen: list[dict[str, Any]] = []
    bags: list[object] = []

    @client.create_function(fn_id="parent", trigger=ORDER)
    async def parent(ctx: inngest.Context) -> None:
        seen.append(dict(ctx.event.data))
        await ctx.step.send_event("tell", inngest.Event(name="shop/told", data={"n": 1}))

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="shop/told"))
    async def child(ctx: inngest.Context) -> None:
        seen.append(dict(ctx.event.data))
        bags.append(baggage.get_baggage("tenant"))

        async def inside() -> None:
            bags.append(baggage.get_baggage("tenant"))

        await ctx.step.run("inside", inside)

    with tracer.start_as_current_span("checkout"), attached(baggage.set_baggage("tenant", "t1")):
        run = await telemetry.run(client, parent, child, data={"n": 0})

    telemetry.check_exactly_once()
    assert sorted(data["n"] for data in seen) == [0, 0, 1, 1]
    assert all(data.keys() == {"n"} for data in seen)
    assert bags == ["t1"] * 3
    assert run.requests[0].request["event"]["data"].keys() == {"n", CARRIER_KEY}
    sent, told = telemetry.one("send shop/order"), telemetry.one("send shop/told")
    first = telemetry.named("run shop-parent")[0]
    heard = telemetry.named("run shop-child")[0]
    assert sent.raw.kind is SpanKind.PRODUCER
    assert sent.parent_id == telemetry.one("checkout").id
    assert told.parent_id == telemetry.one("step tell").id
    assert links_of(first)[-1] == sent.id
    assert links_of(heard)[-1] == told.id
    assert first.trace_id != sent.trace_id
    later = telemetry.named("run shop-child")[1:]
    assert later
    assert all(told.id not in links_of(span) for span in later)
    assert told.attributes["inngest.event.ids"] == (told.attributes["messaging.message.id"],)


async def test_a_triggered_run_continues_its_producers_trace_if_told_to(
    telemetry: Telemetry,
) -> None:
    """With `continue_traces` sender and run are one trace, in all of the run's requests."""
    client = telemetry.client(continue_traces=True)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)

    await telemetry.run(client, function)

    sent = telemetry.one("send shop/order")
    requests = telemetry.named("run shop-f")
    assert {span.trace_id for span in requests} == {sent.trace_id}
    assert [span.parent_id for span in requests] == [sent.id] * 2
    assert not requests[0].raw.links


async def test_invoke_chains_over_two_apps_hang_together(telemetry: Telemetry) -> None:
    """An invoke carries the trace in its data, from app to app, and the callee never sees it."""
    shop, bank = telemetry.client(), telemetry.client(app_id="bank")
    seen: list[Any] = []

    @bank.create_function(fn_id="pay", trigger=inngest.TriggerEvent(event="bank/pay"))
    async def pay(ctx: inngest.Context) -> str:
        seen.append({k: v for k, v in ctx.event.data.items() if k != "_inngest"})
        return "paid"

    @shop.create_function(fn_id="order", trigger=ORDER)
    async def order(ctx: inngest.Context) -> list[str]:
        alone = await ctx.step.invoke("pay", function=pay_here, data={"sum": 5})
        both = await ctx.group.parallel(
            (
                lambda: ctx.step.invoke("with data", function=pay_here, data={"sum": 6}),
                lambda: ctx.step.invoke("without", function=pay_here),
            )
        )
        return [alone, *both]

    # The embedded engine serves one app; the second one's function is posted what was sent to it.
    @shop.create_function(fn_id="pay", trigger=inngest.TriggerEvent(event="shop/pay"))
    async def pay_here(ctx: inngest.Context) -> str:
        seen.append({k: v for k, v in ctx.event.data.items() if k != "_inngest"})
        return "paid"

    async with LocalEngine(shop, [order, pay_here]) as engine:
        run = await engine.run(inngest.Event(name="shop/order", data={}), function=order)
        await engine.settle()
        invoked = [r for r in engine.runs if r.function_id == "shop-pay"]
    assert run.output == ["paid"] * 3
    assert sorted(map(str, seen)) == sorted(map(str, [{"sum": 5}, {"sum": 6}, {}]))
    sent = invoked[0].requests[0].request
    await post(bank, pay, {"traceparent": invoked[0].requests[0].request_headers["traceparent"]}, {
        **sent, "ctx": {**sent["ctx"], "run_id": RUN_ID}
    })  # fmt: skip

    telemetry.check_exactly_once()
    calls = telemetry.named("invoke shop-pay")
    assert len(calls) == 3
    links = [s.raw.links[0].context.span_id for s in telemetry.named("run shop-pay")]
    assert sorted(links) == sorted(call.id for call in calls)
    elsewhere = telemetry.one("run bank-pay")
    assert elsewhere.trace_id == calls[0].trace_id
    assert elsewhere.raw.links[0].context.span_id in {call.id for call in calls}
    assert seen[-1] == seen[0]


async def test_a_waited_for_event_reaches_the_handler_without_carrier(
    telemetry: Telemetry,
) -> None:
    """The event that `wait_for_event` returns has the sender's data, and nothing more."""
    client = telemetry.client()
    seen: list[Any] = []

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.send_event("tell", inngest.Event(name="shop/told", data={"n": 1}))
        event = await ctx.step.wait_for_event("wait", event="shop/paid", timeout=60_000)
        seen.append(None if event is None else dict(event.data))

    async with LocalEngine(client, [function, telling(client)]) as engine:
        await engine.run(inngest.Event(name="shop/order", data={}))
        await engine.settle()

    assert {"sum": 5} in seen


def telling(client: inngest.Inngest) -> inngest.Function[Any]:
    """A function that answers `shop/told` with `shop/paid`, a little later."""

    @client.create_function(fn_id="teller", trigger=inngest.TriggerEvent(event="shop/told"))
    async def teller(ctx: inngest.Context) -> None:
        await ctx.step.sleep("later", 1000)
        await ctx.step.send_event("pay", inngest.Event(name="shop/paid", data={"sum": 5}))

    return teller


async def test_failure_events_quote_the_trigger_without_carrier(telemetry: Telemetry) -> None:
    """The event that a failure handler finds in `event.data` is as the sender made it."""
    client = telemetry.client()
    seen: list[Any] = []

    async def on_failure(ctx: inngest.Context) -> None:
        data: Any = ctx.event.data
        seen.extend([data["event"]["data"], data["events"][0]["data"]])

    @client.create_function(fn_id="f", trigger=ORDER, retries=0, on_failure=on_failure)
    async def function(ctx: inngest.Context) -> None:
        raise ValueError("broken")

    await telemetry.run(client, function, data={"n": 1})

    assert seen == [{"n": 1}, {"n": 1}]


async def test_a_users_own_value_under_the_carriers_key_is_left_alone(
    telemetry: Telemetry,
) -> None:
    """Only what is a carrier is taken out of the data."""
    client = telemetry.client()
    seen: list[Any] = []

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        seen.append(dict(ctx.event.data))

    values: list[Any] = [{"mine": "value"}, "text", {}, {"traceparent": 5}]
    for own in values:
        sent = body()
        sent["event"]["data"] = {CARRIER_KEY: own}
        await post(client, function, {}, sent)

    assert seen == [
        {CARRIER_KEY: own} for own in ({"mine": "value"}, "text", {}, {"traceparent": 5})
    ]


async def test_a_carrier_is_taken_out_though_nothing_is_traced() -> None:
    """An app whose plugin has no provider still hands clean data to its functions."""
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[OpenTelemetryPlugin()])
    seen: list[Any] = []

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        seen.append(dict(ctx.event.data))

    sent = body()
    sent["event"]["data"] = {CARRIER_KEY: {"traceparent": "00-1-2-01"}, "n": 1}
    assert (await post(client, function, {}, sent)).status_code == 200

    assert seen == [{"n": 1}]


async def test_a_send_that_fails_is_an_error_of_its_span_only(telemetry: Telemetry) -> None:
    """The producer span of events that could not be sent says so, and is closed."""
    client = telemetry.client()
    offline = inngest.Inngest(
        app_id="shop",
        is_production=False,
        event_api_base_url="http://127.0.0.1:9",
        middleware=client.middleware,
    )

    with pytest.raises(Exception):  # noqa: B017 - the SDK's own
        await offline.send(inngest.Event(name="shop/order"))

    assert telemetry.one("send shop/order").status == "ERROR"


async def test_context_does_not_leak_out_of_a_request(telemetry: Telemetry) -> None:
    """After a request, in the same task, no span is current."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> str:
        current = trace.get_current_span().get_span_context()
        return f"{current.span_id:x}"

    answer = await post(client, function, {})

    assert answer.json() == f"{telemetry.one('run shop-f').id:x}"
    assert trace.get_current_span() is trace.INVALID_SPAN
