"""One trace a run, one transaction a request, and what Sentry's Queues view reads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import inngest
import pytest
import sentry_sdk
from sentry_sdk.consts import DEFAULT_OPTIONS

from inngest_plugins.local import LocalEngine
from inngest_plugins.sentry import SentryPlugin

if TYPE_CHECKING:
    from tests.sentry.conftest import MakeShop, Sentry

pytestmark = pytest.mark.anyio


async def fine() -> str:
    return "fine"


async def boom() -> None:
    raise ValueError("boom")


async def three_steps(ctx: Any, step: Any) -> str:
    await step.run("a", fine)
    await step.sleep("nap", 1000)
    await step.run("b", fine)
    return "done"


def traces(sentry: Sentry) -> list[dict[str, Any]]:
    return [transaction["contexts"]["trace"] for transaction in sentry.transactions]


def status_of(span: dict[str, Any]) -> Any:
    """Return a span's status, which older releases of sentry-sdk keep among the tags."""
    return span.get("status") or span["tags"]["status"]


async def test_spans_of_a_run(sentry: Sentry, shop: MakeShop) -> None:
    """Each request is one transaction; replayed steps have no span, steps that ran have one."""
    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(three_steps)
    await app.run()
    assert sentry.lines() == [
        "transaction fulfil queue.process ok [inngest.step a]",
        "transaction fulfil queue.process ok [inngest.memoization memoization]",
        "transaction fulfil queue.process ok [inngest.memoization memoization, inngest.step b]",
        "transaction fulfil queue.process ok [inngest.memoization memoization]",
    ]


async def test_envelopes_of_a_failed_run(sentry: Sentry, shop: MakeShop) -> None:
    """Errors and transactions of a run, in order; the error lies in its request's trace."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("a", fine)
        await step.run("charge", boom)

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body, retries=1)
    await app.run()
    replay = "inngest.memoization memoization"
    assert sentry.lines() == [
        "transaction fulfil queue.process ok [inngest.step a]",
        f"transaction fulfil queue.process internal_error [{replay}, inngest.step charge]",
        f"transaction fulfil queue.process internal_error [{replay}, inngest.step charge]",
        "error ValueError(boom) step=charge attempt=1 unhandled",
        f"transaction fulfil queue.process internal_error [{replay}]",
    ]
    (error,) = sentry.errors
    spans = sentry.transactions[2]["spans"]
    (charge,) = [span for span in spans if span["op"] == "inngest.step"]
    within = {traces(sentry)[2]["span_id"], charge["span_id"]}
    assert error["contexts"]["trace"]["span_id"] in within
    assert error["transaction"] == "fulfil"
    assert status_of(sentry.transactions[1]["spans"][-1]) == "internal_error"


async def test_one_trace_a_run(sentry: Sentry, shop: MakeShop) -> None:
    """All requests of a run are in the engine's trace, below the run's first request."""
    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(three_steps)
    run = await app.run()
    engine = {request.request_headers["traceparent"].split("-")[1] for request in run.requests}
    assert {trace["trace_id"] for trace in traces(sentry)} == engine
    first, *others = traces(sentry)
    assert first.get("parent_span_id") is None
    assert {trace["parent_span_id"] for trace in others} == {first["span_id"]}


async def test_errors_are_in_the_trace_without_tracing(sentry: Sentry, shop: MakeShop) -> None:
    """Without tracing there are no transactions, but errors still name the run's trace."""

    async def body(ctx: Any, step: Any) -> None:
        raise ValueError("boom")

    sentry.init()
    app = shop(SentryPlugin())
    app.function(body, retries=0)
    run = await app.run()
    (error,) = sentry.errors
    trace_id = run.requests[0].request_headers["traceparent"].split("-")[1]
    assert error["contexts"]["trace"]["trace_id"] == trace_id
    assert sentry.transactions == []


async def test_queue_data(sentry: Sentry, shop: MakeShop) -> None:
    """The run's first request holds what the Queues view shows; later ones no latency or size."""
    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(three_steps)
    run = await app.run({"id": 1})
    first, later, *_ = (trace["data"] for trace in traces(sentry))
    assert first["messaging.system"] == "inngest"
    assert first["messaging.destination.name"] == "shop/order.placed"
    assert first["messaging.message.id"] == run.requests[0].request["event"]["id"]
    assert first["messaging.message.retry.count"] == 0
    assert first["messaging.message.body.size"] == len('{"id": 1}')
    assert first["messaging.message.receive.latency"] >= 0
    assert "messaging.message.receive.latency" not in later
    assert "messaging.message.body.size" not in later


async def test_retry_count(sentry: Sentry, shop: MakeShop) -> None:
    """A retried request says how often it was tried before."""

    async def body(ctx: Any, step: Any) -> None:
        raise ValueError("boom")

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body, retries=2)
    await app.run()
    counts = [trace["data"]["messaging.message.retry.count"] for trace in traces(sentry)]
    assert counts == [0, 1, 2]


async def test_sampling_is_decided_once_a_run(sentry: Sentry, shop: MakeShop) -> None:
    """Of many runs some are sampled and some not, each with all of its requests."""
    sentry.init(traces_sample_rate=0.5)
    app = shop(SentryPlugin())
    app.function(three_steps)
    async with LocalEngine(app.client, app.functions) as engine:
        await engine.send([inngest.Event(name="shop/order.placed") for _ in range(40)])
        await engine.settle()
    by_trace: dict[str, int] = {}
    for trace in traces(sentry):
        by_trace[trace["trace_id"]] = by_trace.get(trace["trace_id"], 0) + 1
    assert set(by_trace.values()) == {4}
    assert 5 < len(by_trace) < 35


async def test_the_sampler_knows_the_run(sentry: Sentry, shop: MakeShop) -> None:
    """A traces_sampler is told what the request belongs to."""
    seen: list[dict[str, Any]] = []

    def sampler(context: dict[str, Any]) -> float:
        seen.append(context["inngest"])
        return 0.0

    sentry.init(traces_sampler=sampler)
    app = shop(SentryPlugin())
    app.function(three_steps)
    run = await app.run()
    assert sentry.lines() == []
    assert (
        seen
        == [
            {
                "app_id": "shop",
                "function_id": "shop-fulfil",
                "event_name": "shop/order.placed",
                "run_id": run.id,
            }
        ]
        * 4
    )


async def test_sends_carry_the_trace(sentry: Sentry, shop: MakeShop) -> None:
    """A run that another run's event starts is in its trace, and no handler sees the carrier."""
    seen: list[Any] = []
    sent = {"order": 7}

    async def body(ctx: Any, step: Any) -> None:
        await step.send_event("tell", inngest.Event(name="shop/paid", data=sent))

    async def receiver(ctx: Any, step: Any) -> None:
        seen.append([dict(event.data) for event in (ctx.event, *ctx.events)])

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body)
    app.function(receiver, name="receive", event="shop/paid")
    await app.run()
    assert seen == [[{"order": 7}, {"order": 7}]]
    assert sent == {"order": 7}
    # The receiver may be done before the sender's request is.
    (received,) = [t for t in sentry.transactions if t["transaction"] == "receive"]
    ((sender, publish),) = [
        (transaction, span)
        for transaction in sentry.transactions
        for span in transaction["spans"]
        if span["op"] == "queue.publish"
    ]
    assert received["contexts"]["trace"]["trace_id"] == sender["contexts"]["trace"]["trace_id"]
    assert received["contexts"]["trace"]["parent_span_id"] == publish["span_id"]
    assert publish["data"]["messaging.destination.name"] == "shop/paid"
    assert publish["data"]["messaging.message.body.size"] == len('{"order": 7}')
    message_id = received["contexts"]["trace"]["data"]["messaging.message.id"]
    assert publish["data"]["messaging.message.id"] == message_id
    assert status_of(publish) == "ok"


async def test_sends_of_a_web_request(sentry: Sentry, async_shop: MakeShop) -> None:
    """A run started inside of a transaction continues it, with its sampling decision."""

    async def body(ctx: Any, step: Any) -> None:
        assert "_sentry" not in ctx.event.data

    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())
    app.function(body)
    for sampled in (True, False):
        sentry.clear()
        with sentry_sdk.start_transaction(name="checkout", sampled=sampled) as transaction:
            await app.run()
        names = [t["transaction"] for t in sentry.transactions]
        assert names == (["fulfil", "checkout"] if sampled else [])
        assert all(trace["trace_id"] == transaction.trace_id for trace in traces(sentry))


async def test_a_transaction_around_the_engine(sentry: Sentry, async_shop: MakeShop) -> None:
    """A transaction that user code has begun stays, whatever its op, and the run is part of it."""
    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())
    app.function(three_steps)
    async with LocalEngine(app.client, app.functions) as engine:
        with sentry_sdk.start_transaction(op="http.server", name="/checkout") as web:
            await engine.run(inngest.Event(name="shop/order.placed"))
    names = [transaction["transaction"] for transaction in sentry.transactions]
    assert names == ["fulfil"] * 4 + ["/checkout"]
    assert {trace["trace_id"] for trace in traces(sentry)} == {web.trace_id}


async def test_sends_outside_of_a_transaction(sentry: Sentry, async_shop: MakeShop) -> None:
    """Events sent where nothing is traced carry nothing: all runs would share one trace."""
    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin())
    app.function(three_steps)
    run = await app.run({"id": 1})
    assert run.requests[0].request["event"]["data"] == {"id": 1}


async def test_propagation_off(sentry: Sentry, async_shop: MakeShop) -> None:
    """With propagate=False sent events are left as they are."""
    sentry.init(traces_sample_rate=1.0)
    app = async_shop(SentryPlugin(propagate=False))
    app.function(three_steps)
    with sentry_sdk.start_transaction(name="checkout"):
        run = await app.run({"id": 1})
    assert run.requests[0].request["event"]["data"] == {"id": 1}


async def test_waits_hide_the_carrier(sentry: Sentry, shop: MakeShop) -> None:
    """An event that a wait receives has no carrier either, nor has a failure handler's."""
    seen: list[Any] = []

    async def body(ctx: Any, step: Any) -> None:
        event = await step.wait_for_event("paid", event="shop/paid", timeout=60_000)
        seen.append(dict(event.data))
        raise inngest.NonRetriableError("never")

    async def on_failure(ctx: Any, step: Any) -> None:
        seen.append(ctx.event.data["event"]["data"])
        seen.extend(event["data"] for event in ctx.event.data.get("events", ()))

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body, on_failure=on_failure)
    with sentry_sdk.start_transaction(name="checkout") as transaction:
        async with LocalEngine(app.client, app.functions) as engine:
            await engine.send(inngest.Event(name="shop/order.placed", data={"id": 1}))
            await engine.idle()
            await engine.send(inngest.Event(name="shop/paid", data={"amount": 2}))
            await engine.settle()
    assert seen[0] == {"amount": 2}
    assert seen[1:]
    assert all(data == {"id": 1} for data in seen[1:])
    assert {trace["trace_id"] for trace in traces(sentry)} == {transaction.trace_id}


async def test_the_carrier_is_removed_without_sentry(sentry: Sentry, async_shop: MakeShop) -> None:
    """A worker on which Sentry is not initialised still hides the carrier from handlers."""
    seen: list[Any] = []

    async def body(ctx: Any, step: Any) -> None:
        seen.append(dict(ctx.event.data))

    app = async_shop(SentryPlugin())
    app.client.logger = logging.getLogger("shop")
    app.function(body)
    await app.run({"id": 1, "_sentry": {"trace": "0" * 32 + "-" + "1" * 16}})
    assert seen == [{"id": 1}]


async def test_failed_send(sentry: Sentry, async_shop: MakeShop) -> None:
    """A send that fails ends its span as failed and leaves a breadcrumb."""
    sentry.init(traces_sample_rate=1.0)
    client = async_shop(SentryPlugin()).client

    client._http_client = None  # type: ignore[assignment]
    with sentry_sdk.start_transaction(name="checkout"):
        with pytest.raises(Exception):  # noqa: B017
            await client.send(inngest.Event(name="shop/paid", data={}))
        sentry_sdk.capture_message("look")
    (transaction,) = sentry.transactions
    assert [status_of(span) for span in transaction["spans"]] == ["internal_error"]
    crumbs = sentry.errors[0]["breadcrumbs"]["values"]
    assert [crumb["message"] for crumb in crumbs] == ["could not send 1 event(s): shop/paid"]


async def test_parallel_steps(sentry: Sentry, shop: MakeShop, group: Any) -> None:
    """Planning runs no step and has no step span; each parallel step has one."""

    async def body(ctx: Any, step: Any) -> None:
        await group(ctx, lambda: step.run("a", fine), lambda: step.run("b", fine))

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body)
    await app.run()
    spans = sorted(
        span["description"]
        for transaction in sentry.transactions
        for span in transaction["spans"]
        if span["op"] == "inngest.step"
    )
    assert spans == ["a", "b"]
    assert len({trace["trace_id"] for trace in traces(sentry)}) == 1
    roots = [trace for trace in traces(sentry) if trace.get("parent_span_id") is None]
    assert len(roots) == 1


async def test_spans_of_user_code(sentry: Sentry, shop: MakeShop) -> None:
    """A span that user code opens in a step is a child of the step's span."""

    async def charge() -> None:
        with sentry_sdk.start_span(op="db", name="insert"):
            sentry_sdk.get_isolation_scope().set_tag("user", "tag")

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", charge)

    sentry.init(traces_sample_rate=1.0)
    app = shop(SentryPlugin())
    app.function(body)
    await app.run()
    first, second = sentry.transactions
    step, insert = first["spans"]
    assert insert["parent_span_id"] == step["span_id"]
    assert first["tags"]["user"] == "tag"
    assert "user" not in second["tags"]


@pytest.mark.parametrize(
    "options",
    [
        {"traces_sample_rate": 1.0, "_experiments": {"trace_lifecycle": "stream"}},
        {"traces_sample_rate": 1.0, "instrumenter": "otel"},
    ],
)
async def test_other_kinds_of_tracing(
    sentry: Sentry, shop: MakeShop, options: dict[str, Any]
) -> None:
    """Where Sentry has no transactions the plugin makes none, and errors still work."""

    async def body(ctx: Any, step: Any) -> None:
        await step.run("charge", boom)

    sentry.init(**options)
    app = shop(SentryPlugin())
    app.function(body, retries=0)
    await app.run()
    assert sentry.transactions == []
    assert [error["exception"]["values"][0]["type"] for error in sentry.errors] == ["ValueError"]


async def test_refused_trace(sentry: Sentry, async_shop: MakeShop) -> None:
    """A trace that Sentry refuses to continue does not split the run into several traces."""
    if "strict_trace_continuation" not in DEFAULT_OPTIONS:
        pytest.skip("this release of sentry-sdk refuses no trace")
    sentry.init(
        dsn="https://key@o1.ingest.sentry.io/1",
        traces_sample_rate=1.0,
        strict_trace_continuation=True,
    )
    app = async_shop(SentryPlugin())
    app.function(three_steps)
    carrier = {"trace": "a" * 32 + "-" + "b" * 16 + "-1", "baggage": "sentry-org_id=2"}
    await app.run({"_sentry": carrier})
    assert len({trace["trace_id"] for trace in traces(sentry)}) == 1
    assert {trace["trace_id"] for trace in traces(sentry)} != {"a" * 32}
