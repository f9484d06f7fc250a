"""The hooks of a step: `step_reached`, `transform_memo` and `answer_step`."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import SETTINGS, hashed, serve

from inngest_plugins.core import (
    Answer,
    AroundBranch,
    Call,
    Hooks,
    Layer,
    Memo,
    Outcome,
    ParallelGroup,
    Plugin,
    Step,
)

pytestmark = pytest.mark.parametrize("setting", SETTINGS)


class Reached(Plugin):
    """Notes the steps that the function reaches."""

    layer = Layer.CONTEXT

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step_reached(self, call: Call, step: Step) -> None:
        self.steps.append(step)

    @property
    def seen(self) -> list[tuple[str, str, str]]:
        return [(step.id, step.op, step.status) for step in self.steps]


async def mixed(ctx: Any) -> Any:
    """A step, a pair in parallel, a wait, and a last step."""
    await ctx.step.run("first", lambda: 1)
    await ctx.group.parallel(
        (lambda: ctx.step.run("left", lambda: "l"), lambda: ctx.step.run("right", lambda: "r"))
    )
    await ctx.step.wait_for_event("wait", event="paid", timeout=1000)
    return await ctx.step.run("last", lambda: 2)


FIRST = {"first": {"data": 1}}
PAIR = {**FIRST, "left": {"data": "l"}, "right": {"data": "r"}}
WAITED = {**PAIR, "wait": None}


@pytest.mark.parametrize(
    ("memos", "target", "seen"),
    [
        ({}, None, [("first", "StepRun", "running")]),
        (
            FIRST,
            None,
            [
                ("first", "StepRun", "memoized"),
                ("left", "StepRun", "planned"),
                ("right", "StepRun", "planned"),
            ],
        ),
        (
            FIRST,
            "right",
            [
                ("first", "StepRun", "memoized"),
                ("left", "StepRun", "skipped"),
                ("right", "StepRun", "running"),
            ],
        ),
        (
            PAIR,
            None,
            [
                ("first", "StepRun", "memoized"),
                ("left", "StepRun", "memoized"),
                ("right", "StepRun", "memoized"),
                ("wait", "WaitForEvent", "waiting"),
            ],
        ),
        (
            WAITED,
            None,
            [
                ("first", "StepRun", "memoized"),
                ("left", "StepRun", "memoized"),
                ("right", "StepRun", "memoized"),
                ("wait", "WaitForEvent", "memoized"),
                ("last", "StepRun", "running"),
            ],
        ),
    ],
)
def test_every_step_is_reached_once(
    setting: str, memos: dict[str, Any], target: str | None, seen: list[tuple[str, str, str]]
) -> None:
    """A step of any kind is reached once in a request, with what becomes of it."""
    reached = Reached()
    serve(setting, mixed, reached).post(memos=memos, target=target)
    assert reached.seen == seen
    assert [step.hashed_id for step in reached.steps] == [hashed(step.id) for step in reached.steps]


def test_a_step_is_planned_where_immediate_execution_is_off(setting: str) -> None:
    """After a parallel group the engine asks for each step by itself."""
    reached = Reached()

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: 1)

    reply = serve(setting, body, reached).post(planning=True)
    assert reply.op["op"] == "StepPlanned"
    assert reached.seen == [("a", "StepRun", "planned")]


@pytest.mark.parametrize("memoized", [True, False])
def test_the_input_is_in_the_clear(setting: str, memoized: bool) -> None:
    """`step.input` is what the function asked for, before any plugin has changed it."""
    reached = Reached()

    class Wire(Plugin):
        layer = Layer.WIRE

        def transform_step_input(self, call: Call, step: Step) -> None:
            assert step.input is not None
            step.input = {**step.input, "payload": {"data": {"sealed": True}}}

    async def body(ctx: Any) -> Any:
        return await ctx.step.invoke_by_id("call", function_id="other", data={"card": "4242"})

    memos = {"call": {"data": 1}} if memoized else {}
    inputs: list[Any] = []
    hooks = Hooks("inputs")

    @hooks.step_reached
    def note(call: Call, step: Step) -> None:
        assert step.input is not None
        inputs.append(step.input["payload"]["data"])

    reply = serve(setting, body, Wire(), reached, hooks).post(memos=memos)
    assert inputs == [{"card": "4242"}]
    if not memoized:
        assert reply.op["opts"]["payload"] == {"data": {"sealed": True}}


@pytest.mark.parametrize("memoized", [True, False])
def test_what_it_raises_is_raised_where_the_step_was_called(setting: str, memoized: bool) -> None:
    """The function can catch what `step_reached` raises; the handler does not run."""
    ran: list[str] = []

    class Gate(Plugin):
        def step_reached(self, call: Call, step: Step) -> None:
            if step.id == "guarded":
                raise PermissionError("not now")

    async def body(ctx: Any) -> str:
        try:
            await ctx.step.run("guarded", lambda: ran.append("handler"))
        except PermissionError as err:
            return f"caught {err}"
        return "went on"

    memos = {"guarded": {"data": None}} if memoized else {}
    assert serve(setting, body, Gate()).post(memos=memos).body == "caught not now"
    assert ran == []


def test_an_observer_that_raises_is_ignored(setting: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails open disturbs nothing, in any of the three hooks."""

    class Broken(Plugin):
        layer = Layer.OBSERVE

        def step_reached(self, call: Call, step: Step) -> None:
            raise RuntimeError("a")

        def transform_memo(self, call: Call, step: Step) -> None:
            raise RuntimeError("b")

        def answer_step(self, call: Call, step: Step) -> None:
            raise RuntimeError("c")

    reply = serve(setting, mixed, Broken()).post(memos=WAITED)
    assert reply.op["data"] == 2
    assert {"step_reached", "transform_memo", "answer_step"} <= {
        word for record in caplog.records for word in record.getMessage().split()
    } | {word.rstrip(",") for record in caplog.records for word in record.getMessage().split()}


class Offload(Plugin):
    """Keeps large values elsewhere: the engine stores a reference, opened when it is needed."""

    layer = Layer.WIRE

    def __init__(self) -> None:
        self.store: dict[str, Any] = {}
        self.opened: list[str] = []

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is not None and outcome.error is None:
            self.store[outcome.step.id] = outcome.output
            outcome.output = {"kept": outcome.step.id}

    async def transform_memo(self, call: Call, step: Step) -> None:
        assert step.memo is not None
        if step.memo.error is None and isinstance(step.memo.data, dict):
            self.opened.append(step.id)
            step.memo = Memo(self.store[step.memo.data["kept"]])


def test_a_value_is_loaded_when_the_function_reaches_it(setting: str) -> None:
    """Results that the function does not ask for are never loaded."""
    offload = Offload()

    async def body(ctx: Any) -> Any:
        value = await ctx.step.run("big", lambda: "x" * 100)
        await ctx.step.run("next", lambda: None)
        return value

    app = serve(setting, body, offload)
    assert app.post().op["data"] == {"kept": "big"}
    big, unused = {"data": {"kept": "big"}}, {"data": {"kept": "gone"}}
    app.post(memos={"big": big, "unused": unused})
    assert offload.opened == ["big"]
    app.post(memos={"big": big, "next": {"data": {"kept": "next"}}})
    assert offload.opened == ["big", "big", "next"]


def test_the_order_and_the_attachments(setting: str) -> None:
    """Outermost first; attachments are split off behind WIRE, whoever opened the result."""
    log: list[Any] = []

    class Sealed(Plugin):
        layer = Layer.WIRE

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            outcome.output = {"sealed": outcome.output}

        def transform_memo(self, call: Call, step: Step) -> None:
            assert step.memo is not None
            log.append(("wire", step.memo.data))
            step.memo = Memo(step.memo.data["sealed"])

    class Notes(Plugin):
        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None:
                outcome.attach("notes", ["n"])

        def transform_memo(self, call: Call, step: Step) -> None:
            assert step.memo is not None
            log.append(("notes", step.memo.data, step.memo_attachment("notes")))
            assert call.attachment(step.hashed_id, "notes") == ["n"]
            assert step.memo_attachment("other") is None

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: 7)

    app = serve(setting, body, Notes(), Sealed())
    stored = app.post().op["data"]
    assert app.post(memos={"a": {"data": stored}}).body == {"sealed": 7}
    assert log == [("wire", stored), ("notes", 7, ["n"])]


def test_a_memo_that_cannot_be_opened_fails_the_run(setting: str) -> None:
    """A data plugin that raises fails the request past what the function would catch."""

    class Locked(Plugin):
        layer = Layer.WIRE

        def transform_memo(self, call: Call, step: Step) -> None:
            raise ValueError("no key")

    class Inner(Plugin):
        def transform_memo(self, call: Call, step: Step) -> None:
            pytest.fail("what lies further in is not reached")

    async def body(ctx: Any) -> str:
        with contextlib.suppress(Exception):
            await ctx.step.run("a", lambda: 1)
        return "went on"

    reply = serve(setting, body, Inner(), Locked()).post(memos={"a": {"data": 1}})
    assert reply.status == 500
    assert reply.body["message"] == "no key"


def test_a_memoized_error_can_be_replaced(setting: str) -> None:
    """A stored error is a memo like another: a plugin can give the value instead."""

    class Mend(Plugin):
        def transform_memo(self, call: Call, step: Step) -> None:
            assert step.memo is not None
            assert step.memo.error is not None
            step.memo = Memo("mended")

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: 1)

    memos = {"a": {"error": {"name": "E", "message": "m"}}}
    assert serve(setting, body, Mend()).post(memos=memos).body == "mended"


class Double(Plugin):
    """Answers steps in place of their handlers."""

    def __init__(self, **answers: Answer | None) -> None:
        self.answers = answers

    async def answer_step(self, call: Call, step: Step) -> Answer | None:
        return self.answers.get(step.id)


class Around(Plugin):
    """Notes what is run, and what came of it."""

    layer = Layer.OBSERVE

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.outcomes: list[Any] = []

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        self.ran.append(step.id)
        yield

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self.outcomes.append(
            outcome.output if outcome.error is None else type(outcome.error).__name__
        )


def test_an_answer_takes_the_place_of_the_handler(setting: str) -> None:
    """Neither the handler nor `around_step` runs; outbound hooks see the answer as a result."""
    around = Around()
    ran: list[str] = []

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: ran.append("handler"))

    app = serve(setting, body, around, Double(a=Answer({"fake": True})))
    op = app.post().op
    assert (op["op"], op["data"]) == ("StepRun", {"fake": True})
    assert (ran, around.ran, around.outcomes) == ([], [], [{"fake": True}])


def test_none_is_an_answer_and_no_answer_lets_the_handler_run(setting: str) -> None:
    """`Answer(None)` answers with None; a hook that returns None leaves the step alone."""
    around = Around()

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)

    assert serve(setting, body, around, Double(a=Answer())).post().op["data"] is None
    assert serve(setting, body, around, Double(a=None)).post().op["data"] == 1
    assert around.ran == ["a"]


def test_the_outermost_answer_wins(setting: str) -> None:
    """Plugins are asked from the outside in, and the first answer is taken."""

    class Outer(Double):
        layer = Layer.CONTRACT

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)

    app = serve(setting, body, Double(a=Answer("inner")), Outer(a=Answer("outer")))
    assert app.post().op["data"] == "outer"


@pytest.mark.parametrize(
    ("error", "attempt", "op"),
    [(ValueError("no"), 0, "StepError"), (ValueError("no"), 3, "StepFailed")],
)
def test_an_answer_may_be_an_error(setting: str, error: Exception, attempt: int, op: str) -> None:
    """The engine retries the step as if the handler had raised."""
    around = Around()

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)

    app = serve(setting, body, around, Double(a=Answer(error=error)))
    answer = app.post(attempt=attempt, max_attempts=4).op
    assert (answer["op"], answer["error"]["name"]) == (op, "ValueError")
    assert around.outcomes == ["ValueError"]


def test_a_non_retriable_answer_passes_on_to_the_function(setting: str) -> None:
    """As in the SDK, `NonRetriableError` fails the function and not the step."""

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)

    double = Double(a=Answer(error=inngest.NonRetriableError("stop")))
    reply = serve(setting, body, double).post()
    assert reply.status >= 400
    assert reply.no_retry


def test_what_is_no_answer_fails_the_step_by_name(setting: str) -> None:
    """Returning the value itself is a mistake that the message mends."""

    class Careless(Plugin):
        def answer_step(self, call: Call, step: Step) -> Any:
            return {"fake": True}

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)

    op = serve(setting, body, Careless()).post().op
    assert op["op"] == "StepError"
    assert "return an Answer" in op["error"]["message"]


def test_what_is_asked_for(setting: str) -> None:
    """A handler when it would run; what the engine does whenever the function comes to it."""
    asked: list[tuple[str, str]] = []

    class Ask(Plugin):
        def answer_step(self, call: Call, step: Step) -> None:
            asked.append((step.id, step.status))

    app = serve(setting, mixed, Ask())
    app.post(memos=FIRST)
    assert asked == []
    app.post(memos=FIRST, target="left")
    assert asked == [("left", "running")]
    app.post(memos=PAIR)
    app.post(memos=WAITED)
    assert asked[1:] == [("wait", "waiting"), ("wait", "memoized"), ("last", "running")]


async def engine_steps(ctx: Any) -> Any:
    """A step of each kind that the engine does."""
    event = await ctx.step.wait_for_event("wait", event="paid", timeout=1000)
    await ctx.step.sleep("sleep", 1000)
    (invoked,) = await ctx.group.parallel(
        (lambda: ctx.step.invoke_by_id("invoke", function_id="other", data={"n": 1}),)
    )
    return [event.data, invoked]


def test_what_the_engine_does_can_be_answered(setting: str) -> None:
    """An answered wait, sleep or invoke is a step of this app, to the engine and to every hook."""
    paid = {"name": "paid", "data": {"by": "Ada"}}
    reached, around = Reached(), Around()
    double = Double(wait=Answer(paid), sleep=Answer(), invoke=Answer(7))
    app = serve(setting, engine_steps, double, reached, around)
    op = app.post().op
    assert (op["op"], op["id"], op["data"]) == ("StepRun", hashed("wait"), paid)
    assert (op["displayName"], op["opts"]) == ("wait", None)
    memos: dict[str, Any] = {"wait": {"data": paid}}
    op = app.post(memos=memos).op
    assert (op["op"], op["data"]) == ("StepRun", None)
    memos["sleep"] = {"data": None}
    assert app.post(memos=memos).op["op"] == "StepPlanned"
    assert app.post(memos=memos, target="invoke").op["data"] == 7
    memos["invoke"] = {"data": 7}
    assert app.post(memos=memos).body == [{"by": "Ada"}, 7]
    assert {op for _, op, _ in reached.seen} == {"StepRun"}
    assert [status for id_, _, status in reached.seen if id_ == "invoke"] == [
        "planned",
        "running",
        "memoized",
    ]
    assert around.outcomes[:-1] == [paid, None, 7]


def test_a_plugin_that_raises_when_asked_for_an_engine_step(setting: str) -> None:
    """It fails the request past what the function would catch, with and without a stored result."""

    class Broken(Plugin):
        def answer_step(self, call: Call, step: Step) -> None:
            raise LookupError("no double")

    async def body(ctx: Any) -> Any:
        with contextlib.suppress(Exception):
            await ctx.step.wait_for_event("wait", event="paid", timeout=1000)

    app = serve(setting, body, Broken())
    for memos in ({}, {"wait": None}):
        assert app.post(memos=memos).body["message"] == "no double"


class Handles(Plugin):
    """Answers every step with a handler."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def answer_step(self, call: Call, step: Step) -> Answer | None:
        return Answer(handler=self.handler)


@pytest.mark.parametrize("awaits", [False, True])
def test_an_answer_can_be_a_handler(setting: str, awaits: bool) -> None:
    """It is called with the step's arguments, in the step, with `around_step` held around it."""
    around = Around()

    def handler(*args: Any) -> Any:
        call = Call.current()
        assert call is not None
        assert call.step is not None
        return [call.step.id, around.ran, *args]

    async def awaiting(*args: Any) -> Any:
        return handler(*args)

    async def body(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda *_: pytest.fail("not this one"), 1, {"two": 2})

    double = Handles(awaiting if awaits else handler)
    op = serve(setting, body, double, around).post().op
    assert op["data"] == ["a", ["a"], 1, {"two": 2}]
    assert around.outcomes == [op["data"]]


@pytest.mark.parametrize(("attempt", "op"), [(0, "StepError"), (3, "StepFailed")])
def test_a_handler_that_raises(setting: str, attempt: int, op: str) -> None:
    """The step fails as if its own handler had raised."""

    def handler() -> None:
        raise ValueError("broken")

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)

    answer = serve(setting, body, Handles(handler)).post(attempt=attempt, max_attempts=4).op
    assert (answer["op"], answer["error"]["name"]) == (op, "ValueError")


def test_a_handler_that_calls_a_step(setting: str) -> None:
    """Nested steps are refused there as the SDK refuses them."""
    steps: list[Any] = []

    async def body(ctx: Any) -> Any:
        steps.append(ctx.step)
        await ctx.step.run("a", lambda: 1)

    class Nests(Plugin):
        def answer_step(self, call: Call, step: Step) -> Answer | None:
            tools = steps[-1]
            return Answer(handler=lambda: tools.run("b", lambda: 2)) if step.id == "a" else None

    op = serve(setting, body, Nests()).post().op
    assert (op["op"], op["id"]) == ("StepError", hashed("a"))
    assert "Nested steps" in op["error"]["message"]


def test_the_arguments_of_a_step(setting: str) -> None:
    """A plugin that answers sees what a handler would get, what is sent, and how long to sleep."""
    seen: dict[str, Any] = {}
    event = inngest.Event(name="paid")
    until = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)

    class Ask(Plugin):
        def answer_step(self, call: Call, step: Step) -> Answer | None:
            seen[step.id] = step.args
            return Answer([])

    async def body(ctx: Any) -> Any:
        with contextlib.suppress(TypeError):
            await ctx.step.sleep("wrong", "a", "b", "c")
        with contextlib.suppress(TypeError):
            await ctx.step.run("wrong", lambda: 1, wrong=2)
        await ctx.step.run("none", lambda: 1)
        await ctx.step.run("two", lambda *_: 1, 1, "x")
        await ctx.step.send_event("sent", event)
        await ctx.step.sleep("long", 1000)
        await ctx.step.sleep_until("until", until)
        await ctx.step.wait_for_event("wait", event="paid", timeout=1000)

    app = serve(setting, body, Ask())
    memos: dict[str, Any] = {}
    for _ in range(6):
        app.post(memos=memos)
        memos = {step: {"data": None if step == "wait" else []} for step in seen}
    (sent,) = seen.pop("sent")
    assert [each.name for each in sent] == ["paid"]
    assert seen == {
        "none": (),
        "two": (1, "x"),
        "long": (1000,),
        "until": (until,),
        "wait": (),
    }


def test_the_function_of_an_invoke(setting: str) -> None:
    """`step.invoke` names a function object; `invoke_by_id` and other steps name none."""
    client = inngest.Inngest(app_id="shop", is_production=False)

    @client.create_function(fn_id="other", trigger=inngest.TriggerEvent(event="other"))
    async def other(ctx: inngest.Context) -> None: ...

    seen: list[tuple[str, Any]] = []
    hooks = Hooks("functions")

    @hooks.transform_step_input
    def note(call: Call, step: Step) -> None:
        seen.append((step.id, step.function))

    async def body(ctx: Any) -> Any:
        return await ctx.group.parallel(
            (
                lambda: ctx.step.invoke("object", function=other),
                lambda: ctx.step.invoke_by_id("id", function_id="other"),
                lambda: ctx.step.wait_for_event("wait", event="paid", timeout=1000),
            )
        )

    ops = serve(setting, body, hooks).post().ops
    assert seen == [("object", other), ("id", None), ("wait", None)]
    assert [op["opts"].get("function_id") for op in ops[:2]] == ["shop-other"] * 2


def test_an_answer_that_raises_fails_the_run(setting: str) -> None:
    """A plugin that fails closed and raises in `answer_step` fails the request."""

    class Broken(Plugin):
        def answer_step(self, call: Call, step: Step) -> None:
            raise LookupError("no double")

    async def body(ctx: Any) -> Any:
        with contextlib.suppress(Exception):
            await ctx.step.run("a", lambda: pytest.fail("the handler must not run"))
        return 1

    reply = serve(setting, body, Broken()).post()
    assert reply.status == 500
    assert reply.body["message"] == "no double"


@pytest.mark.parametrize("failed", ["step", "code"])
def test_a_step_knows_its_branch_and_a_failed_group_is_known(setting: str, failed: str) -> None:
    """Branches are the same on every replay; a group that raised has been left, others have not."""
    reached = Reached()
    left: list[list[tuple[int, ...]]] = []
    hooks = Hooks("left")

    @hooks.step_reached
    def note(call: Call, step: Step) -> None:
        left.append(list(call.left_groups))

    async def body(ctx: Any) -> Any:
        def step(step_id: str) -> Any:
            return lambda: ctx.step.run(step_id, lambda: step_id)

        async def branch() -> None:
            await step("before")()
            await ctx.group.parallel((step("x"), step("y")))
            await ctx.group.parallel([step("z")])

        await step("first")()
        await ctx.group.parallel((step("a"), branch))

        async def failing() -> None:
            await step("f")()
            if failed == "code":
                raise ValueError

        with contextlib.suppress(inngest.StepError, ValueError):
            await ctx.group.parallel((failing, step("never")))
        await step("last")()

    memos: dict[str, Any] = {
        name: {"data": 1} for name in ("first", "a", "before", *"xyzf", "never")
    }
    if failed == "step":
        memos["f"] = {"error": {"name": "E", "message": "m", "stack": None}}
    serve(setting, body, reached, hooks).post(memos=memos)
    assert {step.id: step.branch for step in reached.steps} == {
        "first": (),
        "a": (0, 0),
        "before": (0, 1),
        "x": (0, 1, 0, 0),
        "y": (0, 1, 0, 1),
        "z": (0, 1, 1, 0),
        "f": (1, 0),
        "last": (),
    }
    assert left == [[]] * 7 + [[(1,)]]
    assert [step.parallel for step in reached.steps] == [bool(s.branch) for s in reached.steps]


def test_the_step_of_an_error(setting: str) -> None:
    """A call knows which step each `StepError` is of that the function was given."""
    found: list[Any] = []

    class Asking(Plugin):
        def transform_output(self, call: Call, outcome: Outcome) -> None:
            raised = outcome.raised
            assert raised is not None
            for error in (
                raised,
                raised.__cause__,
                raised.__context__,
                inngest.StepError("m", "E", ""),
            ):
                step = None if error is None else call.failed_step(error)
                found.append(None if step is None else (call.identity_of(step), call.op_of(step)))

    async def body(ctx: Any) -> Any:
        first: Exception | None = None
        try:
            await ctx.step.run("a", lambda: 1)
        except inngest.StepError as err:
            first = err
        try:
            await ctx.step.invoke_by_id("b", function_id="other")
        except inngest.StepError:
            raise RuntimeError from first

    failed = {"error": {"name": "E", "message": "m"}}
    serve(setting, body, Asking()).post(memos={"a": failed, "b": failed})
    assert found == [None, (("a", 0), "StepRun"), (("b", 0), "InvokeFunction"), None]


def test_a_result_is_split_from_its_attachments_when_it_is_looked_at(setting: str) -> None:
    """Stored results that nobody asks for stay as they are; WIRE plugins have them whole."""
    joined = {"__inngest_plugins__": 1, "value": 7, "attachments": {"notes": "n"}}
    seen: list[Any] = []

    class Outer(Plugin):
        layer = Layer.WIRE

        def transform_input(self, call: Call) -> None:
            seen.append(call.memos[hashed("a")].data)

    class Inner(Plugin):
        def transform_input(self, call: Call) -> None:
            seen.append(call.memos[hashed("a")].data)
            seen.append(call.attachment(hashed("b"), "notes"))
            seen.append(dict(call.memos.data())[hashed("b")])

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run("a", lambda: 1), await ctx.step.run("c", lambda: 1)]

    app = serve(setting, body, Inner(), Outer())
    memos = {step: {"data": joined} for step in "abc"}
    assert app.post(memos=memos).body == [7, 7]
    assert seen == [joined, 7, "n", 7]


def test_around_groups_and_branches(setting: str) -> None:
    """What is held around groups and branches is entered and left in order, nested and in races."""
    log: list[Any] = []

    class Around(Plugin):
        def transform_input(self, call: Call) -> None:
            @contextlib.contextmanager
            def around(group: ParallelGroup) -> Iterator[AroundBranch]:
                @contextlib.contextmanager
                def branch(number: int) -> Iterator[None]:
                    assert call.branch == (*group.place, number)
                    log.append(("in", call.branch))
                    try:
                        yield
                    finally:
                        log.append(("out", call.branch))

                log.append(("group", group.place, group.is_race))
                try:
                    yield branch
                finally:
                    log.append(("left", group.place))

            call.around_groups(around)

    async def body(ctx: Any) -> Any:
        async def nested() -> Any:
            return await ctx.group.parallel((lambda: ctx.step.run("a", lambda: 1),))

        return await ctx.group.parallel(
            (nested, lambda: ctx.step.run("b", lambda: 2)),
            parallel_mode=inngest.ParallelMode.RACE,
        )

    app = serve(setting, body, Around())
    app.post(memos={"a": {"data": 1}})
    assert log == [
        ("group", (0,), True),
        ("in", (0, 0)),
        ("group", (0, 0, 0), False),
        ("in", (0, 0, 0, 0)),
        ("out", (0, 0, 0, 0)),
        ("left", (0, 0, 0)),
        ("out", (0, 0)),
        ("in", (0, 1)),
        ("out", (0, 1)),
        ("left", (0,)),
    ]


@pytest.mark.parametrize("layer", [Layer.OBSERVE, Layer.CONTEXT])
@pytest.mark.parametrize("where", ["make", "enter", "leave", "branch"])
def test_around_groups_that_raise(
    setting: str, layer: Layer, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that raises there is logged; another plugin fails the request."""
    at_layer = layer

    class Bad(Plugin):
        layer = at_layer

        def transform_input(self, call: Call) -> None:
            call.around_groups(self.around)

        def raise_at(self, place: str) -> None:
            if place == where:
                raise ValueError("bad context")

        def around(self, group: ParallelGroup) -> Any:
            self.raise_at("make")
            return self.held()

        @contextlib.contextmanager
        def held(self) -> Iterator[AroundBranch]:
            self.raise_at("enter")
            yield self.branch
            self.raise_at("leave")

        @contextlib.contextmanager
        def branch(self, number: int) -> Iterator[None]:
            self.raise_at("branch")
            yield

    async def body(ctx: Any) -> Any:
        one = await ctx.group.parallel((lambda: ctx.step.run("a", lambda: 1),))
        return [*one, await ctx.step.run("b", lambda: 2)]

    reply = serve(setting, body, Bad()).post(memos={"a": {"data": 1}, "b": {"data": 2}})
    if layer is Layer.OBSERVE:
        assert reply.body == [1, 2]
        assert "raised ValueError in transform_input, which was ignored" in caplog.text
    else:
        assert reply.status == 500
        assert reply.body["message"] == "bad context"


def test_a_plugin_may_leave_out_memoized_steps(setting: str) -> None:
    """A class with `skips_memoized_steps` is told of the other steps only; others of all."""

    class Unreplayed(Reached):
        skips_memoized_steps = True

    every, new = Reached(), Unreplayed()
    serve(setting, mixed, every, new).post(memos=FIRST)

    assert [seen[2] for seen in every.seen] == ["memoized", "planned", "planned"]
    assert new.seen == every.seen[1:]
