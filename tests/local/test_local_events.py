"""What events do, and what the engine's records look like to people."""

from __future__ import annotations

import asyncio
import datetime
import typing

import flask
import inngest
import inngest.flask
import pytest

from inngest_plugins.local import (
    InferenceRequest,
    LocalEngine,
    RequestRecord,
    StepRecord,
    TimelineEntry,
)

Json = typing.Any
td = datetime.timedelta


def client() -> inngest.Inngest:
    """A client in dev mode."""
    return inngest.Inngest(app_id="shop", is_production=False)


def listener(
    owner: inngest.Inngest, name: str, event: str, expression: str | None = None, **more: Json
) -> inngest.Function[typing.Any]:
    """A function that returns the numbers in its events."""
    trigger = inngest.TriggerEvent(event=event, expression=expression)

    @owner.create_function(fn_id=name, trigger=trigger, **more)
    async def function(ctx: inngest.Context) -> Json:
        return [event.data.get("n") for event in ctx.events]

    return function


def send(name: str, **data: Json) -> inngest.Event:
    """An event."""
    return inngest.Event(name=name, data=data)


def started(engine: LocalEngine) -> list[str]:
    """The functions that were started, in order."""
    return [run.function_id.removeprefix("shop-") for run in engine.runs]


@pytest.mark.anyio
async def test_wildcards_and_conditions(caplog: pytest.LogCaptureFixture) -> None:
    """`*` stands at the end, after "/" or "."; a broken condition does not match."""
    c = client()
    functions = [
        listener(c, "wild", "shop/*"),
        listener(c, "tail", "shop/w.*"),
        listener(c, "all", "*"),
        listener(c, "part", "shop/w*"),
        listener(c, "middle", "shop/*/a"),
        listener(c, "engine", "inngest/function.*", "event.data.function_id == 'shop-if'"),
        listener(c, "if", "shop/w.a", "event.data.n > 1"),
        listener(c, "odd", "shop/w.a", "event.data.n.size() == 1"),
        listener(c, "done", "inngest/function.finished", "event.data.function_id == 'shop-if'"),
    ]
    async with LocalEngine(c, functions) as engine:
        await engine.send(send("shop/w.a", n=2))
        await engine.settle()
        assert sorted(started(engine)) == ["done", "engine", "if", "tail", "wild"]
        assert "trigger of shop-odd does not match" in caplog.text
        await engine.send(send("shop/w", n=1))
        await engine.settle()
        assert started(engine)[5:] == ["wild"]
        await engine.send(send("shop/", n=1))
        await engine.settle()
        assert started(engine)[6:] == ["wild"]


@pytest.mark.anyio
async def test_batches_by_key_and_condition(caplog: pytest.LogCaptureFixture) -> None:
    """A batch has a key; events that its condition refuses go alone."""
    c = client()
    batch = inngest.Batch(
        max_size=2, timeout=td(seconds=5), key="event.data.k", if_exp="event.data.n < 10"
    )
    odd = inngest.Batch(
        max_size=2,
        timeout=td(seconds=5),
        key="event.data.k.size()",
        if_exp="event.data.n.contains('')",
    )
    functions = [
        listener(c, "bulk", "shop/bulk", batch_events=batch),
        listener(c, "odd", "shop/odd", batch_events=odd),
        listener(
            c,
            "key",
            "shop/key",
            batch_events=inngest.Batch(max_size=1, timeout=1000, key="event.data.k.size()"),
        ),
    ]
    async with LocalEngine(c, functions) as engine:
        numbers = [(1, "a"), (2, "b"), (3, "a"), (99, "a")]
        await engine.send([send("shop/bulk", n=n, k=k) for n, k in numbers])
        await engine.settle()
        assert sorted(run.output for run in engine.runs) == [[1, 3], [2], [99]]
        alone = await engine.run(send("shop/odd", n=1, k=1))
        assert alone.output == [1]
        assert "event goes alone" in caplog.text
        assert (await engine.run(send("shop/key", n=5, k=1))).output == [5]
        assert "key is null" in caplog.text


@pytest.mark.anyio
async def test_batch_that_does_not_close_in_time() -> None:
    """`run` with a timeout does not wait for a batch for ever."""
    from inngest_plugins.local import LocalEngineError, RealClock

    c = client()
    batch = inngest.Batch(max_size=2, timeout=td(seconds=50))
    functions = [listener(c, "bulk", "shop/bulk", batch_events=batch)]
    async with LocalEngine(c, functions, clock=RealClock()) as engine:
        with pytest.raises(LocalEngineError, match=r"not closed in 0\.1 s"):
            await engine.run(send("shop/bulk"), timeout=0.1)


@pytest.mark.anyio
async def test_idempotency_that_cannot_be_computed(caplog: pytest.LogCaptureFixture) -> None:
    """A key without a value does not keep the event from starting its run."""
    c = client()
    functions = [listener(c, "once", "shop/once", idempotency="event.data.n.size()")]
    async with LocalEngine(c, functions) as engine:
        await engine.send([send("shop/once", n=1), send("shop/once", n=1)])
        await engine.settle()
        assert len(engine.runs) == 2
    assert "idempotency of shop-once is not applied" in caplog.text


@pytest.mark.anyio
async def test_group_waits_for_all_its_sleeps() -> None:
    """Of several sleeps in a group only the last one to end calls the app."""
    c = client()

    @c.create_function(fn_id="naps", trigger=inngest.TriggerEvent(event="shop/naps"))
    async def naps(ctx: inngest.Context) -> str:
        await ctx.group.parallel(
            tuple(
                lambda n=n: ctx.step.sleep(f"nap-{n}", td(hours=n))  # type: ignore[misc]
                for n in (3, 1, 2)
            )
        )
        return "up"

    async with LocalEngine(c, [naps]) as engine:
        run = await engine.run(send("shop/naps"))
    assert run.output == "up"
    assert len(run.requests) == 2
    stack = run.requests[1].request["ctx"]["stack"]["stack"]
    assert stack == [run.steps[f"nap-{n}"].hashed_id for n in (1, 2, 3)]


@pytest.mark.anyio
async def test_race_of_waits_goes_on_after_the_first() -> None:
    """In race mode every end is followed by a call of the app."""
    c = client()

    @c.create_function(fn_id="race", trigger=inngest.TriggerEvent(event="shop/race"))
    async def race(ctx: inngest.Context) -> str:
        await ctx.group.parallel(
            (
                lambda: ctx.step.sleep("a", td(hours=1)),
                lambda: ctx.step.sleep("b", td(hours=2)),
            ),
            parallel_mode=inngest.ParallelMode.RACE,
        )
        return "done"

    async with LocalEngine(c, [race]) as engine:
        run = await engine.run(send("shop/race"))
    assert [len(request.request["steps"]) for request in run.requests] == [0, 1, 2]


@pytest.mark.anyio
async def test_work_in_flight_when_the_engine_closes_is_done_by_the_next_session() -> None:
    """Closing cancels a request; opening again sends it again."""
    c = client()
    calls = 0
    called = asyncio.Event()

    @c.create_function(fn_id="slow", trigger=inngest.TriggerEvent(event="shop/slow"))
    async def slow(ctx: inngest.Context) -> int:
        nonlocal calls
        calls += 1
        called.set()
        await asyncio.sleep(3600 if calls == 1 else 0)
        return calls

    engine = LocalEngine(c, [slow])
    async with engine:
        await engine.send(send("shop/slow"))
        await called.wait()
        assert calls == 1
    async with engine:
        await engine.settle(timeout=200)
    (run,) = engine.runs
    assert (run.status, run.output) == ("Completed", 2)


@pytest.mark.anyio
async def test_engine_that_breaks_tells_everybody_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure of the engine itself is raised to whoever waits, at once and later."""
    c = client()
    async with LocalEngine(c, [listener(c, "fn", "shop/fn")]) as engine:
        store = engine._opened().store

        def broken(*arguments: Json) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(store, "save_request", broken)
        with pytest.raises(OSError, match="disk full"):
            await engine.run(send("shop/fn"))
        with pytest.raises(OSError, match="disk full"):
            await engine.settle()


@pytest.mark.anyio
async def test_wsgi_app_that_crashes() -> None:
    """A crashing WSGI app is a failed attempt as well."""
    c = client()

    def serve(owner: inngest.Inngest, functions: list[inngest.Function[typing.Any]]) -> Json:
        app = flask.Flask("crash")
        inngest.flask.serve(app, owner, functions)

        def crashing(environ: Json, start_response: Json) -> Json:
            if environ["REQUEST_METHOD"] == "POST":
                raise RuntimeError("down")
            return app(environ, start_response)

        return crashing

    async with LocalEngine(c, [listener(c, "fn", "shop/fn", retries=0)], serve=serve) as engine:
        run = await engine.run(send("shop/fn"))
    assert run.status == "Failed"
    assert run.requests[0].failure is not None


@pytest.mark.anyio
async def test_records_read_well() -> None:
    """Runs, requests and timelines say in words what happened, without payload values."""
    c = client()

    @c.create_function(fn_id="story", retries=1, trigger=inngest.TriggerEvent(event="shop/story"))
    async def story(ctx: inngest.Context) -> None:
        async def flaky() -> str:
            if ctx.attempt == 0:
                raise ValueError("secret-value")
            return "secret-value"

        await ctx.step.run("flaky", flaky)
        await ctx.group.parallel(
            (
                lambda: ctx.step.send_event("tell", inngest.Event(name="shop/told")),
                lambda: ctx.step.sleep("nap", td(hours=3)),
            )
        )
        raise RuntimeError("the end")

    async with LocalEngine(c, [story]) as engine:
        await engine.send(send("shop/story", secret="secret-value"))
        await engine.idle()
        waiting = str(engine.runs[0].timeline())
        assert "step flaky failed: ValueError" in waiting
        await engine.settle()
        (run,) = engine.runs
    timeline = run.timeline()
    text = str(timeline)
    assert "secret-value" not in text
    assert "step nap (3.0 h)  Sleep Completed" in text
    assert "sends shop/told" in text
    assert "targets tell" in text
    assert timeline[-1].failed
    assert {entry.kind for entry in timeline} == {
        "event",
        "request",
        "step",
        "function",
        "sent",
        "end",
    }
    assert str(run.requests[0]).startswith("#0 POST ?fnId=shop-story&stepId=step attempt 0 -> 206")
    assert run.steps["flaky"].errors[0]["name"] == "ValueError"
    assert run.steps["flaky"].error is None
    assert run.parent_run_id is None
    assert run.parent_step is None
    assert run.is_ended
    assert run != 3
    assert str(TimelineEntry(at=0, offset=90 * 60, kind="end", label="x")).split()[0] == "90"


def test_records_of_unusual_answers() -> None:
    """A record shows what came back even when it was not JSON, nothing, or not ended."""
    common: dict[str, Json] = {
        "number": 0,
        "query": {"fnId": "f", "stepId": "h"},
        "request_headers": {},
        "started_at": 1.0,
        "failure": None,
        "request_bytes": b"{}",
    }
    text = RequestRecord(
        **common,
        status=502,
        ended_at=3.0,
        response_bytes=b"<html>",
        response_headers={"server-timing": "a;dur=2, b"},
    )
    assert (text.response, text.ops, text.duration, text.target) == ("<html>", [], 2.0, "h")
    assert text.server_timing == {"a": 0.002}
    empty = RequestRecord(
        **common, status=206, ended_at=None, response_bytes=b"", response_headers={}
    )
    assert (empty.response, empty.ops, empty.duration) == (None, [], None)


def test_values_of_steps() -> None:
    """The value is inside the envelope, or the memo itself; the error only when it counts."""
    common: dict[str, Json] = {
        "key": "k",
        "id": "k",
        "index": 0,
        "hashed_id": "h",
        "op": "StepRun",
        "attempts": 1,
        "started_at": 0.0,
        "ended_at": 1.0,
        "errors": (),
        "opts": None,
        "invoked_run_id": None,
    }
    event = {"name": "e", "data": {}}
    assert StepRecord(**common, status="Completed", memo={"data": 3}).value == 3
    assert StepRecord(**common, status="Completed", memo=event).value == event
    assert StepRecord(**common, status="TimedOut", memo=None).error is None
    failed = StepRecord(**common, status="Failed", memo={"error": {"name": "E"}})
    assert (failed.value, failed.error) == (None, {"name": "E"})


def test_inference_dialects() -> None:
    """Credentials go where each provider wants them."""
    opts = {"url": "http://m/v1", "auth_key": "k", "headers": {"a": 1}, "body": {}}
    openai = InferenceRequest.from_opts({**opts, "format": "openai-chat"})
    assert openai.headers == {"Authorization": "Bearer k", "a": "1"}
    anthropic = InferenceRequest.from_opts({**opts, "format": "anthropic"})
    assert anthropic.headers["x-api-key"] == "k"
    gemini = InferenceRequest.from_opts({**opts, "format": "gemini"})
    assert gemini.url == "http://m/v1?key=k"
    assert InferenceRequest.from_opts({"url": "http://m"}).headers == {}
