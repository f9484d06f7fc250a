"""Guarantee 4: observability fails open and is logged once; data plugins fail closed."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import BOTH, SETTINGS, Engine, Reply, make_client, serve
from tests.core.core_spies import AsyncSpy, Spy, foreign, of, only

from inngest_plugins.core import Call, Layer, Outcome, Plugin, Send, Step

SECRET = "plaintext-that-must-not-leave"
CALL_HOOKS = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "around_step",
    "~around_step",
    "after_execution",
    "transform_output",
    "before_response",
)
kinds = pytest.mark.parametrize("kind", [Spy, AsyncSpy])
Kind = type[Spy] | type[AsyncSpy]


class Refused(inngest.NonRetriableError):
    """What a data plugin raises when trying again is pointless."""


def fields(record: logging.LogRecord) -> str:
    """The message of a log line of the core."""
    assert record.name == "inngest_plugins"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    return record.getMessage()


def comparable(reply: Reply) -> Any:
    """What the engine acts on: status, body and whether it may retry."""
    return reply.status, reply.body, reply.no_retry


# ---------------------------------------------------------------- fail open


@kinds
@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("hook", CALL_HOOKS)
@pytest.mark.parametrize("setting", BOTH)
def test_a_hook_that_fails_open_is_logged_once_and_changes_nothing(
    setting: str, hook: str, layer: Layer, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on as if the hook had not raised, and one line names plugin, hook and run."""

    async def body(ctx: Any) -> None:
        await ctx.step.run("z", lambda: 1)
        await ctx.step.run("a", lambda: {"value": SECRET})

    memos = {"z": {"data": 1}}
    plain = serve(setting, body).post(memos=memos)
    log: list[str] = []
    broken = kind("broken", log, layer=layer, fail_open=True, raises={hook: ValueError("oops")})
    reply = serve(setting, body, broken, Spy("neighbour", log)).post(memos=memos, run_id="run-x")

    assert comparable(reply) == comparable(plain)
    (record,) = caplog.records
    assert fields(record) == (
        f"plugin 'broken' raised ValueError in {hook.lstrip('~')}, which was ignored "
        "(function shop-fn, run run-x)"
    )
    healthy: list[str] = []
    serve(setting, body, Spy("neighbour", healthy)).post(memos=memos)
    assert of(log, "neighbour") == of(healthy, "neighbour")


@kinds
@pytest.mark.parametrize(
    "hook", ["transform_step_input", "before_send_events", "after_send_events"]
)
@pytest.mark.parametrize("setting", BOTH)
def test_hooks_of_what_leaves_fail_open_too(
    setting: str, hook: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """The arguments of a step and the events leave unchanged."""
    log: list[str] = []
    broken = kind("broken", log, fail_open=True, raises={hook: ValueError("oops")})

    async def body(ctx: Any) -> None:
        if hook == "transform_step_input":
            await ctx.step.invoke_by_id("a", function_id="child", data={"x": 1})
        await ctx.step.send_event("a", inngest.Event(name="shop/x", data={"x": 1}))

    app = serve(setting, body, broken)
    with Engine().serving(app.client) as engine:
        op = app.post().op

    if hook == "transform_step_input":
        assert op["opts"]["payload"]["data"] == {"x": 1}
    else:
        assert op["data"] == ["id0"]
        assert engine.sent[0][0]["data"] == {"x": 1}
    (record,) = caplog.records
    assert f"plugin 'broken' raised ValueError in {hook}" in fields(record)


@pytest.mark.parametrize("layer", Layer)
def test_only_observe_fails_open_by_default(layer: Layer) -> None:
    """Without a word of its own, OBSERVE fails open and every other layer closed."""

    async def body(ctx: Any) -> int:
        return 1

    error = ValueError("oops")
    spy = Spy("p", [], layer=layer, raises={"before_execution": error})
    reply = serve("fastapi-async", body, spy).post()

    assert spy.fails_open() is (layer is Layer.OBSERVE)
    assert reply.status == (200 if layer is Layer.OBSERVE else 500)


def test_after_send_events_is_never_raised(caplog: pytest.LogCaptureFixture) -> None:
    """The events are out: an exception afterwards is logged even for a plugin that fails closed."""
    error = ValueError("late")
    client = make_client(Spy("p", [], fail_open=False, raises={"after_send_events": error}))
    with Engine().serving(client):
        assert client.send_sync(inngest.Event(name="shop/x")) == ["id0"]

    (record,) = caplog.records
    assert "plugin 'p' raised ValueError in after_send_events" in fields(record)


def test_on_register_fails_open(caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails open and cannot register is logged once and called all the same."""
    ran: list[str] = []

    class Broken(Plugin):
        layer = Layer.OBSERVE

        def on_register(self, client: inngest.Inngest) -> None:
            raise ValueError("oops")

        def before_execution(self, call: Call) -> None:
            ran.append("before_execution")

    async def body(ctx: Any) -> int:
        return 1

    app = serve("fastapi-async", body, Broken())
    assert [app.post().status, app.post().status] == [200, 200]
    assert len(caplog.records) == 1
    assert ran == ["before_execution"] * 2


# ---------------------------------------------------------------- fail closed


@kinds
@pytest.mark.parametrize("memos", [{}, {"z": {"data": 1}}])
@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("hook", CALL_HOOKS)
@pytest.mark.parametrize("setting", BOTH)
def test_a_hook_that_fails_closed_fails_the_run(
    setting: str,
    hook: str,
    layer: Layer,
    memos: Any,
    kind: Kind,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The answer is the plugin's error; user code cannot catch it and no value leaves."""
    log: list[str] = []
    swallowed: list[Exception] = []
    ran: list[str] = []

    def handler() -> dict[str, str]:
        ran.append("handler")
        return {"value": SECRET}

    async def body(ctx: Any) -> str:
        for step_id in ["z", "a"] if memos else ["a"]:
            try:
                await ctx.step.run(step_id, handler)
            except Exception as err:
                swallowed.append(err)
        return SECRET

    broken = kind("broken", log, layer=layer, fail_open=False, raises={hook: Refused("no way")})
    reply = serve(setting, body, broken).post(memos=memos)

    assert swallowed == []
    assert reply.no_retry
    assert SECRET not in json.dumps(reply.body)
    if hook == "transform_output":
        assert reply.op["op"] == "StepFailed"
        assert reply.op["error"]["message"] == "no way"
        assert "data" not in reply.op
    else:
        assert (reply.status, reply.body["name"]) == (500, "Refused")
        assert reply.body["message"] == "no way"
    early = CALL_HOOKS[: CALL_HOOKS.index("~around_step")]
    assert ran == ([] if hook in early else ["handler"])
    assert caplog.records == []


@pytest.mark.parametrize("memos", [{}, {"z": {"data": 1}}])
@pytest.mark.parametrize("hook", CALL_HOOKS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_function_result_does_not_slip_through(setting: str, hook: str, memos: Any) -> None:
    """A request in which the function ends is failed by any hook of it."""
    if "around" in hook:
        hook = "before_response"
    ran: list[str] = []

    async def body(ctx: Any) -> str:
        with contextlib.suppress(Exception):
            if memos:
                await ctx.step.run("z", lambda: 1)
        ran.append("new code")
        return SECRET

    broken = Spy("broken", [], fail_open=False, raises={hook: Refused("no way")})
    reply = serve(setting, body, broken).post(memos=memos)

    assert (reply.status, reply.no_retry) == (500, True)
    assert reply.body["message"] == "no way"
    assert SECRET not in json.dumps(reply.body)
    early = CALL_HOOKS[: CALL_HOOKS.index("around_step")]
    assert ran == ([] if hook in early else ["new code"])


@pytest.mark.parametrize(
    "hook", ["after_memoization", "before_execution", "around_step", "~around_step"]
)
@pytest.mark.parametrize("target", [None, "b"])
@pytest.mark.parametrize("setting", BOTH)
def test_failing_closed_inside_a_parallel_group(
    setting: str, target: str | None, hook: str
) -> None:
    """Neither `group.parallel` nor an `except` inside its branches keeps the error from the run."""
    ran: list[str] = []
    swallowed: list[Exception] = []

    def handler(step_id: str) -> str:
        ran.append(step_id)
        return SECRET

    async def body(ctx: Any) -> str:
        async def branch(step_id: str) -> Any:
            try:
                await ctx.step.run("z" + step_id, lambda: 0)
                return await ctx.step.run(step_id, handler, step_id)
            except Exception as err:
                swallowed.append(err)

        with contextlib.suppress(Exception):
            await ctx.group.parallel((lambda: branch("a"), lambda: branch("b")))
        return SECRET

    memos = {"za": {"data": 0}, "zb": {"data": 0}}
    error = Refused("no way")
    app = serve(setting, body, Spy("broken", [], fail_open=False, raises={hook: error}))
    reply = app.post(memos=memos, target=target, planning=True)

    if target is None and "around" in hook:
        assert [op["op"] for op in reply.ops] == ["StepPlanned", "StepPlanned"]
        return
    assert (reply.status, reply.no_retry) == (500, True)
    assert reply.body["message"] == "no way"
    assert SECRET not in json.dumps(reply.body)
    assert swallowed == []
    assert ran == (["b"] if hook == "~around_step" else [])


@pytest.mark.parametrize("setting", BOTH)
def test_a_bare_except_cannot_turn_a_refused_run_into_a_success(setting: str) -> None:
    """Even user code that swallows the SDK's interrupt does not get a result past the plugin."""

    async def body(ctx: Any) -> str:
        with contextlib.suppress(BaseException):
            await ctx.step.run("z", lambda: 1)
        with contextlib.suppress(BaseException):
            await ctx.step.run("a", lambda: SECRET)
        return SECRET

    error = Refused("no way")
    app = serve(setting, body, Spy("p", [], fail_open=False, raises={"before_execution": error}))
    reply = app.post(memos={"z": {"data": 1}})

    assert (reply.status, reply.body["message"]) == (500, "no way")


def test_the_first_failure_is_the_one_reported() -> None:
    """When several plugins fail closed, the run has the error of the first."""

    async def body(ctx: Any) -> str:
        return SECRET

    spies = [
        Spy("late", [], fail_open=False, raises={"before_response": Refused("late")}),
        Spy("early", [], fail_open=False, raises={"before_memoization": Refused("early")}),
    ]
    reply = serve("fastapi-async", body, *spies).post()

    assert reply.body["message"] == "early"


@pytest.mark.parametrize("setting", BOTH)
def test_a_plugin_that_cannot_register_fails_every_request(setting: str) -> None:
    """`on_register` that fails closed is tried again, and nothing runs until it succeeds."""
    attempts: list[str] = []
    ran: list[str] = []

    class Keys(Plugin):
        layer = Layer.WIRE

        def on_register(self, client: inngest.Inngest) -> None:
            attempts.append(client.app_id)
            if len(attempts) < 4:
                raise ConnectionError("no keys")

        def before_send_events(self, send: Send) -> None:
            return None

    async def body(ctx: Any) -> int:
        ran.append("body")
        return 1

    app = serve(setting, body, Keys())
    with Engine().serving(app.client) as engine:
        assert app.post().body["message"] == "no keys"
        assert app.post().body["message"] == "no keys"
        with pytest.raises(ConnectionError, match="no keys"):
            app.client.send_sync(inngest.Event(name="shop/x"))
        assert (ran, engine.sent) == ([], [])
        assert app.post().body == 1
        assert app.post().body == 1
        app.client.send_sync(inngest.Event(name="shop/x"))
    assert attempts == ["shop"] * 4


# ---------------------------------------------------------------- transform_output


class Turn(Plugin):
    """Applies a function to outcomes."""

    def __init__(self, turn: Any) -> None:
        self.turn = turn

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self.turn(outcome)


def set_error(error: Exception) -> Any:
    """Turn an outcome into an error."""

    def turn(outcome: Outcome) -> None:
        outcome.error = error

    return turn


def set_output(outcome: Outcome) -> None:
    """Turn an outcome into a success."""
    outcome.error = None
    outcome.output = "mended"


async def succeed(ctx: Any) -> None:
    """A step that succeeds."""
    await ctx.step.run("a", lambda: SECRET)


async def fail(ctx: Any) -> None:
    """A step that fails."""

    def handler() -> None:
        raise ValueError("user")

    await ctx.step.run("a", handler)


@pytest.mark.parametrize("how", ["raise", "set"])
@pytest.mark.parametrize(
    ("error", "attempt", "op", "no_retry"),
    [
        (ValueError("bad output"), 0, "StepError", False),
        (ValueError("bad output"), 3, "StepFailed", False),
        (Refused("bad output"), 0, "StepFailed", True),
    ],
)
@pytest.mark.parametrize("setting", BOTH)
def test_a_step_that_succeeded_becomes_a_failed_one(
    setting: str, error: Exception, attempt: int, op: str, no_retry: bool, how: str
) -> None:
    """The operation is the step's error with the right opcode, and carries no data."""

    def raising(outcome: Outcome) -> None:
        raise error

    plugin = Turn(raising if how == "raise" else set_error(error))
    reply = serve(setting, succeed, plugin).post(attempt=attempt)

    assert reply.op["op"] == op
    assert reply.op["error"]["message"] == "bad output"
    assert "data" not in reply.op
    assert reply.no_retry is no_retry
    assert SECRET not in json.dumps(reply.body)


@pytest.mark.parametrize("attempt", [0, 3])
@pytest.mark.parametrize("setting", BOTH)
def test_a_step_that_failed_becomes_a_successful_one(setting: str, attempt: int) -> None:
    """The operation is a plain `StepRun` with the plugin's output."""
    reply = serve(setting, fail, Turn(set_output)).post(attempt=attempt)

    assert reply.op["op"] == "StepRun"
    assert reply.op["data"] == "mended"
    assert reply.op.get("error") is None


@pytest.mark.parametrize("attempt", [0, 3])
@pytest.mark.parametrize("setting", BOTH)
def test_the_error_of_a_failed_step_is_replaced(setting: str, attempt: int) -> None:
    """Another error keeps the opcode; one that is final says so."""
    plain = serve(setting, fail, Turn(set_error(LookupError("other")))).post(attempt=attempt)
    final = serve(setting, fail, Turn(set_error(Refused("other")))).post(attempt=attempt)

    assert plain.op["op"] == ("StepError" if attempt == 0 else "StepFailed")
    assert (plain.op["error"]["name"], plain.no_retry) == ("LookupError", False)
    assert (final.op["error"]["name"], final.no_retry) == ("Refused", True)


@pytest.mark.parametrize("setting", BOTH)
def test_a_function_is_converted_both_ways(setting: str) -> None:
    """An error on the function's output is a 500, an output in place of its error a 200."""

    async def good(ctx: Any) -> str:
        return SECRET

    async def bad(ctx: Any) -> None:
        raise ValueError("user")

    refused = serve(setting, good, Turn(set_error(Refused("bad output")))).post()
    mended = serve(setting, bad, Turn(set_output)).post()

    assert (refused.status, refused.body["message"], refused.no_retry) == (500, "bad output", True)
    assert SECRET not in json.dumps(refused.body)
    assert (mended.status, mended.body) == (200, "mended")


@pytest.mark.parametrize("setting", BOTH)
def test_a_value_of_none_is_a_value(setting: str) -> None:
    """An outcome without output, set to None, is a success with null."""

    def turn(outcome: Outcome) -> None:
        outcome.error = None

    reply = serve(setting, fail, Turn(turn)).post()

    assert (reply.op["op"], reply.op["data"]) == ("StepRun", None)


@pytest.mark.parametrize("setting", BOTH)
def test_foreign_middleware_has_the_last_word_on_a_converted_step(setting: str) -> None:
    """What ordinary middleware outside of the plugins makes of the result is what leaves."""

    class Sealing(inngest.MiddlewareSync):
        def transform_output(self, result: Any) -> None:
            if result.error is None and result.has_output():
                result.output = {"sealed": True}

    reply = serve(setting, fail, Sealing, Turn(set_output)).post()

    assert (reply.op["op"], reply.op["data"]) == ("StepRun", {"sealed": True})


@pytest.mark.parametrize("setting", BOTH)
def test_foreign_middleware_that_clears_an_error_makes_a_valid_operation(setting: str) -> None:
    """A step whose error ordinary middleware removed is sent as a success, not as a broken op."""

    class Clearing(inngest.MiddlewareSync):
        def transform_output(self, result: Any) -> None:
            result.error, result.output = None, "cleared"

    reply = serve(setting, fail, Clearing, Spy("p", [])).post()

    assert (reply.op["op"], reply.op["data"]) == ("StepRun", "cleared")


@pytest.mark.parametrize("setting", BOTH)
def test_foreign_middleware_that_sets_an_error_leaves_no_data(setting: str) -> None:
    """An error that ordinary middleware puts beside a value replaces it, and the opcode follows."""

    class Refusing(inngest.MiddlewareSync):
        def transform_output(self, result: Any) -> None:
            result.error = Refused("bad output")

    reply = serve(setting, succeed, Refusing, Spy("p", [])).post()

    assert reply.op["op"] == "StepFailed"
    assert "data" not in reply.op
    assert SECRET not in json.dumps(reply.body)


@pytest.mark.parametrize("setting", BOTH)
def test_a_failed_plugin_hides_the_value_from_the_outer_ones(setting: str) -> None:
    """Once CONTRACT has refused an output, WIRE and OBSERVE see an error and no value."""
    seen: list[Any] = []

    class Watch(Plugin):
        layer = Layer.OBSERVE

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            seen.append((outcome.has_output, outcome.error, outcome.raised))

    error = Refused("bad output")
    contract = Spy("c", [], layer=Layer.CONTRACT, raises={"transform_output": error})
    serve(setting, succeed, Watch(), contract).post()

    assert seen == [(False, error, error)]


def test_an_outcome_describes_itself() -> None:
    """The representation of an outcome names what ended and how, and no value."""
    shown: list[str] = []

    def note(outcome: Outcome) -> None:
        shown.append(repr(outcome))

    async def body(ctx: Any) -> str:
        return SECRET

    for function in (succeed, fail, body):
        serve("fastapi-async", function, Turn(note)).post()
    assert shown == [
        "<Outcome of step 'a': output>",
        "<Outcome of step 'a': ValueError>",
        "<Outcome of function: output>",
    ]


# ---------------------------------------------------------------- raised at the call site


@kinds
@pytest.mark.parametrize("setting", BOTH)
def test_transform_step_input_raises_where_the_step_was_called(setting: str, kind: Kind) -> None:
    """The caller of the step may catch it; the operation does not leave."""
    caught: list[str] = []

    async def body(ctx: Any) -> str:
        try:
            await ctx.step.invoke_by_id("a", function_id="child", data={"value": SECRET})
        except Refused as err:
            caught.append(str(err))
        return "went on"

    spy = kind("p", [], fail_open=False, raises={"transform_step_input": Refused("no")})
    reply = serve(setting, body, spy).post()

    assert (reply.body, caught) == ("went on", ["no"])


@kinds
@pytest.mark.parametrize("setting", BOTH)
def test_transform_step_input_fails_the_run_when_nobody_catches_it(
    setting: str, kind: Kind
) -> None:
    """Uncaught it is the function's error, in a group too."""

    async def body(ctx: Any) -> None:
        def invoke(n: str) -> Any:
            return ctx.step.invoke_by_id(n, function_id="child", data={"value": SECRET})

        await ctx.group.parallel((lambda: invoke("a"), lambda: invoke("b")))

    spy = kind("p", [], fail_open=False, raises={"transform_step_input": Refused("no")})
    reply = serve(setting, body, spy).post()

    assert (reply.status, reply.body["message"], reply.no_retry) == (500, "no", True)
    assert SECRET not in json.dumps(reply.body)


@kinds
@pytest.mark.parametrize("setting", BOTH)
def test_before_send_events_raises_where_events_are_sent(setting: str, kind: Kind) -> None:
    """In a step it is the step's error; from `client.send` it is raised; nothing is sent."""
    log: list[str] = []
    errors: list[str] = []

    async def body(ctx: Any) -> str:
        try:
            await ctx.step.send_event("a", inngest.Event(name="shop/x", data={"value": SECRET}))
        except Refused as err:
            errors.append(str(err))
        return "went on"

    app = serve(setting, body, kind("p", log, raises={"before_send_events": Refused("no")}))
    with Engine().serving(app.client) as engine:
        reply = app.post()
        with pytest.raises(Refused, match="no"):
            app.client.send_sync(inngest.Event(name="shop/x", data={"value": SECRET}))

    assert engine.requests == []
    # The SDK raises a NonRetriableError of a step through user code (SDK quirk Q9).
    assert (reply.body, errors) == ("went on", ["no"])


# ---------------------------------------------------------------- around_step


@pytest.mark.parametrize("setting", BOTH)
def test_around_step_cannot_swallow(setting: str) -> None:
    """A context that returns True leaves the step's error as it is."""

    class Swallow(Plugin):
        def around_step(self, call: Call, step: Step) -> Any:
            return contextlib.suppress(Exception)

    reply = serve(setting, fail, Swallow()).post()

    assert reply.op["error"]["message"] == "user"


@pytest.mark.parametrize("fail_open", [True, False])
@pytest.mark.parametrize("setting", BOTH)
def test_around_step_that_raises_another_exception(
    setting: str, fail_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Raising instead of the step's error is a failure of the plugin, handled by its policy."""
    seen: list[BaseException | None] = []

    class Replace(Plugin):
        @contextlib.contextmanager
        def around_step(self, call: Call, step: Step) -> Iterator[None]:
            try:
                yield
            except ValueError as err:
                seen.append(err)
                raise LookupError("replaced") from err

    plugin = Replace()
    plugin.fail_open = fail_open
    reply = serve(setting, fail, plugin).post()

    assert [str(err) for err in seen] == ["user"]
    if fail_open:
        assert reply.op["error"]["message"] == "user"
        assert len(caplog.records) == 1
    else:
        assert (reply.status, reply.body["message"]) == (500, "replaced")


@kinds
@pytest.mark.parametrize("setting", BOTH)
def test_around_step_that_re_raises_is_no_failure(
    setting: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """The step's own error leaving a context is the ordinary case and is not logged."""
    log: list[str] = []
    reply = serve(setting, fail, kind("p", log)).post()

    assert reply.op["error"]["message"] == "user"
    assert only(log, "~around_step") == ["p.~around_step"]
    assert caplog.records == []


@pytest.mark.parametrize("setting", BOTH)
def test_contexts_around_a_refused_step_see_why(setting: str) -> None:
    """When an inner plugin refuses the step, the outer contexts are left with its error."""
    seen: list[BaseException | None] = []
    error = Refused("no")

    class Watch:
        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: Any, err: BaseException | None, traceback: Any) -> None:
            seen.append(err)

    class Outer(Plugin):
        layer = Layer.OBSERVE

        def around_step(self, call: Call, step: Step) -> Any:
            return Watch()

    serve(setting, succeed, Outer(), Spy("p", [], raises={"around_step": error})).post()

    assert seen == [error]


@pytest.mark.parametrize("setting", BOTH)
def test_a_failing_neighbour_does_not_touch_foreign_middleware(setting: str) -> None:
    """Ordinary middleware has its hooks when a plugin fails closed, as always."""
    log: list[str] = []
    error = Refused("no")
    serve(
        setting,
        succeed,
        foreign("f", log),
        Spy("p", log, raises={"transform_input": error}),
    ).post()

    assert of(log, "f") == ["transform_input", "transform_output", "before_response"]
