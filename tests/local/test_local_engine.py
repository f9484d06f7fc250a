"""The embedded engine's public face: runs, statuses, time, attribution, the client."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import threading
import time
import typing

import anyio
import httpx
import inngest
import pytest

from inngest_plugins.local import (
    LocalEngine,
    LocalEngineError,
    RealClock,
    Run,
    VirtualClock,
    infer_over_http,
)
from inngest_plugins.local.server.transport import http_clients

Json = typing.Any
Functions = list[inngest.Function[typing.Any]]


def make_client(**options: typing.Any) -> inngest.Inngest:
    """A client in dev mode."""
    return inngest.Inngest(app_id="shop", is_production=False, **options)


def simple(client: inngest.Inngest, name: str = "simple") -> inngest.Function[typing.Any]:
    """A function with one step."""

    @client.create_function(fn_id=name, trigger=inngest.TriggerEvent(event=f"shop/{name}"))
    async def function(ctx: inngest.Context) -> Json:
        async def double() -> int:
            return int(str(ctx.event.data.get("n", 1))) * 2

        return await ctx.step.run("double", double)

    return function


def event(name: str = "shop/simple", **data: Json) -> inngest.Event:
    """An event."""
    return inngest.Event(name=name, data=data)


pytestmark = pytest.mark.anyio


async def test_run_shows_everything() -> None:
    """A run tells its status, output, events, steps and every request as it was on the wire."""
    client = make_client()
    async with LocalEngine(client, [simple(client)]) as engine:
        run = await engine.run(event(n=21))
    assert (run.status, run.output, run.error, run.reason) == ("Completed", 42, None, "")
    assert run.function_id == "shop-simple"
    assert [e["name"] for e in run.events] == ["shop/simple"]
    step = run.steps["double"]
    assert (step.status, step.value, step.memo, step.attempts) == (
        "Completed",
        42,
        {"data": 42},
        1,
    )
    assert [request.status for request in run.requests] == [206, 200]
    assert run.requests[1].request["steps"] == {step.hashed_id: {"data": 42}}
    assert run.requests[1].response == 42
    assert run.requests[0].ops[0]["op"] == "StepRun"
    assert "comm_handler" in run.requests[0].server_timing
    assert run.started_at is not None
    assert run.ended_at is not None
    assert run.queued_at <= run.started_at <= run.ended_at
    assert "step double" in str(run.timeline())
    assert "Completed" in str(run.timeline())


async def test_event_that_starts_nothing_is_an_error_before_anything_is_sent() -> None:
    """`run` refuses an event that no function listens to, and names what they listen to."""
    client = make_client()
    async with LocalEngine(client, [simple(client)]) as engine:
        with pytest.raises(LocalEngineError, match=r"starts no run.*'shop/simple'"):
            await engine.run(event("shop/other"))
        assert engine.events == []


async def test_event_that_starts_several_needs_a_function() -> None:
    """`run` asks which run is meant, and takes an id, a full id or the function object."""
    client = make_client()
    trigger = inngest.TriggerEvent(event="shop/both")
    functions: Functions = []
    for name in ("one", "two"):

        @client.create_function(fn_id=name, trigger=trigger)
        async def function(ctx: inngest.Context) -> None:
            return None

        functions.append(function)
    async with LocalEngine(client, functions) as engine:
        with pytest.raises(LocalEngineError, match="several functions: 'shop-one', 'shop-two'"):
            await engine.run(event("shop/both"))
        for reference in ("two", "shop-two", functions[1]):
            run = await engine.run(event("shop/both"), function=reference)
            assert run.function_id == "shop-two"
        with pytest.raises(LocalEngineError, match="no function 'three'"):
            await engine.run(event("shop/both"), function="three")
        with pytest.raises(LocalEngineError, match="start 2 runs of 'shop-one'"):
            await engine.run([event("shop/both"), event("shop/both")], function="one")


async def test_same_event_id_starts_one_run() -> None:
    """An event id starts a function once; sending it again is accepted and starts nothing."""
    client = make_client()
    async with LocalEngine(client, [simple(client)]) as engine:
        named = inngest.Event(name="shop/simple", id="order-1", data={})
        run = await engine.run(named)
        assert run.events[0]["id"] == "order-1"
        with pytest.raises(LocalEngineError, match="was used before"):
            await engine.run(named)
        assert len(engine.runs) == 1
        assert len(engine.events) == 2


async def test_production_client_is_refused() -> None:
    """A client that would sign requests cannot be driven."""
    client = inngest.Inngest(app_id="shop", is_production=True, signing_key="signkey-test-00")
    with pytest.raises(LocalEngineError, match="is_production=False"):
        LocalEngine(client, [simple(client)])


async def test_client_is_given_back_untouched() -> None:
    """Closing the engine leaves the client's HTTP clients as they were; two cannot share one."""
    client = make_client()
    sync_clients, async_clients = http_clients(client)
    clients: list[typing.Any] = [*sync_clients, *async_clients]
    before = [dict(vars(http)) for http in clients]
    async with LocalEngine(client, [simple(client)]) as engine:
        assert [dict(vars(http)) for http in clients] != before
        with pytest.raises(LocalEngineError, match="another LocalEngine drives"):
            async with LocalEngine(client, [simple(client)]):
                raise AssertionError
        assert (await engine.run(event())).status == "Completed"
        transport = engine.transport
    assert [dict(vars(http)) for http in clients] == before
    with pytest.raises(httpx.ConnectError, match="closed"):
        httpx.Client(transport=transport).get("http://engine/v1/runs/x")
    with pytest.raises(LocalEngineError, match="not open"):
        await engine.send(event())


async def test_virtual_clock_jumps_only_while_somebody_waits() -> None:
    """A month of sleep takes no time, and `idle` shows the run before time moves on."""
    client = make_client()

    @client.create_function(fn_id="nap", trigger=inngest.TriggerEvent(event="shop/nap"))
    async def nap(ctx: inngest.Context) -> str:
        await ctx.step.sleep("month", datetime.timedelta(days=30))
        return "rested"

    clock = VirtualClock()
    async with LocalEngine(client, [nap], clock=clock) as engine:
        began = time.monotonic()
        await engine.send(event("shop/nap"))
        await engine.idle()
        (run,) = engine.runs
        assert (run.status, run.steps["month"].status) == ("Running", "Sleeping")
        assert clock.offset == 0
        await engine.settle()
        assert (run.status, run.output) == ("Completed", "rested")
        assert clock.offset >= 29.9 * 86_400
        assert time.monotonic() - began < 60
        step = run.steps["month"]
        assert step.ended_at is not None
        assert step.ended_at - step.started_at == pytest.approx(30 * 86_400, abs=60)


async def test_real_clock_waits() -> None:
    """With the real clock a sleep takes its time."""
    client = make_client()

    @client.create_function(fn_id="nap", trigger=inngest.TriggerEvent(event="shop/nap"))
    async def nap(ctx: inngest.Context) -> None:
        await ctx.step.sleep("second", 1000)

    async with LocalEngine(client, [nap], clock=RealClock()) as engine:
        began = time.monotonic()
        assert (await engine.run(event("shop/nap"), timeout=200)).status == "Completed"
        assert time.monotonic() - began >= 0.9
    with pytest.raises(RuntimeError, match="cannot jump"):
        RealClock().jump_to(0)


async def test_patience_lets_an_event_arrive_before_the_timeout_is_jumped_over() -> None:
    """While `run` waits, another task can still answer a wait; a filter that misses does not."""
    client = make_client()

    @client.create_function(fn_id="ask", trigger=inngest.TriggerEvent(event="shop/ask"))
    async def ask(ctx: inngest.Context) -> Json:
        answer = await ctx.step.wait_for_event(
            "answer",
            event="shop/answer",
            if_exp="event.data.id == async.data.id",
            timeout=datetime.timedelta(days=7),
        )
        return None if answer is None else answer.data["yes"]

    async with LocalEngine(client, [ask], clock=VirtualClock(patience=100)) as engine:
        task = asyncio.get_running_loop().create_task(engine.run(event("shop/ask", id=1)))
        while not any("answer" in run.steps for run in engine.runs):
            await asyncio.sleep(0.01)
        await engine.send(event("shop/answer", id=2, yes=False))
        await engine.send(event("shop/answer", id=1, yes=True))
        run = await task
        assert run.output is True
        assert run.steps["answer"].value["data"] == {"id": 1, "yes": True}
    async with LocalEngine(client, [ask]) as engine:
        unanswered = await engine.run(event("shop/ask", id=3))
        assert unanswered.output is None
        assert unanswered.steps["answer"].status == "TimedOut"
    with pytest.raises(ValueError, match="negative"):
        VirtualClock(patience=-1)


async def test_invalid_wait_expression_fails_the_run() -> None:
    """An expression that cannot be understood ends the run with a reason instead of a hang."""
    client = make_client()

    @client.create_function(fn_id="ask", trigger=inngest.TriggerEvent(event="shop/ask"))
    async def ask(ctx: inngest.Context) -> None:
        await ctx.step.wait_for_event("w", event="e", if_exp="frob(1) ==", timeout=1000)

    async with LocalEngine(client, [ask]) as engine:
        run = await engine.run(event("shop/ask"))
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "InvalidExpression"
    assert "'w'" in run.reason


async def test_invalid_trigger_expression_is_refused_at_the_start() -> None:
    """A trigger that cannot be evaluated is named when the engine opens."""
    client = make_client()
    trigger = inngest.TriggerEvent(event="shop/x", expression="nonsense(")

    @client.create_function(fn_id="broken", trigger=trigger)
    async def broken(ctx: inngest.Context) -> None:
        return None

    with pytest.raises(LocalEngineError, match="shop-broken"):
        async with LocalEngine(client, [broken]):
            raise AssertionError


async def test_timeout_ends_a_handler_that_never_returns() -> None:
    """The caller's timeout gives the run a status and stops the handler."""
    client = make_client()
    cancelled = asyncio.Event()

    @client.create_function(fn_id="stuck", trigger=inngest.TriggerEvent(event="shop/stuck"))
    async def stuck(ctx: inngest.Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with LocalEngine(client, [stuck]) as engine:
        run = await engine.run(event("shop/stuck"), timeout=0.2)
        assert (run.status, run.reason) == ("TimedOut", "did not end within 0.2 s")
        await asyncio.wait_for(cancelled.wait(), 100)
        await engine.send(event("shop/stuck"))
        await engine.settle(timeout=0.2)
        assert [r.status for r in engine.runs] == ["TimedOut", "TimedOut"]


async def test_request_that_takes_too_long_is_a_failed_attempt() -> None:
    """``request_timeout`` turns a hanging request into an error that is retried, then final."""
    client = make_client()

    @client.create_function(
        fn_id="slow", retries=1, trigger=inngest.TriggerEvent(event="shop/slow")
    )
    async def slow(ctx: inngest.Context) -> None:
        await asyncio.sleep(60)

    async with LocalEngine(client, [slow], request_timeout=0.1) as engine:
        run = await engine.run(event("shop/slow"))
    assert run.status == "Failed"
    assert len(run.requests) == 2
    assert run.requests[0].failure == "The app did not answer within 0.1 s."
    assert run.requests[0].status == 0


async def test_step_id_collision_ends_as_failed() -> None:
    """A run that the real server would leave running for ever fails with the reason."""
    client = make_client()

    @client.create_function(fn_id="twice", trigger=inngest.TriggerEvent(event="shop/twice"))
    async def twice(ctx: inngest.Context) -> None:
        async def nothing() -> None:
            return None

        for step_id in ("a", "a", "a:1"):
            await ctx.step.run(step_id, nothing)

    async with LocalEngine(client, [twice]) as engine:
        run = await engine.run(event("shop/twice"), timeout=200)
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "NonDeterministicError"
    assert "'a:1' and the second use of 'a'" in run.reason


async def test_crashing_middleware_is_reported_as_a_failed_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An app that fails before the SDK answers is retried and says so, and the log has it."""

    class Broken(inngest.MiddlewareSync):
        def __init__(self, *arguments: typing.Any) -> None:
            raise RuntimeError("no constructor today")

    client = make_client()

    @client.create_function(
        fn_id="fn", retries=1, middleware=[], trigger=inngest.TriggerEvent(event="shop/fn")
    )
    async def fn(ctx: inngest.Context) -> None:
        return None

    async with LocalEngine(client, [fn]) as engine:
        await engine.send(event("shop/fn"))
        client.add_middleware(Broken)
        await engine.settle()
        (run,) = engine.runs
    assert run.status == "Failed"
    assert [request.status for request in run.requests] == [500, 500]
    message = "Your server returned HTTP 500 before the SDK responded."
    assert run.requests[0].failure == f"{message} The app raised RuntimeError."
    assert run.error is not None
    assert run.error["message"] == message
    assert run.reason.endswith(f"{message} The app raised RuntimeError: no constructor today")
    assert "no constructor today" in caplog.text
    assert "Traceback" not in caplog.text


async def test_events_are_attributed_to_the_run_that_sent_them() -> None:
    """Sending in steps, outside of steps, and from sync functions in threads all count."""
    client = make_client()

    @client.create_function(fn_id="talk", trigger=inngest.TriggerEvent(event="shop/talk"))
    async def talk(ctx: inngest.Context) -> None:
        await ctx.step.send_event("s", inngest.Event(name="shop/in-step"))
        await client.send(inngest.Event(name="shop/direct"))

    @client.create_function(fn_id="talk-sync", trigger=inngest.TriggerEvent(event="shop/sync"))
    def talk_sync(ctx: inngest.ContextSync) -> None:
        assert threading.current_thread() is not threading.main_thread()
        ctx.step.send_event("s", inngest.Event(name=f"shop/sync-step-{ctx.event.data['n']}"))
        if ctx.event.data["n"] == 9:
            client.send_sync(inngest.Event(name="shop/sync-direct"))

    async with LocalEngine(client, [talk, talk_sync]) as engine:
        run = await engine.run(event("shop/talk"))
        assert [e["name"] for e in run.events_sent] == ["shop/in-step", "shop/direct"]
        run = await engine.run(event("shop/sync", n=9))
        assert [e["name"] for e in run.events_sent] == ["shop/sync-step-9", "shop/sync-direct"]
        await engine.send([event("shop/sync", n=n) for n in range(5)])
        await engine.settle()
        for n, run in enumerate(engine.runs[2:]):
            assert [e["name"] for e in run.events_sent] == [f"shop/sync-step-{n}"]


async def test_send_hooks_of_the_client_see_real_ids() -> None:
    """Middleware's send hooks run around every send, with the ids that the engine gave."""
    seen: list[tuple[list[str], list[str]]] = []

    class Spy(inngest.Middleware):
        async def before_send_events(self, events: list[inngest.Event]) -> None:
            for sent in events:
                sent.data = {**sent.data, "stamped": True}

        async def after_send_events(self, result: inngest.SendEventsResult) -> None:
            seen.append((result.ids, [result.error or ""]))

    client = make_client(middleware=[Spy])
    async with LocalEngine(client, [simple(client)]) as engine:
        run = await engine.run(event())
    assert run.events[0]["data"] == {"stamped": True}
    assert seen == [([run.events[0]["id"]], [""])]


async def test_nothing_bleeds_from_one_run_into_the_runs_it_starts() -> None:
    """A context variable set while an event is sent is not visible in the run it starts."""
    client = make_client()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")

    @client.create_function(fn_id="parent", trigger=inngest.TriggerEvent(event="shop/parent"))
    async def parent(ctx: inngest.Context) -> None:
        variable.set("parent was here")
        await client.send(inngest.Event(name="shop/child"))

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="shop/child"))
    async def child(ctx: inngest.Context) -> str:
        return variable.get()

    async with LocalEngine(client, [parent, child]) as engine:
        variable.set("the caller was here")
        await engine.send(event("shop/parent"))
        await engine.settle()
        assert {run.function_id: run.output for run in engine.runs} == {
            "shop-parent": None,
            "shop-child": "clean",
        }


async def test_batch_run() -> None:
    """A batch closes when it is full or when its time is up, and `run` waits for it."""
    client = make_client()

    @client.create_function(
        fn_id="bulk",
        batch_events=inngest.Batch(max_size=3, timeout=datetime.timedelta(seconds=10)),
        trigger=inngest.TriggerEvent(event="shop/bulk"),
    )
    async def bulk(ctx: inngest.Context) -> list[Json]:
        return [e.data["n"] for e in ctx.events]

    async with LocalEngine(client, [bulk]) as engine:
        full = await engine.run([event("shop/bulk", n=n) for n in range(3)])
        assert full.output == [0, 1, 2]
        late = await engine.run(event("shop/bulk", n=3))
        assert late.output == [3]
        assert late.queued_at - full.queued_at >= 10


async def test_invoked_run_knows_its_parent() -> None:
    """An invoke links both runs, and a batch child answers everybody who invoked it."""
    client = make_client()

    @client.create_function(
        fn_id="child",
        batch_events=inngest.Batch(max_size=2, timeout=datetime.timedelta(seconds=5)),
        trigger=inngest.TriggerEvent(event="shop/never"),
    )
    async def child(ctx: inngest.Context) -> int:
        return len(ctx.events)

    @client.create_function(fn_id="parent", trigger=inngest.TriggerEvent(event="shop/parent"))
    async def parent(ctx: inngest.Context) -> Json:
        return await ctx.step.invoke("call", function=child, data={"a": 1})

    async with LocalEngine(client, [parent, child]) as engine:
        await engine.send([event("shop/parent"), event("shop/parent")])
        await engine.settle()
        first, second, called = engine.runs
    assert (first.output, second.output) == (2, 2)
    assert called.parent_run_id == first.id
    assert called.parent_step == first.steps["call"].hashed_id
    assert second.steps["call"].invoked_run_id == called.id


async def test_cancel_by_the_caller() -> None:
    """A cancelled run gets its status, its events and a reason, and stays as it is."""
    client = make_client()

    @client.create_function(fn_id="nap", trigger=inngest.TriggerEvent(event="shop/nap"))
    async def nap(ctx: inngest.Context) -> None:
        await ctx.step.sleep("long", datetime.timedelta(days=1))

    @client.create_function(
        fn_id="heard", trigger=inngest.TriggerEvent(event="inngest/function.cancelled")
    )
    async def heard(ctx: inngest.Context) -> str:
        return str(ctx.event.data["run_id"])

    async with LocalEngine(client, [nap, heard]) as engine:
        await engine.send(event("shop/nap"))
        await engine.idle()
        (run,) = engine.runs
        await engine.cancel(run)
        await engine.cancel(run)
        await engine.settle()
        assert (run.status, run.reason) == ("Cancelled", "cancelled by the caller")
        assert [r.output for r in engine.runs[1:]] == [run.id]


async def test_cancellation_event_respects_its_condition_and_its_time() -> None:
    """Only a matching event within the time limit cancels."""
    client = make_client()

    @client.create_function(
        fn_id="nap",
        trigger=inngest.TriggerEvent(event="shop/nap"),
        cancel=[
            inngest.Cancel(
                event="shop/stop",
                if_exp="event.data.id == async.data.id",
                timeout=datetime.timedelta(hours=1),
            )
        ],
    )
    async def nap(ctx: inngest.Context) -> str:
        await ctx.step.sleep("a", datetime.timedelta(hours=2))
        await ctx.step.wait_for_event("b", event="shop/go", timeout=datetime.timedelta(hours=1))
        return "slept"

    async with LocalEngine(client, [nap]) as engine:
        await engine.send([event("shop/nap", id=1), event("shop/nap", id=2)])
        await engine.idle()
        await engine.send(event("shop/stop", id=2))
        one, two = engine.runs
        assert (one.status, two.status) == ("Running", "Cancelled")
        assert "shop/stop" in two.reason
        task = asyncio.get_running_loop().create_task(engine.settle())
        while one.steps.keys() != {"a", "b"}:
            await asyncio.sleep(0.01)
        await engine.send([event("shop/stop", id=1), event("shop/go")])
        await task
        assert one.output == "slept"


async def test_cron_is_fired_by_hand() -> None:
    """`run` without an event fires a cron function; other functions need an event."""
    client = make_client()

    @client.create_function(fn_id="nightly", trigger=inngest.TriggerCron(cron="0 3 * * *"))
    async def nightly(ctx: inngest.Context) -> Json:
        return ctx.event.data["cron"]

    async with LocalEngine(client, [nightly, simple(client)]) as engine:
        assert (await engine.run(function="nightly")).output == "0 3 * * *"
        with pytest.raises(LocalEngineError, match="has no cron"):
            await engine.run(function="simple")
        with pytest.raises(LocalEngineError, match="needs an event"):
            await engine.run()
        with pytest.raises(LocalEngineError, match="no events"):
            await engine.run([])


async def test_ignored_flow_control_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A function whose flow control is not applied is named in a warning."""
    client = make_client()

    @client.create_function(
        fn_id="calm",
        trigger=inngest.TriggerEvent(event="shop/calm"),
        concurrency=[inngest.Concurrency(limit=1)],
    )
    async def calm(ctx: inngest.Context) -> None:
        return None

    async with LocalEngine(client, [calm]) as engine:
        assert (await engine.run(event("shop/calm"))).status == "Completed"
    assert "shop-calm: LocalEngine does not apply concurrency" in caplog.text


async def test_idempotency_key_starts_one_run_a_day() -> None:
    """A function's idempotency expression lets a value start it once."""
    client = make_client()

    @client.create_function(
        fn_id="once",
        trigger=inngest.TriggerEvent(event="shop/once"),
        idempotency="event.data.order",
    )
    async def once(ctx: inngest.Context) -> None:
        return None

    async with LocalEngine(client, [once]) as engine:
        await engine.send([event("shop/once", order=1), event("shop/once", order=1)])
        await engine.send(event("shop/once", order=2))
        await engine.settle()
        assert len(engine.runs) == 2


async def test_ai_steps_need_a_model() -> None:
    """Without ``infer`` an AI step fails and says what to pass; nothing goes over the network."""
    from inngest.experimental.ai.openai import Adapter

    client = make_client()

    @client.create_function(fn_id="ai", trigger=inngest.TriggerEvent(event="shop/ai"))
    async def ai(ctx: inngest.Context) -> Json:
        adapter = Adapter(auth_key="secret", base_url="http://127.0.0.1:9/v1", model="m")
        return await ctx.step.ai.infer("infer", adapter=adapter, body={"messages": []})

    async with LocalEngine(client, [ai]) as engine:
        run = await engine.run(event("shop/ai"))
        assert run.status == "Failed"
        assert "pass infer=infer_over_http" in run.reason
        assert "secret" not in str(run.steps["infer"].opts)
    async with LocalEngine(client, [ai], infer=infer_over_http, retry_interval=0) as engine:
        run = await engine.run(event("shop/ai"))
        assert run.status == "Failed"
        assert "ConnectError" in run.reason
        assert run.steps["infer"].attempts == 5


async def test_thousand_concurrent_runs() -> None:
    """A thousand runs that all sleep at the same time complete."""
    client = make_client()

    @client.create_function(fn_id="many", trigger=inngest.TriggerEvent(event="shop/many"))
    async def many(ctx: inngest.Context) -> Json:
        await ctx.step.sleep("s", datetime.timedelta(hours=1))
        return ctx.event.data["n"]

    async with LocalEngine(client, [many]) as engine:
        await engine.send([event("shop/many", n=n) for n in range(1000)])
        await engine.settle(timeout=200)
        assert sorted(run.output for run in engine.runs) == list(range(1000))


async def test_run_sync_inside_a_loop_is_refused() -> None:
    """Where a loop is running, `run_sync` says to await instead."""
    client = make_client()
    with pytest.raises(LocalEngineError, match=r"await engine\.run"):
        LocalEngine(client, [simple(client)]).run_sync(event())


async def test_engine_can_be_opened_again() -> None:
    """A second session goes on with the runs of the first, kept in memory."""
    client = make_client()
    engine = LocalEngine(client, [simple(client)])
    async with engine:
        await engine.run(event())
        with pytest.raises(LocalEngineError, match="open already"):
            await engine.__aenter__()
    async with engine:
        await engine.run(event())
    assert [run.status for run in engine.runs] == ["Completed", "Completed"]
    assert engine.runs[0] == engine.runs[0]
    assert len({*engine.runs, *engine.runs}) == 2
    assert "shop-simple: Completed" in repr(engine.runs[0])


async def test_client_made_in_another_thread() -> None:
    """A client that belongs to another thread sends through the engine as well."""
    made: list[inngest.Inngest] = []
    thread = threading.Thread(target=lambda: made.append(make_client()))
    thread.start()
    thread.join()
    async with LocalEngine(made[0], [simple(made[0])]) as engine:
        with anyio.fail_after(100):
            run: Run = await engine.run(event(n=2))
    assert run.output == 4
