"""What is deferred runs once, after the run has ended, however that ended."""

from __future__ import annotations

import asyncio
from typing import Any

import inngest
import pytest
from tests.defer.defer_rig import EVENT, App, Verdict

from inngest_plugins.checkpoint import CheckpointPlugin
from inngest_plugins.defer import DeferPlugin, defer, deferred_function, deferred_function_by_id
from inngest_plugins.local import LocalEngine, VirtualClock

pytestmark = pytest.mark.anyio


async def test_it_runs_after_the_run_has_ended(kind: str) -> None:
    """It is given the typed data; the engine acknowledges it in one call for the request."""
    app = App(kind)

    async def body(ctx: inngest.Context) -> str:
        text = await ctx.step.run("write", _text)
        defer("quality", app.judge, Verdict(text=text))
        defer("style", app.function, Verdict(text=text, score=2))
        await ctx.step.run("more", _text)
        assert app.judged == []
        return text

    def body_sync(ctx: inngest.ContextSync) -> str:
        text = ctx.step.run("write", lambda: "hello")
        defer("quality", app.judge, Verdict(text=text))
        defer("style", app.function, Verdict(text=text, score=2))
        ctx.step.run("more", lambda: "x")
        assert app.judged == []
        return text

    played = await app.play(body, body_sync)
    assert (played.run.status, played.run.output) == ("Completed", "hello")
    assert [run.output for run in played.deferred] == ["weighed", "weighed"]
    assert {verdict.score for verdict in app.judged} == {0, 2}
    assert all(type(verdict) is Verdict for verdict in app.judged)
    assert played.calls.names == [["DeferAdd", "DeferAdd"]]
    assert played.run.deferred["quality"].status == "Started"


async def _text() -> str:
    return "hello"


@pytest.mark.parametrize("place", ["step", "body"])
@pytest.mark.parametrize("ending", ["error", "final", "return"])
async def test_it_survives_what_ends_the_request(kind: str, ending: str, place: str) -> None:
    """A raise directly after `defer`, in the body and in a step, retried and final."""
    app = App(kind)

    def end() -> None:
        defer("quality", app.judge, Verdict(text="x"))
        if ending == "error":
            raise ValueError("after the defer")
        if ending == "final":
            raise inngest.NonRetriableError("after the defer")

    async def end_async() -> None:
        end()

    async def body(ctx: inngest.Context) -> None:
        if place == "step":
            await ctx.step.run("end", end_async)
        else:
            end()

    def body_sync(ctx: inngest.ContextSync) -> None:
        if place == "step":
            ctx.step.run("end", end)
        else:
            end()

    played = await app.play(body, body_sync, retries=1)
    assert played.run.status == ("Completed" if ending == "return" else "Failed")
    assert len(played.deferred) == 1
    assert app.judged[0] == Verdict(text="x")


async def test_a_task_that_is_cancelled_directly_after(kind: str) -> None:
    """The server gives the request up; what was deferred is acknowledged all the same."""
    if kind == "sync":
        pytest.skip("a thread cannot be cancelled")
    app = App(kind)

    async def body(ctx: inngest.Context) -> None:
        defer("quality", app.judge, Verdict(text="x"))
        raise asyncio.CancelledError

    played = await app.play(body, retries=0)
    assert played.run.status == "Failed"
    assert len(played.deferred) == 1


async def test_a_run_that_the_engine_cancels(kind: str) -> None:
    """What the run had deferred starts when it is cancelled."""
    app = App(kind)

    async def body(ctx: inngest.Context) -> None:
        defer("quality", app.judge, Verdict(text="x"))
        await ctx.step.wait_for_event("wait", event="shop/never", timeout=60_000)

    def body_sync(ctx: inngest.ContextSync) -> None:
        defer("quality", app.judge, Verdict(text="x"))
        ctx.step.wait_for_event("wait", event="shop/never", timeout=60_000)

    reply = app.make(body_sync if kind == "sync" else body)
    clock = VirtualClock()
    async with LocalEngine(app.client, [reply, app.function], clock=clock) as engine:
        await engine.send(inngest.Event(name=EVENT))
        await engine.idle()
        (run,) = engine.runs
        assert app.judged == []
        await engine.cancel(run)
        await engine.settle()
        assert run.status == "Cancelled"
        assert [each.status for each in engine.deferred] == ["Completed"]


async def test_abort(kind: str) -> None:
    """Aborted in the same request and in a later one; again is nothing."""
    app = App(kind)

    def first() -> Any:
        kept = defer("kept", app.judge, Verdict(text="kept"))
        gone = defer("gone", app.judge, Verdict(text="gone"))
        gone.abort()
        gone.abort()
        return kept, defer("late", app.judge, Verdict(text="late"))

    async def body(ctx: inngest.Context) -> None:
        _, late = first()
        await ctx.step.run("more", _text)
        late.abort()
        await ctx.step.run("last", _text)

    def body_sync(ctx: inngest.ContextSync) -> None:
        _, late = first()
        ctx.step.run("more", lambda: "x")
        late.abort()
        ctx.step.run("last", lambda: "x")

    played = await app.play(body, body_sync)
    assert [verdict.text for verdict in app.judged if verdict.text != "kept"] == []
    assert len(played.deferred) == 1
    assert played.calls.names == [
        ["DeferAdd", "DeferAdd", "DeferAbort", "DeferAdd"],
        ["DeferAbort"],
    ]


async def test_in_steps_branches_and_threads(kind: str) -> None:
    """Parallel steps, nested calls and threads of a step defer each once."""
    app = App(kind)

    def one(name: str) -> str:
        defer(name, app.judge, Verdict(text=name))
        return name

    async def body(ctx: inngest.Context) -> None:
        async def threaded(name: str) -> str:
            return await asyncio.to_thread(one, name)

        def branch(name: str) -> Any:
            return lambda: ctx.step.run(name, threaded, name)

        await ctx.group.parallel(tuple(branch(name) for name in "abc"))

    def body_sync(ctx: inngest.ContextSync) -> None:
        def branch(name: str) -> Any:
            return lambda: ctx.step.run(name, one, name)

        ctx.group.parallel(tuple(branch(name) for name in "abc"))

    await app.play(body, body_sync)
    assert sorted(verdict.text for verdict in app.judged[::1]) == sorted([*"abc", *"abc"])


@pytest.mark.parametrize("decision", ["refuse", 503])
async def test_an_engine_that_is_away_fails_the_request(kind: str, decision: Any) -> None:
    """The request is tried again, also when the function raised for good."""
    app = App(kind)

    def fail() -> None:
        defer("quality", app.judge, Verdict(text="x"))
        raise inngest.NonRetriableError("for good")

    async def body(ctx: inngest.Context) -> None:
        fail()

    def body_sync(ctx: inngest.ContextSync) -> None:
        fail()

    played = await app.play(
        body, body_sync, decide=lambda number: decision if number < 3 else None, retries=3
    )
    first, second = (str(request.response) for request in played.run.requests)
    assert "did not take" in first
    assert "for good" in second
    assert len(played.deferred) == 1
    assert played.message == "for good"


async def test_an_answer_that_is_lost_doubles_nothing(kind: str) -> None:
    """The engine stored the call and its answer was lost: sent again, it changes nothing."""
    app = App(kind)

    async def body(ctx: inngest.Context) -> None:
        defer("quality", app.judge, Verdict(text="x"))

    def body_sync(ctx: inngest.ContextSync) -> None:
        defer("quality", app.judge, Verdict(text="x"))

    played = await app.play(body, body_sync, decide=lambda number: None if number else "lose")
    assert len(played.calls.ops) == 2
    assert len(played.deferred) == 1


async def test_with_checkpoints_a_stored_step_has_deferred(kind: str) -> None:
    """A checkpoint never stores a step before what the step deferred is acknowledged."""
    app = App(kind, (CheckpointPlugin(),))

    def one() -> str:
        defer("quality", app.judge, Verdict(text="x"))
        return "one"

    async def one_async() -> str:
        return one()

    async def body(ctx: inngest.Context) -> None:
        await ctx.step.run("one", one_async)
        await ctx.step.run("two", _text)

    def body_sync(ctx: inngest.ContextSync) -> None:
        ctx.step.run("one", one)
        ctx.step.run("two", lambda: "x")

    played = await app.play(body, body_sync)
    assert played.calls.names[0] == ["DeferAdd"]
    assert [name for names in played.calls.names[1:3] for name in names] == ["StepRun", "StepRun"]
    assert len(played.run.requests) == 1
    assert len(played.deferred) == 1


async def test_a_function_of_another_app_and_one_without_a_schema() -> None:
    """Two apps, as with a TypeScript `createDefer`; and a dict for what has no schema."""
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[DeferPlugin()])
    seen: list[Any] = []
    note = deferred_function(client, fn_id="note")
    far = deferred_function_by_id(app_id="far", fn_id="judge", schema=Verdict)

    @note
    async def note_it(ctx: inngest.Context, data: dict[str, Any]) -> None:
        seen.append((data, dict(ctx.event.data)))

    @client.create_function(fn_id="reply", trigger=inngest.TriggerEvent(event=EVENT))
    async def reply(ctx: inngest.Context) -> None:
        defer("plain", note, {"a": [1, None]})
        defer("empty", note)
        defer("far", far, Verdict(text="x"))

    async with LocalEngine(client, [reply, note_it], clock=VirtualClock()) as engine:
        run = await engine.run(inngest.Event(name=EVENT))
        await engine.settle()
    assert run.deferred["far"].function_id == "far-judge"
    assert sorted(map(str, seen)) == sorted(
        [str(({"a": [1, None]}, {"a": [1, None]})), str(({}, {}))]
    )


async def test_the_test_kit_shows_what_ran_deferred(inngest_engine: Any) -> None:
    """`engine.deferred` of the fixture."""
    app = App("async")

    async def body(ctx: inngest.Context) -> None:
        defer("quality", app.judge, Verdict(text="x"))

    async with inngest_engine(app.client, [app.make(body), app.function]) as engine:
        await engine.run(inngest.Event(name=EVENT), function="reply")
        await engine.settle()
        assert [run.function_id for run in engine.deferred] == ["shop-judge"]
        assert engine.calls("quality")[0].args == ({"text": "x", "score": 0},)
