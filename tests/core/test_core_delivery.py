"""Delivery: what a step gave leaves without ending the request, and the function goes on in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import inngest
import pytest
from tests.core.core_protocol import BOTH, SETTINGS, App, Engine, Reply, hashed, make_client, serve
from tests.core.core_spies import AsyncSpy, Spy

from inngest_plugins.core import (
    Answer,
    Call,
    DeliveryRequest,
    Layer,
    Memo,
    Outcome,
    Plugin,
    RequestDelivery,
    Step,
)

IDENTITY = {"fn_id": "f-1", "qi_id": "q-1", "generation_id": 1, "request_id": "r-1"}


class Delivering(Plugin):
    """Delivers by a checkpoint call when `buffer` results wait; notes what was delivered."""

    def __init__(self, buffer: int = 1, limit: int = 1000) -> None:
        self.buffer = buffer
        self.limit = limit
        self.delivered: list[str] = []
        self.requests: list[DeliveryRequest] = []
        self.delivery = self

    def begin(self, request: DeliveryRequest) -> RequestDelivery | None:
        self.requests.append(request)
        return _Checkpoints(self, request)

    def step_delivered(self, call: Call, step: Step) -> None:
        self.delivered.append(step.id)


class _Checkpoints:
    def __init__(self, plugin: Delivering, request: DeliveryRequest) -> None:
        self.plugin = plugin
        self.engine = request.engine
        self.count = 0

    def accepts(self) -> bool:
        self.count += 1
        return self.count <= self.plugin.limit

    def is_due(self, waiting: int, age: float) -> bool:
        return waiting >= self.plugin.buffer

    async def send(self, ops: Sequence[Mapping[str, Any]]) -> None:
        await self.engine.send_ops(ops, attempts=1)

    def send_sync(self, ops: Sequence[Mapping[str, Any]]) -> None:
        self.engine.send_ops_sync(ops, attempts=1)


class Stored:
    """An engine's end: what checkpoint calls stored, and the statuses to answer them with."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.calls: list[list[dict[str, Any]]] = []

    @property
    def steps(self) -> dict[str, Any]:
        return {op["displayName"]: op["data"] for call in self.calls for op in call}

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/e/"):
            return httpx.Response(200, json={"ids": ["id0"]})
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.calls.append(json.loads(request.content)["steps"])
        return httpx.Response(status)


def post(app: App, stored: Stored, **options: Any) -> Reply:
    with Engine(stored.answer).serving(app.client):
        return app.post(identity=IDENTITY, **options)


async def three(ctx: Any) -> Any:
    first = await ctx.step.run("first", lambda: 1)
    second = await ctx.step.run("second", lambda: (first, 2.0))
    third = await ctx.step.run("third", lambda: {"b": second, "a": None})
    return [first, second, third]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_of_steps_is_one_request(setting: str) -> None:
    """Each step is stored before the next begins; values are what a replay gives."""
    plugin, stored = Delivering(), Stored()
    reply = post(serve(setting, three, plugin), stored)
    assert reply.status == 200
    assert reply.body == [1, [1, 2], {"a": None, "b": [1, 2]}]
    assert json.dumps(reply.body) == '[1, [1, 2], {"a": null, "b": [1, 2]}]'
    assert [len(call) for call in stored.calls] == [1, 1, 1]
    assert plugin.delivered == ["first", "second", "third"]
    op = stored.calls[1][0]
    timing = op.pop("timing")
    op.pop("userland", None)  # older releases of the SDK do not send it
    assert timing["a"] > 10**18
    assert timing["b"] >= 0
    assert op == {
        "displayName": "second",
        "id": hashed("second"),
        "name": "second",
        "op": "StepRun",
        "opts": None,
        "data": [1, 2],
    }
    (request,) = plugin.requests
    assert request.is_connect is setting.startswith("connect")
    assert (request.local_id, request.attempt) == ("fn", 0)


@pytest.mark.parametrize("setting", BOTH)
def test_the_values_are_those_of_a_replay(setting: str) -> None:
    """The same function, replayed with what was stored, computes the same."""
    stored = Stored()
    app = serve(setting, three, Delivering())
    delivered = post(app, stored)
    memos = {name: {"data": data} for name, data in stored.steps.items()}
    replayed = post(app, Stored(), memos=memos)
    assert replayed.body == delivered.body


@pytest.mark.parametrize("setting", BOTH)
def test_a_buffer(setting: str) -> None:
    """Results wait for each other; the function's end sends what is left."""
    plugin, stored = Delivering(buffer=2), Stored()
    reply = post(serve(setting, three, plugin), stored)
    assert reply.status == 200
    assert [len(call) for call in stored.calls] == [2, 1]
    assert plugin.delivered == ["first", "second", "third"]


@pytest.mark.parametrize("setting", BOTH)
def test_what_is_not_accepted_is_answered(setting: str) -> None:
    """The request ends with it, as without a delivery; what waits is sent first."""
    plugin, stored = Delivering(buffer=5, limit=2), Stored()
    reply = post(serve(setting, three, plugin), stored)
    assert (reply.op["displayName"], reply.op["data"]) == ("third", {"b": [1, 2], "a": None})
    assert "timing" not in reply.op
    assert list(stored.steps) == ["first", "second"]


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("status", [400, 413, 500])
def test_what_cannot_be_delivered_is_answered(setting: str, status: int) -> None:
    """A call that fails leaves nothing out: the request ends with every result that waits."""
    plugin, stored = Delivering(), Stored(200, status)
    reply = post(serve(setting, three, plugin), stored)
    assert (reply.op["displayName"], reply.op["data"]) == ("second", [1, 2.0])
    assert plugin.delivered == ["first"]
    buffered = post(serve(setting, three, Delivering(buffer=2)), Stored(*[status] * 3))
    assert [(op["displayName"], op["op"]) for op in buffered.ops] == [
        ("first", "StepRun"),
        ("second", "StepRun"),
    ]


@pytest.mark.parametrize("setting", BOTH)
def test_one_of_several_is_too_large(setting: str) -> None:
    """Those that fit are stored; the one that does not is answered, for the engine to judge."""
    plugin, stored = Delivering(buffer=2), Stored(413, 200, 413)
    reply = post(serve(setting, three, plugin), stored)
    assert reply.op["displayName"] == "second"
    assert plugin.delivered == ["first"]


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("status", [404, 409])
def test_a_request_that_is_overtaken_stops(setting: str, status: int) -> None:
    """No further step begins, closing hooks run, and the answer leaves the run alone."""
    ran: list[str] = []
    log: list[str] = []
    cleaned: list[str] = []

    async def body(ctx: Any) -> None:
        try:
            await ctx.step.run("first", ran.append, "first")
            await ctx.step.run("second", ran.append, "second")
            await ctx.step.run("third", ran.append, "third")
        finally:
            with contextlib.suppress(inngest.StepError):
                await ctx.step.run("clean", cleaned.append, "clean")

    stored = Stored(200, status)
    reply = post(serve(setting, body, Delivering(), Spy("", log)), stored)
    assert (reply.op["op"], reply.op["id"], reply.no_retry) == ("None", hashed("second"), False)
    assert ran == ["first", "second"]
    assert cleaned == []
    assert log[-2:] == ["after_execution", "before_response"]
    assert log.count("transform_output") == 2


@pytest.mark.parametrize("setting", BOTH)
def test_a_function_that_goes_on_when_it_was_stopped(setting: str) -> None:
    """Whatever it returns is not the run's result."""

    async def body(ctx: Any) -> str:
        with contextlib.suppress(BaseException):
            await ctx.step.run("first", lambda: 1)
        return "over"

    log: list[str] = []
    reply = post(serve(setting, body, Delivering(), Spy("", log)), Stored(409))
    assert reply.op["op"] == "None"
    assert log.count("transform_output") == 1


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("spy", [Spy, AsyncSpy])
def test_hooks_of_delivered_steps(setting: str, spy: Any) -> None:
    """Each step's hooks fire once a step, the request's once a request."""

    async def body(ctx: Any) -> int:
        await ctx.step.run("first", lambda: 1)
        await ctx.step.run("second", lambda: 2)
        return 3

    log: list[str] = []
    reply = post(serve(setting, body, Delivering(), spy("", log)), Stored())
    assert reply.body == 3
    step = ["around_step", "~around_step", "transform_output"]
    assert log == [
        "transform_input",
        "before_memoization",
        "after_memoization",
        "before_execution",
        *step,
        *step,
        "after_execution",
        "transform_output",
        "before_response",
    ]


class Sealing(Plugin):
    """Keeps results as `{"sealed": ...}`: what encryption does."""

    layer = Layer.WIRE

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is not None and outcome.error is None:
            outcome.output = {"sealed": outcome.output}

    async def transform_memo(self, call: Call, step: Step) -> None:
        assert step.memo is not None
        step.memo = Memo(step.memo.data["sealed"])


class Attaching(Plugin):
    """Keeps a value beside each result, and reads it where the result comes back."""

    layer = Layer.CONTRACT

    def __init__(self) -> None:
        self.read: list[Any] = []

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is not None:
            outcome.attach("number", outcome.output)

    def transform_memo(self, call: Call, step: Step) -> None:
        assert step.memo is not None
        self.read.append((step.memo.data, step.memo_attachment("number")))
        step.memo = Memo(step.memo.data * 10)


@pytest.mark.parametrize("setting", BOTH)
def test_values_go_out_and_in_through_the_stack(setting: str) -> None:
    """What is stored went out through every plugin; what the function gets came in through all."""

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run("a", lambda: 1), await ctx.step.run("b", lambda: 2)]

    attaching, stored = Attaching(), Stored()
    app = serve(setting, body, Delivering(), Sealing(), attaching)
    reply = post(app, stored)
    assert reply.body == [10, 20]
    assert attaching.read == [(1, 1), (2, 2)]
    assert stored.steps["a"]["sealed"]["attachments"] == {"number": 1}
    memos = {name: {"data": data} for name, data in stored.steps.items()}
    assert post(app, Stored(), memos=memos).body == [10, 20]


@pytest.mark.parametrize("error", [None, ValueError("no answer")])
@pytest.mark.parametrize("setting", BOTH)
def test_a_wait_that_a_plugin_answers(setting: str, error: Exception | None) -> None:
    """It is no call of `step.run`: what waits is stored first, and the answer ends the request."""

    class Answers(Plugin):
        def answer_step(self, call: Call, step: Step) -> Answer | None:
            return Answer("paid", error=error) if step.op == "WaitForEvent" else None

    async def body(ctx: Any) -> Any:
        await ctx.step.run("a", lambda: 1)
        await ctx.step.wait_for_event("wait", event="paid", timeout=1000)

    stored = Stored()
    op = post(serve(setting, body, Delivering(buffer=5), Answers()), stored).op
    assert stored.steps == {"a": 1}
    assert (op["id"], op["op"]) == (hashed("wait"), "StepError" if error else "StepRun")


class Refusing(Plugin):
    """Fails closed for the second step, in the hook it is told to."""

    layer = Layer.CONTRACT

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def _refuse(self, hook: str, step: Step | None) -> None:
        if self.hook == hook and step is not None and step.id == "second":
            raise RuntimeError(f"refused in {hook}")

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self._refuse("transform_output", outcome.step)

    def transform_memo(self, call: Call, step: Step) -> None:
        self._refuse("transform_memo", step)

    def step_delivered(self, call: Call, step: Step) -> None:
        self._refuse("step_delivered", step)

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        yield
        self._refuse("around_step", step)


@pytest.mark.parametrize("setting", BOTH)
def test_a_result_that_a_plugin_refuses(setting: str) -> None:
    """It fails as it would without a delivery, and is stored nowhere."""
    log: list[str] = []
    stored = Stored()
    app = serve(setting, three, Delivering(), Refusing("transform_output"), Spy("", log))
    reply = post(app, stored)
    assert reply.op["op"] == "StepError"
    assert reply.op["error"]["message"] == "refused in transform_output"
    assert list(stored.steps) == ["first"]
    assert log.count("transform_output") == 2


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("hook", ["transform_memo", "step_delivered", "around_step"])
def test_a_plugin_that_fails_around_a_delivery(setting: str, hook: str) -> None:
    """The run fails with its error, as it does on replay; no later step begins."""
    stored = Stored()
    reply = post(serve(setting, three, Delivering(), Refusing(hook)), stored)
    assert (reply.status, reply.body["message"]) == (500, f"refused in {hook}")
    assert "third" not in stored.steps


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object])
def test_a_result_that_is_no_json(setting: str, value: Any) -> None:
    """It is the SDK's to report: nothing is sent."""

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: value)

    stored = Stored()
    delivered = post(serve(setting, body, Delivering()), stored)
    bare = serve(setting, body).post()
    assert stored.calls == []
    assert delivered.status == bare.status
    assert str(delivered.body) == str(bare.body)


# ---------------------------------------------------------------- what ends a request as usual


async def fails(ctx: Any) -> None:
    await ctx.step.run("first", lambda: 1)
    await ctx.step.run("second", lambda: 1 / 0)


async def sleeps(ctx: Any) -> None:
    await ctx.step.run("first", lambda: 1)
    await ctx.step.sleep("second", 1000)


async def returns(ctx: Any) -> None:
    await ctx.step.run("first", lambda: 1)


async def raises(ctx: Any) -> None:
    await ctx.step.run("first", lambda: 1)
    raise ValueError("over")


async def retries_later(ctx: Any) -> None:
    await ctx.step.run("first", lambda: 1)

    def later() -> None:
        raise inngest.RetryAfterError("later", 60_000)

    await ctx.step.run("second", later)


async def forks(ctx: Any) -> Any:
    await ctx.step.run("first", lambda: 1)
    return list(
        await ctx.group.parallel(
            (lambda: ctx.step.run("a", lambda: 1), lambda: ctx.step.run("b", lambda: 2))
        )
    )


ENDS = [
    (fails, 206, ["StepError"]),
    (sleeps, 206, ["Sleep"]),
    (forks, 206, ["StepPlanned", "StepPlanned"]),
    (returns, 200, []),
    (raises, 500, []),
    (retries_later, 500, []),
]


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("buffer", [1, 5])
@pytest.mark.parametrize(("body", "status", "ops"), ENDS)
def test_what_ends_a_request(
    setting: str, buffer: int, body: Callable[[Any], Any], status: int, ops: list[str]
) -> None:
    """It is answered as without a delivery; what waits is stored before."""
    log: list[str] = []
    stored = Stored()
    reply = post(serve(setting, body, Delivering(buffer), Spy("", log)), stored)
    assert reply.status == status
    assert [op["op"] for op in (reply.ops if status == 206 else [])] == ops
    assert list(stored.steps) == ["first"]
    assert ("retry-after" in reply.headers) is (body is retries_later)
    assert log.count("after_execution") == log.count("before_response") == 1
    assert log.count("transform_output") == (1 if body in (sleeps, forks) else 2)


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize(
    ("body", "ops", "outcomes"),
    [
        (fails, ["StepRun"], 1),
        (sleeps, ["StepRun", "Sleep"], 1),
        (forks, ["StepRun", "StepPlanned", "StepPlanned"], 1),
        (returns, ["StepRun"], 1),
        (raises, ["StepRun"], 1),
        (retries_later, ["StepRun"], 1),
    ],
)
def test_what_ends_a_request_while_the_engine_is_away(
    setting: str, body: Callable[[Any], Any], ops: list[str], outcomes: int
) -> None:
    """What waits is the answer: together with what the engine can take, else before it."""
    log: list[str] = []
    stored = Stored(*[500] * 10)
    reply = post(serve(setting, body, Delivering(5), Spy("", log)), stored)
    assert [op["op"] for op in reply.ops] == ops
    assert log.count("transform_output") == outcomes
    assert log.count("after_execution") == log.count("before_response") == 1


@pytest.mark.parametrize("setting", BOTH)
def test_targeted_requests_and_open_groups_are_left_alone(setting: str) -> None:
    """A step of a group is answered: its siblings run elsewhere."""
    plugin, stored = Delivering(), Stored()
    app = serve(setting, forks, plugin)
    memos = {"first": {"data": 1}}
    reply = post(app, stored, memos=memos, target="a", planning=True)
    assert (reply.op["displayName"], reply.op["op"]) == ("a", "StepRun")
    assert stored.calls == []


@pytest.mark.parametrize("setting", BOTH)
def test_a_request_that_is_torn_down(setting: str) -> None:
    """What waits is sent once more when user code ends the request."""

    class Torn(BaseException):
        pass

    async def body(ctx: Any) -> None:
        await ctx.step.run("first", lambda: 1)
        raise Torn

    stored = Stored()
    app = serve(setting, body, Delivering(5))
    with contextlib.suppress(BaseException):
        post(app, stored)
    assert list(stored.steps) == ["first"]


# ---------------------------------------------------------------- metadata


class Measuring(Plugin):
    """Has metadata ride on each step's operation."""

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is None:
            with pytest.raises(ValueError, match="only the outcome of a step"):
                outcome.add_metadata("userland.n", {})
            return
        outcome.add_metadata("userland.n", {"n": 1})
        outcome.add_metadata("userland.m", {"m": 2}, scope="run", op="set")


METADATA = [
    {"scope": "step_attempt", "kind": "userland.n", "op": "merge", "values": {"n": 1}},
    {"scope": "run", "kind": "userland.m", "op": "set", "values": {"m": 2}},
]


@pytest.mark.parametrize("setting", BOTH)
def test_metadata_rides_on_operations(setting: str) -> None:
    """Delivered or answered, succeeded or failed: it is part of the operation."""
    stored = Stored()
    reply = post(serve(setting, fails, Delivering(), Measuring()), stored)
    assert stored.calls[0][0]["metadata"] == METADATA
    assert (reply.op["op"], reply.op["metadata"]) == ("StepError", METADATA)
    answered = serve(setting, fails, Measuring()).post().op
    assert (answered["op"], answered["metadata"]) == ("StepRun", METADATA)
    assert "metadata" not in serve(setting, fails, Spy("", [])).post().op


class MeasuringLast(Plugin):
    """Has metadata ride that is only known when all hooks have run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is None:
            with pytest.raises(ValueError, match="only the outcome of a step"):
                outcome.before_written(lambda: None)
            return

        def add() -> None:
            self.seen.append(type(outcome.error).__name__)
            outcome.add_metadata("userland.n", {"seen": len(self.seen)})

        outcome.before_written(lambda: 1 // 0)
        outcome.before_written(add)


class RefusingLate(Plugin):
    """Turns each result into an error, further out."""

    layer = Layer.OBSERVE
    fail_open = False

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        outcome.error = outcome.error or KeyError("refused")


@pytest.mark.parametrize("setting", BOTH)
def test_the_last_metadata_is_added_when_an_operation_is_written(
    setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The outcome is final then; what cannot be added is logged and left out."""
    stored, delivered = Stored(), MeasuringLast()
    reply = post(serve(setting, fails, Delivering(), delivered), stored)
    assert [entry["values"] for entry in stored.calls[0][0]["metadata"]] == [{"seen": 1}]
    assert [entry["values"] for entry in reply.op["metadata"]] == [{"seen": 2}]
    assert delivered.seen == ["NoneType", "ZeroDivisionError"]
    answered = MeasuringLast()
    op = serve(setting, fails, RefusingLate(), answered).post().op
    assert (op["op"], op["metadata"][0]["values"]) == ("StepError", {"seen": 1})
    assert answered.seen == ["KeyError"]
    assert "is left out" in caplog.text


# ---------------------------------------------------------------- which delivery


@pytest.mark.parametrize("setting", BOTH)
def test_a_functions_own_delivery_comes_first(setting: str) -> None:
    """The client's is not asked."""
    clients, own = Delivering(), Delivering()
    stored = Stored()
    app = serve(setting, three, clients, own=[own])
    post(app, stored)
    assert (len(clients.requests), len(own.requests)) == (0, 1)
    assert len(stored.calls) == 3


@pytest.mark.parametrize("setting", BOTH)
def test_sent_events_are_steps_like_others(setting: str) -> None:
    """`step.send_event` is delivered, and sends once."""

    async def body(ctx: Any) -> Any:
        ids = await ctx.step.send_event("send", inngest.Event(name="shop/x"))
        return [ids, await ctx.step.run("after", lambda: 1)]

    log: list[str] = []
    client = make_client(Delivering(), Spy("", log))
    app = serve(setting, body, client=client)
    stored = Stored()
    reply = post(app, stored)
    assert reply.body == [["id0"], 1]
    assert list(stored.steps) == ["send", "after"]
    assert log.count("before_send_events") == log.count("after_send_events") == 1
