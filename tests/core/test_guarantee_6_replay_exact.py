"""Guarantee 6: per request every hook fires at most once, in one order, in every situation."""

from __future__ import annotations

import datetime
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import SETTINGS, Engine, Reply, hashed, serve
from tests.core.core_spies import AsyncSpy, Spy

from inngest_plugins.core import Call, Phase, Plugin, Step

OPEN = ["transform_input", "before_memoization"]
NEW = ["after_memoization", "before_execution"]
STEP = ["around_step", "handler", "~around_step"]
END = ["after_execution", "transform_output", "before_response"]
PLANNED = ["after_execution", "before_response"]
ONE = {"data": 1}

pytestmark = pytest.mark.parametrize("setting", SETTINGS)
kinds = pytest.mark.parametrize("kind", [Spy, AsyncSpy])
Kind = type[Spy] | type[AsyncSpy]


class Scene:
    """One function with one spy; `log` is what happened in the last call."""

    def __init__(self, setting: str, kind: Kind, body: Any, **options: Any) -> None:
        self.log: list[str] = []
        self.phases: list[tuple[str, str]] = []

        async def logged(ctx: Any) -> Any:
            return await body(ctx, self.log)

        self.app = serve(setting, logged, kind("", self.log), **options)

    def post(self, **call: Any) -> Reply:
        """Post one call."""
        self.log.clear()
        return self.app.post(**call)


def step(log: list[str], name: str = "handler", value: Any = 1) -> Any:
    """A handler that says when it runs."""

    def handler() -> Any:
        log.append(name)
        return value

    return handler


@kinds
def test_no_steps(setting: str, kind: Kind) -> None:
    """A function without steps: everything but the step's hooks."""

    async def body(ctx: Any, log: list[str]) -> int:
        log.append("function")
        return 7

    scene = Scene(setting, kind, body)
    assert scene.post().body == 7
    assert scene.log == [*OPEN, *NEW, "function", *END]


@kinds
def test_zero_memos_and_a_step(setting: str, kind: Kind) -> None:
    """The first request of a run: replay is over before the function begins."""

    async def body(ctx: Any, log: list[str]) -> None:
        log.append("function")
        await ctx.step.run("a", step(log))

    scene = Scene(setting, kind, body)
    assert scene.post().op["op"] == "StepRun"
    assert scene.log == [*OPEN, *NEW, "function", *STEP, *END]


@kinds
def test_partial_replay(setting: str, kind: Kind) -> None:
    """With one of two steps memoized, execution begins when the memo has been consumed."""

    async def body(ctx: Any, log: list[str]) -> None:
        log.append("function")
        await ctx.step.run("a", step(log, "never"))
        log.append("between")
        await ctx.step.run("b", step(log))

    scene = Scene(setting, kind, body)
    assert scene.post(memos={"a": ONE}).op["displayName"] == "b"
    assert scene.log == [*OPEN, "function", *NEW, "between", *STEP, *END]


@kinds
def test_all_memos(setting: str, kind: Kind) -> None:
    """The last request: no step runs, the code after the last memo is new."""

    async def body(ctx: Any, log: list[str]) -> int:
        value = await ctx.step.run("a", step(log, "never"))
        log.append("between")
        await ctx.step.sleep("s", 1000)
        log.append("tail")
        return int(value) + 1

    scene = Scene(setting, kind, body)
    assert scene.post(memos={"a": ONE, "s": None}).body == 2
    assert scene.log == [*OPEN, "between", *NEW, "tail", *END]


@kinds
def test_function_that_ends_without_consuming_all_memos(setting: str, kind: Kind) -> None:
    """Memos of steps that the function no longer reaches do not leave execution unopened."""

    async def body(ctx: Any, log: list[str]) -> int:
        log.append("function")
        await ctx.step.run("a", step(log, "never"))
        return 5

    scene = Scene(setting, kind, body)
    assert scene.post(memos={"a": ONE, "gone": ONE}).body == 5
    assert scene.log == [*OPEN, "function", *NEW, *END]


@kinds
def test_new_step_while_memos_are_left_over(setting: str, kind: Kind) -> None:
    """A new step opens execution although an unused memo remains."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))
        await ctx.step.run("b", step(log))

    scene = Scene(setting, kind, body)
    scene.post(memos={"a": ONE, "gone": ONE})
    assert scene.log == [*OPEN, *NEW, *STEP, *END]


@kinds
def test_function_that_raises_with_memos_left_over(setting: str, kind: Kind) -> None:
    """A function that fails before its memos are used up closes what it opened, once."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))
        log.append("raising")
        raise ValueError("user")

    scene = Scene(setting, kind, body)
    assert scene.post(memos={"a": ONE, "gone": ONE}).status == 500
    assert scene.log == [*OPEN, "raising", *NEW, *END]


@kinds
def test_parallel_planning(setting: str, kind: Kind) -> None:
    """A request that only plans has no step hooks and no `transform_output`."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.group.parallel(
            (
                lambda: ctx.step.run("a", step(log, "never")),
                lambda: ctx.step.run("b", step(log, "never")),
            )
        )

    scene = Scene(setting, kind, body)
    assert [op["op"] for op in scene.post().ops] == ["StepPlanned", "StepPlanned"]
    assert scene.log == [*OPEN, *NEW, *PLANNED]


@kinds
def test_single_planned_step(setting: str, kind: Kind) -> None:
    """One planned operation alone is a plan too, although the SDK calls its own hook for it."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))

    scene = Scene(setting, kind, body)
    assert scene.post(planning=True).op["op"] == "StepPlanned"
    assert scene.log == [*OPEN, *NEW, *PLANNED]


@kinds
@pytest.mark.parametrize("mode", ["wait", "race"])
def test_targeted_step_in_a_group(setting: str, kind: Kind, mode: str) -> None:
    """Of a group only the targeted step has hooks; the others are skipped."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.group.parallel(
            (
                lambda: ctx.step.run("a", step(log, "never")),
                lambda: ctx.step.run("b", step(log)),
            ),
            parallel_mode=inngest.ParallelMode(mode),
        )

    scene = Scene(setting, kind, body)
    assert scene.post(target="b", planning=True).op["displayName"] == "b"
    assert scene.log == [*OPEN, *NEW, *STEP, *END]


@kinds
def test_code_ahead_of_the_target_is_no_new_code(setting: str, kind: Kind) -> None:
    """Execution begins at the target: what other branches pass or would send is not touched."""

    async def body(ctx: Any, log: list[str]) -> None:
        async def branch() -> None:
            log.append("replayed")
            await ctx.step.run("b", step(log))

        await ctx.group.parallel((lambda: use(ctx, "invoke", "a"), branch))

    scene = Scene(setting, kind, body)
    op = scene.post(target="b", memos={"later": ONE}, planning=True).op
    assert op["displayName"] == "b"
    assert scene.log == [*OPEN, "replayed", *NEW, *STEP, *END]


@kinds
def test_targeted_step_with_memos_of_both_branches(setting: str, kind: Kind) -> None:
    """SDK quirk Q2: execution begins before the targeted step, not when the last memo is used."""

    async def body(ctx: Any, log: list[str]) -> None:
        async def branch(first: str, second: str) -> None:
            await ctx.step.run(first, step(log, "never"))
            await ctx.step.run(second, step(log, second))

        await ctx.group.parallel((lambda: branch("l1", "l2"), lambda: branch("r1", "r2")))

    scene = Scene(setting, kind, body)
    scene.post(target="l2", memos={"l1": ONE, "r1": ONE}, planning=True)
    assert scene.log == [*OPEN, *NEW, "around_step", "l2", "~around_step", *END]
    scene.post(target="r2", memos={"l1": ONE, "r1": ONE}, planning=True)
    assert scene.log == [*OPEN, *NEW, "around_step", "r2", "~around_step", *END]


@kinds
def test_targeted_step_with_an_unused_memo(setting: str, kind: Kind) -> None:
    """SDK quirk Q2: with an unused memo execution begins all the same."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))
        await ctx.step.run("b", step(log))

    scene = Scene(setting, kind, body)
    assert scene.post(target="b", memos={"a": ONE, "gone": ONE}).op["data"] == 1
    assert scene.log == [*OPEN, *NEW, *STEP, *END]


@kinds
def test_unknown_target(setting: str, kind: Kind) -> None:
    """A target that the function does not have ends in the SDK's error, with everything closed."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))

    scene = Scene(setting, kind, body)
    assert scene.post(target="nope").body["code"] == "step_unexpected"
    assert scene.log == [*OPEN, *NEW, *END]


@kinds
@pytest.mark.parametrize(("attempt", "op"), [(0, "StepError"), (3, "StepFailed")])
def test_step_error(setting: str, kind: Kind, attempt: int, op: str) -> None:
    """A failing step has the hooks of one that succeeds."""

    async def body(ctx: Any, log: list[str]) -> None:
        def fail() -> None:
            log.append("handler")
            raise ValueError("user")

        await ctx.step.run("a", fail)

    scene = Scene(setting, kind, body)
    assert scene.post(attempt=attempt).op["op"] == op
    assert scene.log == [*OPEN, *NEW, *STEP, *END]


@kinds
def test_step_error_that_is_not_retriable(setting: str, kind: Kind) -> None:
    """`NonRetriableError` in a step is the function's error; all hooks fire once."""

    async def body(ctx: Any, log: list[str]) -> None:
        def fail() -> None:
            log.append("handler")
            raise inngest.NonRetriableError("user")

        await ctx.step.run("a", fail)

    scene = Scene(setting, kind, body)
    reply = scene.post()
    assert (reply.status, reply.no_retry) == (500, True)
    assert scene.log == [*OPEN, *NEW, *STEP, *END]


async def step_in_a_step(ctx: Any, log: list[str]) -> None:
    """A function whose step runs a step."""

    async def outer() -> None:
        log.append("handler")
        await ctx.step.run("inner", step(log, "never"))

    await ctx.step.run("outer", outer)


@kinds
def test_nested_step(setting: str, kind: Kind) -> None:
    """A step within a step is never entered; the outer one fails."""
    scene = Scene(setting, kind, step_in_a_step)
    op = scene.post().op
    assert (op["displayName"], op["error"]["code"]) == ("outer", "step_nested")
    assert scene.log == [*OPEN, *NEW, *STEP, *END]


@kinds
def test_nested_step_with_a_memo(setting: str, kind: Kind) -> None:
    """A step within a step is refused though it has a memo, as the SDK does by itself."""
    scene = Scene(setting, kind, step_in_a_step)
    op = scene.post(memos={"inner": ONE}).op
    assert (op["displayName"], op["error"]["code"]) == ("outer", "step_nested")
    assert "never" not in scene.log


@kinds
def test_function_error(setting: str, kind: Kind) -> None:
    """A function that raises has `after_execution`, which the SDK itself leaves out."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))
        raise ValueError("user")

    scene = Scene(setting, kind, body)
    assert scene.post(memos={"a": ONE}).status == 500
    assert scene.log == [*OPEN, *NEW, *END]


@kinds
def test_memoized_step_failure_that_the_function_does_not_catch(setting: str, kind: Kind) -> None:
    """The replayed failure of a step ends the function like any error."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.run("a", step(log, "never"))

    scene = Scene(setting, kind, body)
    reply = scene.post(memos={"a": {"error": {"message": "m", "name": "N", "stack": ""}}})
    assert (reply.status, reply.body["message"]) == (500, "m")
    assert scene.log == [*OPEN, *NEW, *END]


@kinds
@pytest.mark.parametrize("tool", ["sleep", "wait", "invoke", "ai"])
def test_single_operation_that_the_engine_does(setting: str, kind: Kind, tool: str) -> None:
    """A sleep, wait, invoke or AI request has no handler and no output here."""

    async def body(ctx: Any, log: list[str]) -> None:
        await use(ctx, tool, "a")

    scene = Scene(setting, kind, body)
    assert scene.post().op["displayName"] == "a"
    leaving = [] if tool == "sleep" else ["transform_step_input"]
    assert scene.log == [*OPEN, *NEW, *leaving, *PLANNED]
    assert scene.post(memos={"a": MEMOS[tool]}).status == 200
    assert scene.log == [*OPEN, *NEW, *END]


@kinds
@pytest.mark.parametrize("tool", ["sleep", "wait", "invoke", "ai"])
def test_parallel_operations_that_the_engine_does(setting: str, kind: Kind, tool: str) -> None:
    """Two of them in a group: the arguments of each pass the hook, which the SDK leaves out."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.group.parallel((lambda: use(ctx, tool, "a"), lambda: use(ctx, tool, "b")))

    scene = Scene(setting, kind, body)
    assert len(scene.post().ops) == 2
    leaving = [] if tool == "sleep" else ["transform_step_input"] * 2
    assert scene.log == [*OPEN, *NEW, *leaving, *PLANNED]
    assert [op["displayName"] for op in scene.post(memos={"a": MEMOS[tool]}).ops] == ["b"]
    assert scene.log == [*OPEN, *NEW, *leaving[:1], *PLANNED]


MEMOS: dict[str, Any] = {
    "sleep": None,
    "wait": {"name": "shop/x", "data": {}, "id": "e", "ts": 1},
    "invoke": ONE,
    "ai": ONE,
}


async def use(ctx: Any, tool: str, step_id: str) -> Any:
    """Use one of the tools whose work the engine does."""
    if tool == "sleep":
        return await ctx.step.sleep(step_id, 1000)
    if tool == "wait":
        return await ctx.step.wait_for_event(step_id, event="shop/x", timeout=1000)
    if tool == "invoke":
        return await ctx.step.invoke_by_id(step_id, function_id="child", data={})
    from inngest.experimental.ai.openai import Adapter

    return await ctx.step.ai.infer(step_id, adapter=Adapter(auth_key="k", model="m"), body={})


@kinds
def test_send_event_step(setting: str, kind: Kind) -> None:
    """A step that sends events has the send hooks within its own."""

    async def body(ctx: Any, log: list[str]) -> None:
        await ctx.step.send_event("a", inngest.Event(name="shop/x"))

    scene = Scene(setting, kind, body)
    sends = ["before_send_events", "after_send_events"]
    with Engine().serving(scene.app.client):
        assert scene.post().op["data"] == ["id0"]
    assert scene.log == [*OPEN, *NEW, "around_step", *sends, "~around_step", *END]
    scene.post(memos={"a": {"data": ["id0"]}})
    assert scene.log == [*OPEN, *NEW, *END]


@kinds
def test_on_failure_handler(setting: str, kind: Kind) -> None:
    """The failure handler is a request like any other, with steps and replays of its own."""

    async def body(ctx: Any, log: list[str]) -> None:
        raise ValueError("never")

    log: list[str] = []

    async def on_failure(ctx: Any) -> str:
        await ctx.step.run("a", step(log))
        return "handled"

    app = serve(setting, lambda ctx: body(ctx, log), kind("", log), on_failure=on_failure)
    failed = [{"name": "inngest/function.failed", "data": {"function_id": "shop-fn"}}]
    assert app.post(on_failure=True, events=failed).op["data"] == 1
    assert log == [*OPEN, *NEW, *STEP, *END]
    log.clear()
    assert app.post(on_failure=True, events=failed, memos={"a": ONE}).body == "handled"
    assert log == [*OPEN, *NEW, *END]


@kinds
def test_batch(setting: str, kind: Kind) -> None:
    """A batch of events is one request with one of each hook."""

    async def body(ctx: Any, log: list[str]) -> int:
        await ctx.step.run("a", step(log))
        return len(ctx.events)

    scene = Scene(setting, kind, body, batch_events=inngest.Batch(max_size=3, timeout=1000))
    events = [{"name": "shop/test", "data": {"n": n}, "id": f"e{n}"} for n in range(3)]
    scene.post(events=events)
    assert scene.log == [*OPEN, *NEW, *STEP, *END]
    assert scene.post(events=events, memos={"a": ONE}).body == 3
    assert scene.log == [*OPEN, *NEW, *END]


@kinds
def test_reused_step_ids(setting: str, kind: Kind) -> None:
    """Steps of one id in a loop are told apart: replayed ones have no hooks."""

    async def body(ctx: Any, log: list[str]) -> list[Any]:
        return [await ctx.step.run("a", step(log, f"run {n}", n)) for n in range(3)]

    scene = Scene(setting, kind, body)
    for done in range(3):
        memos = {"a" if n == 0 else f"a:{n}": {"data": n} for n in range(done)}
        assert scene.post(memos=memos).op["id"] == hashed("a" if done == 0 else f"a:{done}")
        assert scene.log == [*OPEN, *NEW, "around_step", f"run {done}", "~around_step", *END]
    assert scene.post(memos={"a": ONE, "a:1": ONE, "a:2": ONE}).body == [1, 1, 1]
    assert scene.log == [*OPEN, *NEW, *END]


def test_phase(setting: str) -> None:
    """`call.phase` says REPLAYING until execution begins, and EXECUTING from there on."""
    phases: list[tuple[str, Phase]] = []

    class Watch(Plugin):
        def transform_input(self, call: Call) -> None:
            phases.append(("transform_input", call.phase))

        def after_memoization(self, call: Call) -> None:
            phases.append(("after_memoization", call.phase))

        def before_execution(self, call: Call) -> None:
            phases.append(("before_execution", call.phase))

        def before_response(self, call: Call) -> None:
            phases.append(("before_response", call.phase))

    def note(where: str) -> None:
        call = Call.current()
        assert call is not None
        phases.append((where, call.phase))

    async def body(ctx: Any) -> None:
        note("start")
        await ctx.step.run("a", lambda: 1)
        note("between")
        await ctx.step.run("b", lambda: note("step"))

    serve(setting, body, Watch()).post(memos={"a": ONE})

    replaying, executing = Phase.REPLAYING, Phase.EXECUTING
    assert phases == [
        ("transform_input", replaying),
        ("start", replaying),
        ("after_memoization", replaying),
        ("before_execution", executing),
        ("between", executing),
        ("step", executing),
        ("before_response", executing),
    ]


def test_consumed_memos_are_listed_in_order(setting: str) -> None:
    """`call.consumed` holds the ids that the function was handed, in the order it asked."""
    consumed: list[list[str]] = []
    reached: list[str] = []

    class Watch(Plugin):
        def before_execution(self, call: Call) -> None:
            consumed.append(list(call.consumed))

        def around_step(self, call: Call, step: Step) -> Any:
            reached.append(step.hashed_id)
            return super().around_step(call, step)

        def before_response(self, call: Call) -> None:
            consumed.append(list(call.consumed))
            assert call.memo_count == 3

    async def body(ctx: Any) -> None:
        await ctx.step.run("b", lambda: 1)
        await ctx.step.run("a", lambda: 1)
        await ctx.step.run("c", lambda: 1)

    app = serve(setting, body, Watch())
    app.post(memos={"a": ONE, "gone": ONE, "b": ONE})

    assert consumed == [[hashed("b"), hashed("a")]] * 2
    assert reached == [hashed("c")]


def test_memos_are_known_by_the_ids_that_the_user_gave(setting: str) -> None:
    """`call.identity_of` tells the id and its use of each step that was handed its memo."""
    known: list[Any] = []

    class Watch(Plugin):
        def before_response(self, call: Call) -> None:
            known.extend(map(call.identity_of, [*call.consumed, hashed("gone")]))

    async def body(ctx: Any) -> None:
        for _ in range(2):
            await ctx.step.run("b", lambda: 1)
        await ctx.step.sleep("nap", datetime.timedelta(seconds=1))

    memos = {"b": ONE, "b:1": ONE, "nap": None, "gone": ONE}
    serve(setting, body, Watch()).post(memos=memos)
    assert known == [("b", 0), ("b", 1), ("nap", 0), None]


def test_hooks_fire_once_although_a_step_interrupts_finally_blocks(setting: str) -> None:
    """A `finally:` of user code, which runs on every interrupt, changes nothing."""

    async def body(ctx: Any, log: list[str]) -> None:
        try:
            await ctx.step.run("a", step(log))
        finally:
            log.append("finally")

    scene = Scene(setting, Spy, body)
    scene.post()
    assert scene.log == [*OPEN, *NEW, *STEP, "finally", *END]
