"""Logs, real instrumentation, tasks, cancellation and leaks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sqlite3
from hashlib import sha1
from typing import TYPE_CHECKING, Any

import httpx
import inngest
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from tests.otel.test_otel_traces import body, post

from inngest_plugins.core import Call, Layer, Plugin
from inngest_plugins.otel import RunLogFilter
from inngest_plugins.otel.replay.ledger import Ledger
from inngest_plugins.otel.requests.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.otel.conftest import Telemetry


pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")


async def done() -> str:
    """A step's handler."""
    return "done"


# ---------------------------------------------------------------- logs


class Collecting(logging.Handler):
    """Keeps what passes its filters."""

    def __init__(self, *, silence_replays: bool = True) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.addFilter(RunLogFilter(silence_replays=silence_replays))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the application."""
    logger = logging.getLogger("shop")
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


@pytest.mark.parametrize("silent", [True, False])
async def test_log_records_know_their_run_and_replays_are_silent(
    telemetry: Telemetry, log: logging.Logger, silent: bool
) -> None:
    """Records carry trace, span and run ids; lines of replayed code appear once."""
    client = telemetry.client()
    handler = Collecting(silence_replays=silent)
    log.addHandler(handler)

    async def work() -> None:
        log.info("in step")

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        log.info("before")
        await ctx.step.run("a", work)
        log.info("between")
        await ctx.step.run("b", work)
        log.info("after")

    log.info("outside")
    run = await telemetry.run(client, function)

    lines = [record.getMessage() for record in handler.records]
    if silent:
        assert lines == ["outside", "before", "in step", "between", "in step", "after"]
    else:
        assert lines.count("before") == 3
    outside, before, inside = handler.records[:3]
    assert (outside.trace_id, outside.span_id, outside.inngest_run_id) == ("", "", "")
    assert before.inngest_run_id == run.id
    assert before.inngest_function_id == "shop-f"
    assert before.inngest_attempt == 0
    request, step = telemetry.named("run shop-f")[0], telemetry.one("step a")
    assert (before.trace_id, before.span_id) == (f"{request.trace_id:032x}", f"{request.id:016x}")
    assert inside.span_id == f"{step.id:016x}"


# ---------------------------------------------------------------- instrumentation


async def test_real_instrumentation_in_steps_and_bodies_is_exported_once(
    telemetry: Telemetry,
) -> None:
    """Spans of httpx and sqlite3 hang from the step or the body that made them, once."""
    client = telemetry.client()
    seen: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["traceparent"])
        return httpx.Response(200)

    transport = httpx.MockTransport(serve)
    httpx_instrumentor, sqlite_instrumentor = HTTPXClientInstrumentor(), SQLite3Instrumentor()
    sqlite_instrumentor.instrument(tracer_provider=telemetry.provider)
    http = httpx.AsyncClient(transport=transport)
    httpx_instrumentor.instrument_client(http, tracer_provider=telemetry.provider)

    async def call() -> int:
        return (await http.get("http://bank/pay")).status_code

    async def store() -> None:
        connection = sqlite3.connect(":memory:")
        connection.cursor().execute("create table orders (id)")
        connection.close()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await http.get("http://rates/eur")
        await ctx.step.run("pay", call)
        await ctx.step.run("store", store)

    try:
        await telemetry.run(client, function)
    finally:
        httpx_instrumentor.uninstrument_client(http)
        sqlite_instrumentor.uninstrument()
        await http.aclose()

    telemetry.check_exactly_once()
    assert telemetry.tree_of_code() == ["GET", "step pay", "  GET", "step store", "  create"]
    by_parent = {span.parent_id: span for span in telemetry.named("GET")}
    pay = by_parent.pop(telemetry.one("step pay").id)
    (rates,) = by_parent.values()
    # The replayed requests really go out again; the services behind them see one span, not three.
    assert [header.split("-")[2] for header in seen].count(f"{rates.id:016x}") == 3
    assert [header.split("-")[2] for header in seen].count(f"{pay.id:016x}") == 1


# ---------------------------------------------------------------- tasks and hooks


async def test_spans_that_outlive_their_request_are_not_lost(telemetry: Telemetry) -> None:
    """A task left behind exports what it ends later; a span it begins then is an ordinary one."""
    client, tracer = telemetry.client(), telemetry.tracer
    tasks: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def background() -> None:
        with tracer.start_as_current_span("long"):
            await go.wait()
        with tracer.start_as_current_span("later"):
            pass

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        tasks.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    await post(client, function, {})
    assert not telemetry.named("long")
    go.set()
    await asyncio.gather(*tasks)

    assert telemetry.one("long").parent_id == telemetry.one("run shop-f").id
    assert len(telemetry.named("later")) == 1


async def test_several_steps_in_one_request_have_a_span_each(telemetry: Telemetry) -> None:
    """A step that the engine is not told of has its span too, without an outcome."""
    client = telemetry.client()

    async def never() -> None:
        with telemetry.tracer.start_as_current_span("in never"):
            raise inngest.NonRetriableError("never")

    async def traced() -> str:
        with telemetry.tracer.start_as_current_span("traced"):
            return "done"

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        # The SDK raises this error right here, and does not report the step.
        with contextlib.suppress(inngest.NonRetriableError):
            await ctx.step.run("never", never)
        await asyncio.gather(ctx.step.run("a", traced), ctx.step.run("b", traced))

    answer = await post(client, function, {})

    assert [op["id"] for op in answer.json()] == [sha1(b"a").hexdigest()]
    names = {span.id: span.name for span in telemetry.spans}
    assert {
        (span.name, names.get(span.parent_id), span.attributes.get("inngest.outcome"))
        for span in telemetry.spans
        if span.parent_id in names
    } == {
        ("step never", "run shop-f", None),
        ("in never", "step never", None),
        ("step a", "run shop-f", "completed"),
        ("traced", "step a", None),
        ("step b", "run shop-f", None),
        ("traced", "step b", None),
    }


async def test_spans_of_other_plugins_hooks_are_exported_by_each_request(
    telemetry: Telemetry,
) -> None:
    """What plugins do around a request is no replay: each time counts."""
    tracer = telemetry.tracer

    class Busy(Plugin):
        layer = Layer.CONTEXT

        def transform_input(self, call: Call) -> None:
            with tracer.start_as_current_span("hook"):
                pass

    client = telemetry.client(Busy())

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.run("a", done)

    await telemetry.run(client, function)

    telemetry.check_exactly_once()
    hooks, requests = telemetry.named("hook"), telemetry.named("run shop-f")
    assert [span.parent_id for span in hooks] == [span.id for span in requests]


async def test_events_sent_by_the_body_have_one_producer_span(telemetry: Telemetry) -> None:
    """`client.send` in replayed code sends again, from one and the same span."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        await client.send(inngest.Event(name="shop/told", data={}))
        await ctx.step.run("a", done)

    await telemetry.run(client, function)

    assert len(telemetry.named("send shop/told")) == 1


async def test_a_cancelled_request_leaves_nothing_open(telemetry: Telemetry) -> None:
    """When the engine hangs up, the request's spans end, and the body's are left to the retry."""
    client, tracer = telemetry.client(), telemetry.tracer
    started = asyncio.Event()

    async def forever() -> None:
        with tracer.start_as_current_span("inside"):
            started.set()
            await asyncio.sleep(3600)

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        with tracer.start_as_current_span("body"):
            pass
        await ctx.step.run("a", forever)

    task = asyncio.create_task(post(client, function, {}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert telemetry.tree() == ["run shop-f", "  step a", "    inside"]
    assert telemetry.one("run shop-f").attributes["inngest.outcome"] == "cancelled"
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.fixture
def no_logging() -> Iterator[None]:
    """Log nothing: records that the test framework keeps hold on to the frames of exceptions."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def alive(run_id: str) -> list[object]:
    """Find what something still holds of a run."""
    gc.collect()
    # By type, not by isinstance, which asks lazy objects of other libraries for their class.
    found = [thing for thing in gc.get_objects() if type(thing) in {Call, Ledger, Request}]
    return [
        thing
        for thing in found
        if (thing.call.run_id if isinstance(thing, Request) else thing.run_id) == run_id
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_thousand_requests_leave_nothing_behind(
    telemetry: Telemetry, no_logging: None
) -> None:
    """Requests that end well, fail, are cut off or crash in a hook free all they held."""
    tracer = telemetry.tracer
    fail = False
    # Other tests of the process keep calls of theirs in fixtures: a run of this test's own.
    run_id = "01M7Y83W47AWHPGXRZ4WYQLEAK"

    class Crashing(Plugin):
        layer = Layer.CONTEXT

        def before_execution(self, call: Call) -> None:
            if fail:
                raise RuntimeError("hook")

    client = telemetry.client(Crashing())

    @client.create_function(fn_id="f", trigger=ORDER)
    async def function(ctx: inngest.Context) -> None:
        tracer.start_span("never ended")
        with tracer.start_as_current_span("whole"):
            await ctx.step.run("a", done)
            if ctx.attempt:
                raise ValueError("broken")

    import inngest.fast_api
    from fastapi import FastAPI

    app = FastAPI()
    inngest.fast_api.serve(app, client, [function])
    memo = {"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8": {"data": None}}
    ways = [
        body(run_id=run_id),
        {**body(run_id=run_id), "steps": memo},
        {**body(run_id=run_id, attempt=1), "steps": memo},
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        for number in range(10_000):
            if number % 1000 == 0:
                telemetry.exporter.clear()
            fail = number % 4 == 3
            await http.post(
                "/api/inngest",
                params={"fnId": "shop-f", "stepId": "step"},
                json=ways[number % 3],
            )
    assert alive(run_id)  # the exported spans know their request
    telemetry.exporter.clear()
    # The event loop holds the last request's task until it comes round.
    for _ in range(5):
        await asyncio.sleep(0)

    # Metrics keep the ids of the latest spans of each bucket in exemplars, which hold nothing else.
    assert telemetry.points("inngest.request.duration")[0].exemplars
    assert not alive(run_id)
    assert trace.get_current_span() is trace.INVALID_SPAN
