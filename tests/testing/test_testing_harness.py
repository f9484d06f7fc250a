"""The harness: both worlds, stubs for every kind of step, records and assertions."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import pathlib
import typing

import anyio
import inngest
import pytest

from inngest_plugins import testing
from inngest_plugins.core import Call, Hooks, Layer, Outcome, Plugin, Send, Step
from inngest_plugins.local import LocalEngineError, RealClock
from inngest_plugins.testing import (
    Harness,
    UnusedStubError,
    assert_completed,
    assert_failed,
    assert_steps,
    calls,
    in_turn,
    passes,
    raises,
    returns,
)

Made = tuple[inngest.Inngest, list[inngest.Function[typing.Any]]]
MakeEngine = type[Harness]
GO = inngest.Event(name="go", data={"x": 1})


class _Adapter:
    """An AI adapter that calls nobody."""

    def auth_key(self) -> str:
        return "key"

    def format(self) -> str:
        return "openai-chat"

    def headers(self) -> dict[str, str]:
        return {}

    def on_call(self, body: dict[str, typing.Any]) -> None:
        del body

    def url_infer(self) -> str:
        return "https://ai.invalid/v1"


def make_async(**options: typing.Any) -> Made:
    """One async function with a step of each kind, and the function that it invokes."""
    client = inngest.Inngest(app_id="t", is_production=False, **options)

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="child"))
    async def child(ctx: inngest.Context) -> str:
        return f"child got {ctx.event.data['n']}"

    async def real(value: int) -> str:
        return f"real {value}"

    @client.create_function(fn_id="all", trigger=inngest.TriggerEvent(event="go"), retries=2)
    async def all_steps(ctx: inngest.Context) -> dict[str, object]:
        ran = await ctx.step.run("run", real, 5)
        ids = await ctx.step.send_event("send", [inngest.Event(name="out", data={"n": 1})])
        event = await ctx.step.wait_for_event(
            "wait", event="answer", timeout=datetime.timedelta(days=1)
        )
        await ctx.step.sleep("sleep", datetime.timedelta(hours=1))
        await ctx.step.sleep_until("until", datetime.datetime.now() + datetime.timedelta(hours=1))
        invoked: object
        try:
            answered = await ctx.step.invoke("invoke", function=child, data={"n": 2})
            invoked = answered
        except inngest.StepError as error:
            invoked = [error.name, error.message]
        left, right = await ctx.group.parallel(
            (
                lambda: ctx.step.run("left", real, 1),
                lambda: ctx.step.invoke_by_id("right", function_id="child", data={"n": 3}),
            )
        )
        answer = await ctx.step.ai.infer(
            "ask", adapter=typing.cast("typing.Any", _Adapter()), body={"q": 1}
        )
        return {
            "ran": ran,
            "ids": len(ids),
            "event": None if event is None else [event.name, event.data],
            "invoked": invoked,
            "left": left,
            "right": right,
            "answer": answer,
        }

    return client, [all_steps, child]


def make_sync() -> Made:
    """The same for sync functions."""
    client = inngest.Inngest(app_id="t", is_production=False)

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="child"))
    def child(ctx: inngest.ContextSync) -> str:
        return f"child got {ctx.event.data['n']}"

    @client.create_function(fn_id="all", trigger=inngest.TriggerEvent(event="go"), retries=2)
    def all_steps(ctx: inngest.ContextSync) -> dict[str, object]:
        ran = ctx.step.run("run", lambda value: f"real {value}", 5)
        ids = ctx.step.send_event("send", inngest.Event(name="out", data={"n": 1}))
        event = ctx.step.wait_for_event("wait", event="answer", timeout=datetime.timedelta(days=1))
        ctx.step.sleep("sleep", datetime.timedelta(hours=1))
        try:
            invoked: object = ctx.step.invoke("invoke", function=child, data={"n": 2})
        except inngest.StepError as error:
            invoked = [error.name, error.message]
        return {
            "ran": ran,
            "ids": len(ids),
            "event": None if event is None else [event.name, event.data],
            "invoked": invoked,
        }

    return client, [all_steps, child]


ASK: typing.Final = {"ask": {"said": "hello"}}


# ------------------------------------------------------------- both worlds


@pytest.mark.anyio
async def test_without_stubs_everything_is_real(inngest_engine: MakeEngine) -> None:
    """Only what is stubbed is not real; time jumps, also over a wait of a day."""
    client, functions = make_async()
    async with inngest_engine(client, functions, stubs=ASK) as engine:
        run = await engine.run(GO)
    output = assert_completed(run)
    assert output["ran"] == "real 5"
    assert output["ids"] == 1
    assert output["event"] is None
    assert output["invoked"] == "child got 2"
    assert (output["left"], output["right"]) == ("real 1", "child got 3")
    assert output["answer"] == {"said": "hello"}
    assert run.ended_at is not None
    assert run.ended_at - run.queued_at > 86_400


def test_the_same_in_a_plain_test(inngest_engine: MakeEngine) -> None:
    """``with`` and the methods that end in _sync need no event loop."""
    client, functions = make_sync()
    with inngest_engine(client, functions) as engine:
        engine.send_sync(GO)
        engine.idle_sync()
        run = engine.run_of("all")
        assert run.steps["wait"].status == "Waiting"
        engine.send_sync(inngest.Event(name="answer", data={"ok": True}))
        engine.settle_sync()
        assert_completed(
            run,
            {
                "ran": "real 5",
                "ids": 1,
                "event": ["answer", {"ok": True}],
                "invoked": "child got 2",
            },
        )
        engine.send_sync(GO)
        engine.idle_sync()
        second = engine.run_of(functions[0])
        assert second != run
        engine.cancel_sync(second)
        assert second.status == "Cancelled"
        third = engine.run_sync(inngest.Event(name="child", data={"n": 9}))
    assert_completed(third, "child got 9")
    assert engine.engine.runs == engine.runs


def test_async_functions_in_a_plain_test(inngest_engine: MakeEngine) -> None:
    """A plain test may run async functions, and records what a test of its own kind would."""
    seen = Hooks("seen")
    seen.before_send_events(lambda send: None)
    seen.transform_output(lambda call, outcome: None)
    client, functions = make_async(middleware=[seen])
    with inngest_engine(client, functions, stubs={**ASK, "wait": None}) as engine:
        run = engine.run_sync(GO)
    assert_completed(run)
    assert engine.hook_order(run, "seen")[0] == ["transform_output"]
    hooks = [record.hook for record in engine.hooks if record.run_id is None]
    assert hooks == ["before_send_events"]


@pytest.mark.anyio
async def test_cancel(inngest_engine: MakeEngine) -> None:
    """A waiting run can be cancelled."""
    client, functions = make_async()
    async with inngest_engine(client, functions[:1], allow_unused_stubs=True) as engine:
        await engine.send(GO)
        await engine.idle()
        (run,) = engine.runs
        await engine.cancel(run)
        await anyio.sleep(0.05)
    assert run.status == "Cancelled"


@pytest.mark.anyio
async def test_one_function_needs_no_list(
    inngest_engine: MakeEngine, tmp_path: pathlib.Path
) -> None:
    """A single function, a journal, a clock and the engine's own options are passed on."""
    client, functions = make_async()
    async with inngest_engine(
        client,
        functions[1],
        journal=tmp_path / "j.db",
        clock=RealClock(),
        retry_interval=0.01,
    ) as engine:
        run = await engine.run(inngest.Event(name="child", data={"n": 1}), functions[1])
        assert isinstance(engine.engine.clock, RealClock)
    assert_completed(run, "child got 1")
    assert (tmp_path / "j.db").exists()


@pytest.mark.anyio
async def test_a_test_never_hangs(inngest_engine: MakeEngine) -> None:
    """A run that takes longer than the harness's patience ends as TimedOut."""
    client = inngest.Inngest(app_id="t", is_production=False)

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"))
    async def f(ctx: inngest.Context) -> None:
        await anyio.sleep(30)

    async with inngest_engine(client, f, timeout=0.1) as engine:
        assert (await engine.run(GO)).status == "TimedOut"
        assert (await engine.run(GO, timeout=0.05)).status == "TimedOut"
        await engine.settle()


@pytest.mark.anyio
async def test_the_client_is_left_as_it_was(inngest_engine: MakeEngine) -> None:
    """The client's list of middleware is the same object afterwards, however the test ended."""
    client, functions = make_async(middleware=[Hooks("mine")])
    before = client.middleware
    during = 0
    with pytest.raises(LookupError):  # noqa: PT012 - the block is what is tested
        async with inngest_engine(client, functions, stubs=ASK):
            during = len(client.middleware)
            raise LookupError
    assert during == 2
    assert client.middleware is before


@pytest.mark.parametrize("make", [make_sync, make_async])
@pytest.mark.parametrize("outcome", [pytest.fail, pytest.skip])
def test_the_outcomes_of_pytest_end_a_plain_test(
    inngest_engine: MakeEngine, outcome: typing.Any, make: typing.Callable[[], Made]
) -> None:
    """`pytest.fail()` in a stub is what the test ends with, and the client can be used again."""
    client, functions = make()
    for _ in range(2):
        stubs = {**ASK, "run": lambda *_: outcome("told")}
        with (
            pytest.raises(outcome.Exception, match="told"),
            inngest_engine(client, functions, stubs=stubs) as engine,
        ):
            engine.run_sync(GO, functions[0])


@pytest.mark.parametrize("make", [make_sync, make_async])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_process_ends_a_plain_test(
    inngest_engine: MakeEngine, error: BaseException, make: typing.Callable[[], Made]
) -> None:
    """`sys.exit` in a function is raised where the test waits; the client can be used again."""
    client, functions = make()
    for _ in range(2):
        with (
            pytest.raises(type(error)) as raised,
            inngest_engine(client, functions, stubs={**ASK, "run": raises(error)}) as engine,
        ):
            engine.run_sync(GO, functions[0])
        assert raised.value is error


def test_what_ends_the_process_after_the_test_waited(inngest_engine: MakeEngine) -> None:
    """Where no call raises what has ended the loop, the end of the block does, and later calls."""
    client, functions = make_async()
    stubs = {"run": raises(SystemExit(3))}
    with (  # noqa: PT012 - the block is what is tested
        pytest.raises(SystemExit),
        inngest_engine(client, functions, stubs=stubs) as engine,
    ):
        engine.send_sync(GO)
        typing.cast("typing.Any", engine)._thread._thread.join()
    with inngest_engine(client, functions, stubs=stubs) as engine:
        for _ in range(2):
            with pytest.raises(SystemExit):
                engine.run_sync(GO, functions[0])


def test_a_call_that_is_cancelled_by_itself(inngest_engine: MakeEngine) -> None:
    """A hook that raises `CancelledError` ends the call that asked for it, and not the engine."""
    broken = Hooks("broken", layer=Layer.WIRE)

    @broken.before_send_events
    async def cancel(send: Send) -> None:
        if send.call is None and send.events[0].name == "go":
            raise asyncio.CancelledError

    client, functions = make_async(middleware=[broken])
    with inngest_engine(client, functions) as engine:
        with pytest.raises(asyncio.CancelledError):
            engine.run_sync(GO)
        assert_completed(engine.run_sync(inngest.Event(name="child", data={"n": 1})))


@pytest.mark.anyio
async def test_opening_that_fails_leaves_nothing(
    inngest_engine: MakeEngine, tmp_path: pathlib.Path
) -> None:
    """When the engine cannot open, the client is given back, in both worlds."""
    path = tmp_path / "no-journal"
    path.write_text("this is no SQLite file, and long enough to be looked at as one", "utf-8")
    client, functions = make_async()
    before = client.middleware
    with pytest.raises(LocalEngineError):
        async with inngest_engine(client, functions, journal=path):
            raise AssertionError("it must not open")
    with pytest.raises(LocalEngineError), inngest_engine(client, functions, journal=path):
        raise AssertionError("it must not open")
    assert client.middleware is before


@pytest.mark.anyio
async def test_misuse_is_explained(inngest_engine: MakeEngine) -> None:
    """Opening twice and calling sync methods in an async test say what to do."""
    client, functions = make_async()
    async with inngest_engine(client, functions) as engine:
        with pytest.raises(RuntimeError, match="await the ones without"):
            engine.run_sync(GO)
        with pytest.raises(RuntimeError, match="open already"):
            await engine.__aenter__()
    production = inngest.Inngest(app_id="p", is_production=True)
    with pytest.raises(LocalEngineError, match="dev mode"):
        inngest_engine(production, functions)


# ------------------------------------------------------------- stubs


@pytest.mark.anyio
async def test_every_kind_of_step_can_be_stubbed(inngest_engine: MakeEngine) -> None:
    """Values stand in for run, send_event, wait, sleep, invoke (parallel too) and inference."""
    client, functions = make_async()
    stubs = {
        **ASK,
        "run": "stub",
        "send": returns(["e1", "e2"]),
        "wait": inngest.Event(name="answer", data={"by": "Ada"}),
        "sleep": None,
        "until": None,
        "invoke": "invoked",
        "left": "left",
        "right": "right",
    }
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        run = await engine.run(GO)
    assert_completed(
        run,
        {
            "ran": "stub",
            "ids": 2,
            "event": ["answer", {"by": "Ada"}],
            "invoked": "invoked",
            "left": "left",
            "right": "right",
            "answer": {"said": "hello"},
        },
    )
    assert_steps(run, "run", "send", "wait", "sleep", "until", "invoke", "left", "right", "ask")
    assert {step.op for step in run.steps.values()} == {"StepRun"}
    assert run.events_sent == []
    assert engine.sent() == []
    assert [each.function_id for each in engine.runs] == ["t-all"]
    assert engine.calls("right")[0].args == ({"n": 3},)
    assert all(engine.calls(step)[0].stubbed for step in run.steps)


def test_every_kind_of_step_can_be_stubbed_in_sync_functions(
    inngest_engine: MakeEngine,
) -> None:
    """The same in a sync function."""
    client, functions = make_sync()
    stubs = {"run": "stub", "send": ["e1"], "wait": {"by": "Ada"}, "sleep": None, "invoke": 3}
    with inngest_engine(client, functions, stubs=stubs) as engine:
        run = engine.run_sync(GO)
    assert_completed(
        run, {"ran": "stub", "ids": 1, "event": ["answer", {"by": "Ada"}], "invoked": 3}
    )


@pytest.mark.anyio
async def test_functions_get_what_the_step_was_given(inngest_engine: MakeEngine) -> None:
    """A function stub, sync or async, is called with the arguments of its kind of step."""
    client, functions = make_async()
    told: dict[str, object] = {}

    def listen(step: str, answer: object) -> typing.Callable[[object], object]:
        def called(argument: object) -> object:
            told[step] = argument
            return answer

        return called

    async def later(argument: object) -> object:
        told["invoke"] = argument
        return "later"

    stubs = {
        "run": listen("run", "r"),
        "send": calls(listen("send", [])),
        "wait": listen("wait", {"by": "Ada"}),
        "sleep": listen("sleep", None),
        "until": listen("until", None),
        "invoke": later,
        "ask": listen("ask", {}),
    }
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        run = await engine.run(GO)
    assert assert_completed(run)["invoked"] == "later"
    (event,) = typing.cast("list[inngest.Event]", told["send"])
    assert (told["run"], event.name, told["wait"]) == (5, "out", "answer")
    assert told["sleep"] == datetime.timedelta(hours=1)
    assert isinstance(told["until"], datetime.datetime)
    assert (told["invoke"], told["ask"]) == ({"n": 2}, {"q": 1})


@pytest.mark.anyio
async def test_a_stubbed_exception_goes_the_way_of_a_real_one(
    inngest_engine: MakeEngine,
) -> None:
    """A run step that raises is retried and then fails, by class or by object."""

    class CutError(ConnectionError):
        def __init__(self) -> None:
            super().__init__("cut")

    for error in (CutError, CutError(), raises(CutError())):
        client, functions = make_async()
        async with inngest_engine(client, functions, stubs={"run": error}) as engine:
            run = await engine.run(GO)
        assert_failed(run, CutError, "cut")
        assert run.steps["run"].attempts == 3
        assert [call.attempt for call in engine.calls("run")] == [0, 1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["exception", "function", "async function"])
async def test_a_stubbed_invoke_fails_at_once(inngest_engine: MakeEngine, how: str) -> None:
    """An invoke whose stub raises is not retried: the function gets a StepError to catch."""

    def fail(data: object) -> None:
        raise KeyError("gone")

    async def fail_later(data: object) -> None:
        raise KeyError("gone")

    stub = {"exception": KeyError("gone"), "function": fail, "async function": fail_later}[how]
    client, functions = make_async()
    async with inngest_engine(
        client, functions, stubs={**ASK, "wait": None, "invoke": stub}
    ) as engine:
        run = await engine.run(GO)
    assert assert_completed(run)["invoked"] == ["KeyError", "'gone'"]
    assert len(engine.calls("invoke")) == 1
    assert run.steps["invoke"].status == "Failed"


def test_a_stubbed_invoke_fails_at_once_in_sync_functions(inngest_engine: MakeEngine) -> None:
    """The same in a sync function."""
    client, functions = make_sync()
    stubs = {"wait": None, "invoke": KeyError("gone")}
    with inngest_engine(client, functions, stubs=stubs) as engine:
        run = engine.run_sync(GO)
    assert assert_completed(run)["invoked"] == ["KeyError", "'gone'"]


@pytest.mark.anyio
async def test_other_stubbed_tools_are_retried_when_they_raise(
    inngest_engine: MakeEngine,
) -> None:
    """A wait or an inference whose stub raises once is tried again."""
    client, functions = make_async()
    stubs: testing.Stubs = {
        "wait": None,
        "ask": in_turn(raises(TimeoutError("slow")), {"said": "at last"}),
    }
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        run = await engine.run(GO)
    assert assert_completed(run)["answer"] == {"said": "at last"}
    assert len(engine.calls("ask")) == 2


@pytest.mark.anyio
async def test_in_turn_and_passes(inngest_engine: MakeEngine) -> None:
    """Stubs in turn are used up by executions, not by replays; passes() runs the real step."""
    client, functions = make_async()
    stubs: testing.Stubs = {
        **ASK,
        "run": in_turn(raises(OSError("once")), in_turn(passes())),
        "invoke": passes(),
        "wait": None,
    }
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        run = await engine.run(GO)
    output = assert_completed(run)
    assert (output["ran"], output["invoked"]) == ("real 5", "child got 2")
    assert [call.stubbed for call in engine.calls("run")] == [True, False]
    assert [call.stubbed for call in engine.calls("invoke")] == [False]
    assert engine.calls("invoke")[0].args == ({"n": 2},)
    assert engine.calls("send")[0].args[0][0].name == "out"
    with pytest.raises(ValueError, match="at least one"):
        in_turn()


@pytest.mark.anyio
async def test_passes_cannot_follow_for_a_step_without_a_handler(
    inngest_engine: MakeEngine,
) -> None:
    """Once a stub stood in for a wait the engine cannot take over: the run fails and says so."""
    client, functions = make_async()
    stubs = {"wait": in_turn(raises(OSError("once")), passes())}
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        run = await engine.run(GO)
    assert_failed(run, match="only for steps that have a handler")
    assert len(run.requests) == 4


@pytest.mark.parametrize("make", [make_sync, make_async])
def test_a_stub_of_a_wait_that_gives_no_event(
    inngest_engine: MakeEngine, make: typing.Callable[[], Made]
) -> None:
    """The error says what the stub may give."""
    client, functions = make()
    with inngest_engine(client, functions, stubs={"wait": "yes"}) as engine:
        run = engine.run_sync(GO, functions[0])
    assert_failed(run, match="the stub of a wait gives an inngest.Event, .*, not str")


@pytest.mark.anyio
async def test_a_stub_for_one_function(inngest_engine: MakeEngine) -> None:
    """``(function, step)`` is meant for one function and comes before the step's own stub."""
    client = inngest.Inngest(app_id="t", is_production=False)

    async def real() -> str:
        return "real"

    def make(name: str) -> inngest.Function[typing.Any]:
        @client.create_function(fn_id=name, trigger=inngest.TriggerEvent(event=name))
        async def function(ctx: inngest.Context) -> str:
            return await ctx.step.run("same", real)

        return function

    functions = [make("one"), make("two")]
    stubs: dict[str | tuple[str, str], object] = {("one", "same"): "only one", "same": "both"}
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        one = await engine.run(inngest.Event(name="one"))
        two = await engine.run(inngest.Event(name="two"))
    assert (one.output, two.output) == ("only one", "both")
    assert len(engine.calls("same")) == 2
    assert len(engine.calls("same", "two")) == 1


def test_an_async_stub_in_a_sync_function_is_explained(inngest_engine: MakeEngine) -> None:
    """A sync function cannot await: its stub must be sync, and the error says which is not."""

    async def later(value: int) -> int:
        return value

    client, functions = make_sync()
    with inngest_engine(client, functions, stubs={"run": later}) as engine:
        run = engine.run_sync(GO)
    assert_failed(run, match=r"stubs must be: .*later is async")


@pytest.mark.anyio
async def test_a_misspelt_stub_fails_the_test(inngest_engine: MakeEngine) -> None:
    """A stub that no function comes to fails the test, unless it failed already or may."""
    client, functions = make_async()
    stubs: dict[str | tuple[str, str], object] = {"ask": None, "wiat": None, ("child", "nap"): None}
    with pytest.raises(UnusedStubError, match=r"'wiat', 'child/nap'; .*'wait'"):
        async with inngest_engine(client, functions, stubs=stubs) as engine:
            await engine.run(GO)
    with pytest.raises(LookupError):
        async with inngest_engine(client, functions, stubs=stubs):
            raise LookupError
    async with inngest_engine(client, functions, stubs=stubs, allow_unused_stubs=True):
        pass
    with (
        pytest.raises(UnusedStubError, match="reached: none"),
        inngest_engine(client, functions, stubs={"x": 1}),
    ):
        pass


# ------------------------------------------------------------- records


class _Seal(Plugin):
    """Hides payloads on the way out, as encryption does."""

    layer = Layer.WIRE

    def before_send_events(self, send: typing.Any) -> None:
        for event in send.events:
            event.data = {"sealed": True}

    def transform_output(self, call: object, outcome: Outcome) -> None:
        if outcome.step is not None and outcome.error is None:
            outcome.output = {"sealed": outcome.output}

    def transform_input(self, call: typing.Any) -> None:
        for memo_id, memo in list(call.memos.items()):
            if isinstance(memo.data, dict) and "sealed" in memo.data:
                call.memos[memo_id] = type(memo)(data=memo.data["sealed"])


@pytest.mark.anyio
async def test_stubs_and_records_sit_inside_of_encryption(inngest_engine: MakeEngine) -> None:
    """A stub's result passes the plugins like a real one; ``sent`` is what the code sent."""
    client, functions = make_async(middleware=[_Seal()])
    stubs = {**ASK, "wait": {"by": "Ada"}, "run": "stub"}
    async with inngest_engine(client, functions, stubs=stubs) as engine:
        run = await engine.run(GO)
        await client.send(inngest.Event(name="from-outside"))
    assert assert_completed(run)["event"] == ["answer", {"by": "Ada"}]
    assert run.steps["run"].value == {"sealed": "stub"}
    assert [event.data for event in engine.sent("out")] == [{"n": 1}]
    assert [event["data"] for event in run.events_sent] == [{"sealed": True}]
    assert engine.sent()[0].id == run.events_sent[0]["id"]
    assert engine.sent("from-outside") == []


@pytest.mark.anyio
async def test_plugins_stand_around_stubs(inngest_engine: MakeEngine) -> None:
    """What a plugin holds around a step is held around its stub, whatever kind of step it is."""
    log: list[tuple[str, str]] = []

    class Around(Plugin):
        @contextlib.contextmanager
        def around_step(self, call: Call, step: Step) -> typing.Iterator[None]:
            log.append(("in", step.id))
            yield
            log.append(("out", step.id))

    client, functions = make_async(middleware=[Around()])
    ran = {"run": lambda value: log.append(("stub", "run")), "wait": {"by": "Ada"}, "sleep": None}
    async with inngest_engine(client, functions, stubs={**ASK, **ran}) as engine:
        assert_completed(await engine.run(GO))
    assert log[:3] == [("in", "run"), ("stub", "run"), ("out", "run")]
    assert [step for where, step in log if where == "out"] == [
        "run",
        "send",
        "wait",
        "sleep",
        "left",
        "ask",
    ]


@pytest.mark.anyio
async def test_hook_order(inngest_engine: MakeEngine) -> None:
    """Hooks are listed by request, of one plugin or of all, and never the harness's own."""
    first, second = Hooks("first"), Hooks("second")
    for hooks in (first, second):
        hooks.transform_input(lambda call: None)
        hooks.before_response(lambda call: None)
    client = inngest.Inngest(app_id="t", is_production=False, middleware=[first, second])

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"))
    async def f(ctx: inngest.Context) -> int:
        return await ctx.step.run("one", lambda: 1)  # type: ignore[arg-type,return-value]

    async with inngest_engine(client, f) as engine:
        run = await engine.run(GO)
    assert engine.hook_order(run, "first") == [["transform_input", "before_response"]] * 2
    assert engine.hook_order(run)[0] == [
        "first.transform_input",
        "second.transform_input",
        "second.before_response",
        "first.before_response",
    ]
    assert {record.plugin for record in engine.hooks} == {"first", "second"}


# ------------------------------------------------------------- assertions


@pytest.mark.anyio
async def test_assertions_tell_what_happened(inngest_engine: MakeEngine) -> None:
    """A failing assertion names what was, what was not, and shows the run's timeline."""
    client, functions = make_async()
    async with inngest_engine(client, functions, stubs={"run": ValueError("bad")}) as engine:
        bad = await engine.run(GO)
        good = await engine.run(inngest.Event(name="child", data={"n": 1}))
        with pytest.raises(AssertionError, match=r"'t-nope' was not run|'nope' was not run"):
            engine.run_of("nope")

    def message(check: typing.Callable[[], object]) -> str:
        with pytest.raises(AssertionError) as caught:
            check()
        assert "request 1" in str(caught.value)
        return str(caught.value)

    told = message(lambda: assert_completed(bad))
    assert "t-all is Failed, not Completed" in told
    assert "ValueError: bad" in told
    assert "returned 'child got 1', not 2" in message(lambda: assert_completed(good, 2))
    assert "is Completed, not Failed" in message(lambda: assert_failed(good))
    assert "failed with ValueError, not KeyError" in message(lambda: assert_failed(bad, KeyError))
    assert "does not match 'x+'" in message(lambda: assert_failed(bad, "ValueError", "x+"))
    assert "went through ['run'], not ['other']" in message(lambda: assert_steps(bad, "other"))
    assert assert_failed(bad)["name"] == "ValueError"


def test_the_public_names_are_there() -> None:
    """Every public name can be imported although they load lazily; others raise as usual."""
    for name in testing.__all__:
        assert getattr(testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = testing.nope
