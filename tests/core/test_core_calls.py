"""What a call and its steps say about themselves, and what plugins may change."""

from __future__ import annotations

import json
from typing import Any

import inngest
import pytest
from tests.core.core_protocol import BOTH, SETTINGS, Engine, Reply, hashed, make_client, serve
from tests.core.core_spies import AsyncSpy, Spy

from inngest_plugins.core import (
    Call,
    CallKey,
    EngineApi,
    Hooks,
    Layer,
    Memo,
    MemoError,
    Outcome,
    Plugin,
    RegistrationError,
    Send,
    Stack,
    Step,
    record_hooks,
)
from inngest_plugins.core.data.call_identity import engine_headers
from inngest_plugins.core.request.sends import copied
from inngest_plugins.local import LocalEngine

settings = pytest.mark.parametrize("setting", SETTINGS)
both = pytest.mark.parametrize("setting", BOTH)


async def nothing(ctx: Any) -> None:
    """A function that does nothing."""


class Keep(Plugin):
    """Keeps the calls, and what a test wants of them while they are open."""

    def __init__(self, look: Any = None) -> None:
        self.calls: list[Call] = []
        self.seen: list[Any] = []
        self.look = look

    def before_execution(self, call: Call) -> None:
        self.calls.append(call)
        if self.look is not None:
            self.seen.append(self.look(call))


# ---------------------------------------------------------------- attributes


@both
def test_a_call_knows_its_run_and_function(setting: str) -> None:
    """Ids, names and events are those of the request."""
    keep = Keep()
    app = serve(setting, nothing, keep, name="Fulfil an order")
    headers = {"x-inngest-job-id": "job-1", "x-request-id": "req-1"}
    events = [{"name": "shop/test", "data": {"n": n}, "id": f"e{n}", "ts": 1} for n in (1, 2)]
    app.post(run_id="run-1", attempt=2, headers=headers, events=events)
    (call,) = keep.calls

    assert (call.run_id, call.attempt, call.app_id) == ("run-1", 2, "shop")
    assert (call.function_id, call.local_id) == ("shop-fn", "fn")
    assert call.function_name == "Fulfil an order"
    assert (call.client, call.function) == (app.client, app.function)
    assert [event.data["n"] for event in call.events] == [1, 2]
    assert call.event.data == {"n": 1}
    assert (call.handler_kind, call.target) == ("main", None)
    assert call.is_async is (setting == "fastapi-async")
    assert call.stack is Stack.of(app.client, app.function)
    assert call.logger is call.ctx.logger
    assert (call.failure, call.cancelled) == (None, False)
    assert call.raw_request is not None
    assert repr(call) == "<Call shop-fn run=run-1 attempt=2>"
    assert (call.request_id, call.job_id) == ("req-1", "job-1")


@settings
@pytest.mark.parametrize("in_body", [True, False])
@pytest.mark.parametrize(("retries", "attempts"), [(None, 5), (0, 1), (2, 3)])
def test_attempts(setting: str, retries: int | None, attempts: int, in_body: bool) -> None:
    """`max_attempts` and `is_final_attempt` hold with and without `ctx.max_attempts`."""
    keep = Keep(lambda call: (call.max_attempts, call.is_final_attempt))
    options: dict[str, Any] = {} if retries is None else {"retries": retries}
    app = serve(setting, nothing, keep, **options)
    for attempt in range(attempts):
        app.post(attempt=attempt, max_attempts=attempts if in_body else None)

    assert keep.seen == [(attempts, n == attempts - 1) for n in range(attempts)]


@pytest.mark.anyio
async def test_the_handler_is_what_the_user_wrote() -> None:
    """`call.handler` is the function itself, or its failure handler."""
    keep = Keep(lambda call: call.handler)
    client = make_client(keep)

    async def apology(ctx: inngest.Context) -> None:
        """A failure handler."""

    async def failing(ctx: inngest.Context) -> int:
        raise inngest.NonRetriableError("no")

    trigger = inngest.TriggerEvent(event="shop/test")
    function = client.create_function(fn_id="fn", trigger=trigger, on_failure=apology)(failing)
    async with LocalEngine(client, [function]) as engine:
        await engine.run(inngest.Event(name="shop/test"))
        await engine.settle()
    assert keep.seen == [failing, apology]


@settings
@pytest.mark.parametrize("in_body", [True, False])
def test_attempts_of_a_failure_handler(setting: str, in_body: bool) -> None:
    """A failure handler has one attempt whatever its function's retries are."""
    keep = Keep(lambda call: (call.handler_kind, call.max_attempts, call.is_final_attempt))
    app = serve(setting, nothing, keep, on_failure=nothing, retries=7)
    app.post(on_failure=True, max_attempts=1 if in_body else None)
    app.post(max_attempts=8 if in_body else None)

    assert keep.seen == [("on_failure", 1, True), ("main", 8, False)]


@both
@pytest.mark.parametrize(
    ("error", "attempt", "retriable", "will_retry"),
    [
        (ValueError("x"), 0, True, True),
        (ValueError("x"), 3, True, False),
        (inngest.NonRetriableError("x"), 0, False, False),
        (inngest.RetryAfterError("x", 1000), 0, True, True),
    ],
)
@pytest.mark.parametrize("where", ["function", "step"])
def test_whether_the_engine_will_retry(
    setting: str, where: str, error: Exception, attempt: int, retriable: bool, will_retry: bool
) -> None:
    """`outcome.will_retry` follows the attempt and the kind of error."""
    seen: list[Any] = []

    class Watch(Plugin):
        def transform_output(self, call: Call, outcome: Outcome) -> None:
            seen.append((outcome.is_retriable, outcome.will_retry, outcome.raised is outcome.error))

    def fail() -> None:
        raise error

    async def body(ctx: Any) -> None:
        if where == "step":
            await ctx.step.run("a", fail)
        fail()

    serve(setting, body, Watch()).post(attempt=attempt)
    assert seen == [(retriable, will_retry, True)]


@settings
def test_trace_headers(setting: str) -> None:
    """The trace headers are there in every framework, and for `connect` from its carrier."""
    keep = Keep(lambda call: dict(call.trace_headers))
    headers = {"traceparent": "00-aa-bb-01", "tracestate": "inngest@fn=x"}
    app = serve(setting, nothing, keep)
    app.post(headers=headers)
    app.post()

    assert keep.seen == [headers, {}]


@settings
def test_trace_headers_of_a_plugin_that_only_the_function_names(setting: str) -> None:
    """The request is known to the plugins of a function's own list too."""
    keep = Keep(lambda call: dict(call.trace_headers))
    app = serve(setting, nothing, own=[keep])
    app.post(headers={"traceparent": "00-aa-bb-01"})

    # Flask's request object cannot be read in the SDK's pool threads (SDK quirk Q4).
    readable = setting != "flask-async-pool"
    assert keep.seen == [{"traceparent": "00-aa-bb-01"} if readable else {}]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (None, {}),
        ({"headers": {"traceparent": "t", "other": "x"}}, {"traceparent": "t"}),
        ({"http": {"headers": {"tracestate": "s"}}}, {"tracestate": "s"}),
        ({"http": "odd"}, {}),
        ({"headers": {"traceparent": ""}}, {}),
    ],
)
def test_trace_headers_of_other_frameworks(raw: Any, found: dict[str, str]) -> None:
    """Requests that are mappings, as serverless platforms pass them, are read as well."""
    assert engine_headers(raw) == found


@pytest.mark.parametrize(
    ("carrier", "found"),
    [
        (
            b'{"Traceparent": "t", "tracestate": "s", "x": 1}',
            {"traceparent": "t", "tracestate": "s"},
        ),
        (b"", {}),
        (b"no json", {}),
        (b"[1]", {}),
        (b'{"traceparent": 3}', {}),
    ],
)
def test_trace_carriers_of_connect(carrier: bytes, found: dict[str, str]) -> None:
    """The carrier is a JSON object, or it is ignored."""

    class Message:
        system_trace_ctx = carrier

    assert engine_headers(Message()) == found


# ---------------------------------------------------------------- events


@both
def test_events_can_be_replaced(setting: str) -> None:
    """What `transform_input` assigns is what the handler receives."""

    class Replace(Plugin):
        def transform_input(self, call: Call) -> None:
            call.event = inngest.Event(name="shop/new", data={"n": 2})
            call.events = [call.event, call.event]

    async def body(ctx: Any) -> Any:
        return [ctx.event.name, ctx.event.data["n"], len(ctx.events)]

    assert serve(setting, body, Replace()).post().body == ["shop/new", 2, 2]


# ---------------------------------------------------------------- memos


MEMOS = {
    "a": {"data": {"x": 1}},
    "b": {"error": {"message": "m", "name": "N", "stack": "s"}},
    "s": None,
    "w": {"name": "shop/x", "data": {"k": 1}, "id": "i", "ts": 5},
}


@both
@pytest.mark.parametrize("sdk_lookup", [False, True])
def test_memos_are_read_by_hashed_id(
    setting: str, sdk_lookup: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `transform_input` all memos are there under the engine's ids, in the engine's order."""
    if sdk_lookup:
        monkeypatch.setenv("INNGEST_PLUGINS_SDK_MEMO_LOOKUP", "1")
    seen: list[Any] = []

    class Read(Plugin):
        def transform_input(self, call: Call) -> None:
            seen.append(dict(call.memos))
            seen.append([key for key, _ in call.memos.items()])
            values = {key: memo.data for key, memo in call.memos.items() if memo.error is None}
            assert dict(call.memos.data()) == values
            errors = {key: memo.error for key, memo in call.memos.items() if memo.error}
            assert dict(call.memos.errors()) == errors != {}
            assert call.memo_count == len(call.memos) == 4
            assert hashed("nope") not in call.memos

    async def body(ctx: Any) -> Any:
        event = await ctx.step.wait_for_event("w", event="shop/x", timeout=1000)
        await ctx.step.sleep("s", 1000)
        try:
            await ctx.step.run("b", lambda: 0)
        except inngest.StepError as err:
            return [await ctx.step.run("a", lambda: 0), err.name, err.message, event.data]

    assert serve(setting, body, Read()).post(memos=MEMOS).body == [{"x": 1}, "N", "m", {"k": 1}]
    assert seen == [
        {
            hashed("a"): Memo(data={"x": 1}),
            hashed("b"): Memo(error=MemoError("m", "N", "s")),
            hashed("s"): Memo(),
            hashed("w"): Memo(data=MEMOS["w"]),
        },
        [hashed(step_id) for step_id in "absw"],
    ]


@both
@pytest.mark.parametrize("sdk_lookup", [False, True])
def test_memos_are_replaced_by_hashed_id(
    setting: str, sdk_lookup: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data and errors can be changed, and turned into one another."""
    if sdk_lookup:
        monkeypatch.setenv("INNGEST_PLUGINS_SDK_MEMO_LOOKUP", "1")

    class Replace(Plugin):
        def transform_input(self, call: Call) -> None:
            call.memos[hashed("a")] = Memo(data="new data")
            call.memos[hashed("b")] = Memo(data="mended")
            call.memos[hashed("c")] = Memo(error=MemoError("broken", "Broken"))
            call.memos[hashed("d")] = Memo(error=MemoError("other", "Other", "stack"))
            with pytest.raises(KeyError):
                call.memos[hashed("nope")] = Memo()

    async def body(ctx: Any) -> Any:
        found: list[Any] = []
        for step_id in "abcd":
            try:
                found.append(await ctx.step.run(step_id, lambda: 0))
            except inngest.StepError as err:
                found.append([err.name, err.message])
        return found

    error = {"error": {"message": "m", "name": "N", "stack": "s"}}
    memos = {"a": {"data": 1}, "b": error, "c": {"data": 1}, "d": error}
    reply = serve(setting, body, Replace()).post(memos=memos)
    assert reply.body == ["new data", "mended", ["Broken", "broken"], ["Other", "other"]]


def lookup(
    setting: str, monkeypatch: pytest.MonkeyPatch, *, ours: bool, memos: dict[str, Any]
) -> tuple[Reply, list[int]]:
    """Run a function over memos with ours or the SDK's lookup; return reply and sizes seen."""
    monkeypatch.setenv("INNGEST_PLUGINS_SDK_MEMO_LOOKUP", "0" if ours else "true")
    sizes: list[int] = []

    class Popping(inngest.MiddlewareSync):
        def transform_input(self, ctx: Any, function: Any, steps: Any) -> None:
            sizes.append(steps.size)
            steps.pop(hashed("dropped"))
            sizes.append(steps.size)
            sizes.append(len(list(steps.values())))
            for output in steps.values():
                if output.error is None:
                    output.data = [output.data]

    async def body(ctx: Any) -> Any:
        found: list[Any] = []
        for _ in range(3):
            found.append(await ctx.step.run("a", lambda: "ran"))
        found.append(await ctx.step.run("null", lambda: "ran"))
        try:
            await ctx.step.run("failed", lambda: "ran")
        except inngest.StepError as err:
            found.append(err.message)
        found.append(await ctx.step.run("dropped", lambda: "ran"))
        return found

    spy = Spy("", [])
    reply = serve(setting, body, spy, Popping).post(memos=memos)
    assert Stack(spy).constant_time_memos is ours
    return reply, sizes


@both
@pytest.mark.parametrize("dropped", [True, False])
def test_the_constant_time_lookup_has_the_sdks_semantics(
    setting: str, dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers with either lookup: hits, misses, nulls, errors, sizes, other middleware."""
    memos = {
        "a": {"data": 1},
        "a:1": {"data": 2},
        "a:2": {"data": 3},
        "null": {"data": None},
        "failed": {"error": {"message": "m", "name": "N", "stack": ""}},
        **({"dropped": {"data": 4}} if dropped else {}),
    }
    ours = lookup(setting, monkeypatch, ours=True, memos=memos)
    sdks = lookup(setting, monkeypatch, ours=False, memos=memos)

    assert ours[1] == sdks[1]
    assert ours[0].body == sdks[0].body
    assert ours[0].op["data"] == "ran"
    assert ours[1] == ([6, 5, 5] if dropped else [5, 5, 5])


@both
def test_an_id_that_equals_a_reused_one_is_looked_up_once(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDK quirk Q15, `"a:1"` beside two `"a"`: with either lookup the memo is handed out once."""
    for variable in ("0", "1"):
        monkeypatch.setenv("INNGEST_PLUGINS_SDK_MEMO_LOOKUP", variable)
        log: list[str] = []
        keep = Keep()

        async def body(ctx: Any) -> Any:
            await ctx.step.run("a", lambda: 0)
            await ctx.step.run("a", lambda: 0)
            return await ctx.step.run("a:1", lambda: "ran")

        memos = {"a": {"data": 1}, "a:1": {"data": 2}}
        op = serve(setting, body, Spy("", log), keep).post(memos=memos).op
        assert op["data"] == "ran"
        assert "around_step" in log, variable
        assert keep.calls[0].consumed == [hashed("a"), hashed("a:1")]


# ---------------------------------------------------------------- steps


@settings
def test_hashed_ids_are_the_engines(setting: str) -> None:
    """`step.hashed_id` is the id of the operation that is sent: loops, groups, reused ids."""
    steps: list[tuple[str, str, int, bool]] = []

    class Watch(Plugin):
        def around_step(self, call: Call, step: Step) -> Any:
            steps.append((step.id, step.hashed_id, step.index, step.parallel))
            return super().around_step(call, step)

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            if outcome.step is not None:
                assert outcome.step.hashed_id == steps[-1][1]

    async def body(ctx: Any) -> None:
        for _ in range(2):
            await ctx.step.run("loop", lambda: 0)
        await ctx.step.sleep("loop", 1000)
        await ctx.group.parallel(
            (lambda: ctx.step.run("loop", lambda: 0), lambda: ctx.step.run("é", lambda: 0))
        )

    app = serve(setting, body, Watch())
    memos: dict[str, Any] = {}
    for number in range(2):
        op = app.post(memos=memos).op
        name = "loop:1" if number else "loop"
        assert op["id"] == steps[-1][1] == hashed(name)
        assert steps[-1] == ("loop", hashed(name), number, False)
        memos[name] = {"data": 0}
    memos["loop:2"] = None
    planned = app.post(memos=memos).ops
    assert [op["id"] for op in planned] == [hashed("loop:3"), hashed("é")]
    op = app.post(memos=memos, target="loop:3", planning=True).op
    assert op["id"] == hashed("loop:3")
    assert steps[-1] == ("loop", hashed("loop:3"), 3, True)
    op = app.post(memos=memos, target="é", planning=True).op
    assert (op["id"], steps[-1][0]) == (hashed("é"), "é")
    assert len(steps) == 4


@settings
def test_arguments_that_leave_can_be_changed(setting: str) -> None:
    """Invoke data, wait expression and AI request pass the hook, alone and two at a time."""
    from inngest.experimental.ai.openai import Adapter

    seen: list[tuple[str, str, str]] = []

    class Change(Plugin):
        def transform_step_input(self, call: Call, step: Step) -> None:
            assert step.input is not None
            assert repr(step) == f"<Step {step.id!r} {step.op}>"
            seen.append((step.op, step.name, step.hashed_id))
            if step.op == "InvokeFunction":
                step.input["payload"]["data"] = {"sealed": step.input["payload"]["data"]}
            elif step.op == "WaitForEvent":
                step.input = {**step.input, "if": "false"}
            else:
                step.input["body"]["sealed"] = True

    async def use(ctx: Any, tool: str, step_id: str) -> Any:
        if tool == "invoke":
            return await ctx.step.invoke_by_id(step_id, function_id="child", data={"id": step_id})
        if tool == "wait":
            return await ctx.step.wait_for_event(
                step_id, event="shop/paid", if_exp="true", timeout=2000
            )
        adapter = Adapter(auth_key="k", model="m")
        return await ctx.step.ai.infer(step_id, adapter=adapter, body={"id": step_id})

    async def body(ctx: Any) -> None:
        tool = ctx.event.data["tool"]
        if ctx.event.data["parallel"]:
            await ctx.group.parallel((lambda: use(ctx, tool, "a"), lambda: use(ctx, tool, "b")))
        await use(ctx, tool, "a")

    app = serve(setting, body, Change())
    for tool, op_name, name in (
        ("invoke", "InvokeFunction", "a"),
        ("wait", "WaitForEvent", "shop/paid"),
        ("ai", "AIGateway", "a"),
    ):
        for parallel in (False, True):
            seen.clear()
            event = {"name": "shop/test", "data": {"tool": tool, "parallel": parallel}}
            ops = app.post(events=[event]).ops
            ids = ["a", "b"] if parallel else ["a"]
            assert [op["id"] for op in ops] == [hashed(n) for n in ids]
            assert [(op["op"], op["id"]) for op in ops] == [(s[0], s[2]) for s in seen]
            assert seen[0][:2] == (op_name, name)
            for step_id, op in zip(ids, ops, strict=True):
                if tool == "invoke":
                    assert op["opts"]["payload"]["data"] == {"sealed": {"id": step_id}}
                elif tool == "wait":
                    assert op["opts"] == {"if": "false", "timeout": "2s"}
                else:
                    assert op["opts"]["body"]["sealed"] is True


@both
def test_steps_with_arguments_and_options(setting: str) -> None:
    """Handlers keep their arguments, and the options of a race are visible as step input."""
    seen: list[Any] = []

    class Watch(Plugin):
        def transform_output(self, call: Call, outcome: Outcome) -> None:
            assert outcome.step is not None
            seen.append(outcome.step.input)

    async def body(ctx: Any) -> None:
        def add(one: int, two: int) -> int:
            return one + two

        await ctx.group.parallel(
            (lambda: ctx.step.run("a", add, 2, 3), lambda: ctx.step.run("b", add, 4, 5)),
            parallel_mode=inngest.ParallelMode.RACE,
        )

    op = serve(setting, body, Watch()).post(target="b", planning=True).op
    assert op["data"] == 9
    assert op["opts"] == {"parallelMode": "race"}


# ---------------------------------------------------------------- provide, keys


@both
def test_provide_adds_to_the_context(setting: str) -> None:
    """The function finds what plugins provide under `ctx.<name>`."""

    class Database(Plugin):
        def transform_input(self, call: Call) -> None:
            call.provide("database", {"dsn": "x"})

    async def body(ctx: Any) -> Any:
        return ctx.database

    assert serve(setting, body, Database()).post().body == {"dsn": "x"}


@both
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("step", "plugin 'second' cannot provide ctx.step: the SDK has it already"),
        ("not a name", "plugin 'second' cannot provide ctx.not a name: it is not a name"),
        ("taken", "plugin 'second' provides ctx.taken, which plugin 'first' provides too"),
    ],
)
def test_provide_refuses_names_that_are_taken(setting: str, name: str, message: str) -> None:
    """A collision is an error that names both sides."""
    errors: list[str] = []

    class Provider(Plugin):
        def __init__(self, provides: str, called: str) -> None:
            self.provides, self.name = provides, called

        def transform_input(self, call: Call) -> None:
            try:
                call.provide(self.provides, 1)
            except RegistrationError as err:
                errors.append(str(err))

    serve(setting, nothing, Provider("taken", "first"), Provider(name, "second")).post()
    assert errors == [message]


def test_user_code_may_provide_too() -> None:
    """Outside of a hook the function itself is named in a collision."""

    async def body(ctx: Any) -> str:
        call = Call.current()
        assert call is not None
        call.provide("mine", 1)
        with pytest.raises(RegistrationError, match=r"plugin 'the function' provides ctx\.mine"):
            call.provide("mine", 2)
        return "ok"

    assert serve("fastapi-async", body, Keep()).post().body == "ok"


def test_keys_are_compared_by_identity() -> None:
    """Two keys of one name are two; reading one that is not set is an error that names it."""
    one, two = CallKey[int]("my.key"), CallKey[int]("my.key")
    seen: list[Any] = []

    class Data(Plugin):
        def transform_input(self, call: Call) -> None:
            assert one not in call
            assert call.get(one) is None
            assert call.get(one, 7) == 7
            with pytest.raises(KeyError, match=r"my\.key"):
                del call[one]
            with pytest.raises(KeyError, match=r"my\.key"):
                call[one]
            call[one] = 1
            assert two not in call
            assert one in call
            assert call.get(two, "none") == "none"

        def around_step(self, call: Call, step: Step) -> Any:
            step[two] = 2
            return super().around_step(call, step)

        def transform_output(self, call: Call, outcome: Outcome) -> None:
            assert outcome.step is not None
            seen.append((call[one], outcome.step[two]))
            del call[one]
            assert one not in call
            with pytest.raises(KeyError, match=r"my\.key"):
                call[one]

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: 0)

    app = serve("fastapi-async", body, Data())
    assert app.post().status == app.post().status == 206
    assert seen == [(1, 2), (1, 2)]
    assert repr(one) == "CallKey('my.key')"


# ---------------------------------------------------------------- attachments


WIRE_SHAPE = {"__inngest_plugins__", "value", "attachments"}


class Attach(Plugin):
    """Attaches to step results and invokes, and reads on replay."""

    def __init__(self) -> None:
        self.read: list[Any] = []

    def before_memoization(self, call: Call) -> None:
        self.read.append((call.attachment(hashed("a"), "meta"), call.event_attachment("meta")))
        assert call.attachment(hashed("a"), "other") is None
        assert call.attachment(hashed("nope"), "meta") is None
        assert call.event_attachment("other") is None

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        if outcome.step is None:
            with pytest.raises(ValueError, match="only the outcome of a step"):
                outcome.attach("meta", 1)
        else:
            outcome.attach("meta", {"n": 1})

    def transform_step_input(self, call: Call, step: Step) -> None:
        if step.op == "InvokeFunction":
            step.attach("meta", {"parent": call.run_id})
        else:
            with pytest.raises(ValueError, match="only an InvokeFunction step carries"):
                step.attach("meta", 1)


class Layered(Plugin):
    """Notes what a plugin of a layer sees."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.name = layer.name.lower()
        self.outputs: list[Any] = []
        self.inputs: list[Any] = []
        self.memos: list[Any] = []
        self.events: list[Any] = []

    def transform_input(self, call: Call) -> None:
        self.memos += [memo.data for memo in call.memos.values()]
        self.events.append(call.event.data)

    def transform_step_input(self, call: Call, step: Step) -> None:
        assert step.input is not None
        self.inputs.append(json.loads(json.dumps(step.input["payload"]["data"])))

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self.outputs.append(outcome.output)


@both
@pytest.mark.parametrize(
    "value",
    [
        7,
        None,
        {"x": 1},
        {"__inngest_plugins__": 1, "value": 3, "attachments": {}},
        {"__inngest_plugins__": 1, "value": 3, "attachments": {"meta": "forged"}},
        {"__inngest_plugins__": 2, "value": 3, "attachments": {}},
    ],
)
def test_attachments_of_a_step_make_the_round_trip(setting: str, value: Any) -> None:
    """They travel with the result, hidden from function and CONTRACT, and come back on replay."""
    attach = Attach()
    contract, wire = Layered(Layer.CONTRACT), Layered(Layer.WIRE)

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run("a", lambda: value)]

    app = serve(setting, body, attach, contract, wire)
    op = app.post().op
    assert set(op["data"]) == WIRE_SHAPE
    assert op["data"]["attachments"] == {"meta": {"n": 1}}
    assert op["data"]["value"] == value
    assert (contract.outputs, wire.outputs) == ([value], [op["data"]])
    reply = app.post(memos={"a": {"data": op["data"]}})

    assert reply.body == [value]
    assert attach.read == [(None, None), ({"n": 1}, None)]
    assert (contract.memos, wire.memos) == ([value], [op["data"]])


@both
def test_a_value_of_the_wire_shape_is_escaped(setting: str) -> None:
    """User data that looks like a joined result comes back as it was, without attachments."""
    value = {"__inngest_plugins__": 1, "value": 3, "attachments": {"meta": "forged"}}
    seen: list[Any] = []

    class Read(Plugin):
        def before_memoization(self, call: Call) -> None:
            seen.append(call.attachment(hashed("a"), "meta"))

    async def body(ctx: Any) -> Any:
        return [await ctx.step.run("a", lambda: value)]

    app = serve(setting, body, Read())
    op = app.post().op
    assert op["data"] == {"__inngest_plugins__": 1, "value": value, "attachments": {}}
    assert app.post(memos={"a": {"data": op["data"]}}).body == [value]
    assert seen == [None, None]


@both
def test_a_failed_step_carries_no_attachments(setting: str) -> None:
    """An error is sent as it is."""

    async def body(ctx: Any) -> None:
        def fail() -> None:
            raise ValueError("user")

        await ctx.step.run("a", fail)

    op = serve(setting, body, Attach()).post().op
    assert op["error"]["message"] == "user"
    assert op["data"] is None


@both
@pytest.mark.parametrize("data", [None, {"x": 1}])
def test_attachments_of_an_invoke_reach_the_child(setting: str, data: Any) -> None:
    """They are in the data for WIRE and the engine, and for nobody within it on either side."""
    attach = Attach()
    contract, wire = Layered(Layer.CONTRACT), Layered(Layer.WIRE)

    async def parent(ctx: Any) -> None:
        await ctx.step.invoke_by_id("a", function_id="child", data=data)

    op = serve(setting, parent, attach, contract, wire).post(run_id="run-p").op
    sent = op["opts"]["payload"]["data"]
    joined = {**(data or {}), "_inngest_plugins": {"meta": {"parent": "run-p"}}}
    assert sent == joined
    assert (contract.inputs, wire.inputs) == ([data], [joined])

    async def child(ctx: Any) -> Any:
        return [ctx.event.data, ctx.events[0].data]

    event = {"name": "inngest/function.invoked", "data": sent}
    reply = serve(setting, child, attach, contract, wire).post(events=[event])
    assert reply.body == [data or {}, data or {}]
    assert attach.read[-1] == (None, {"parent": "run-p"})
    assert contract.events[-1] == (data or {})
    assert wire.events[-1] == joined


@both
def test_a_forged_event_attachment_is_dropped(setting: str) -> None:
    """An `_inngest_plugins` in an event that is no object is hidden and means nothing."""
    attach = Attach()

    async def body(ctx: Any) -> Any:
        return ctx.event.data

    event = {"name": "shop/test", "data": {"x": 1, "_inngest_plugins": "odd"}}
    assert serve(setting, body, attach).post(events=[event]).body == {"x": 1}
    assert attach.read == [(None, None)]


@both
def test_attachments_of_a_wait_are_refused(setting: str) -> None:
    """Only an invoke carries data to another run."""

    async def body(ctx: Any) -> None:
        await ctx.step.wait_for_event("a", event="shop/x", timeout=1000)

    assert serve(setting, body, Attach()).post().op["op"] == "WaitForEvent"


# ---------------------------------------------------------------- sends


class Rewrite(Plugin):
    """Edits events in place, and adds one to the list."""

    def __init__(self) -> None:
        self.sends: list[Send] = []

    def before_send_events(self, send: Send) -> None:
        self.sends.append(send)
        for event in send.events:
            data: Any = event.data
            data["nested"]["x"] = "edited"
            data["list"][0]["y"] = "edited"
        send.events = [*send.events, inngest.Event(name="shop/added")]


def caller_events() -> list[inngest.Event]:
    """Events with nested data."""
    data: Any = {"nested": {"x": 1}, "list": [{"y": 1}]}
    return [inngest.Event(name="shop/x", data=data)]


def check_sent(engine: Engine, events: list[inngest.Event]) -> None:
    """The engine got the plugins' version, the caller keeps its own."""
    (batch,) = engine.sent
    assert [event["name"] for event in batch] == ["shop/x", "shop/added"]
    assert batch[0]["data"] == {"nested": {"x": "edited"}, "list": [{"y": "edited"}]}
    assert len(events) == 1
    assert events[0].data == {"nested": {"x": 1}, "list": [{"y": 1}]}
    assert (events[0].id, events[0].ts) == ("", 0)


@pytest.mark.anyio
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("how", ["send", "send_sync"])
async def test_client_sends_leave_the_callers_objects_alone(how: str, single: bool) -> None:
    """Plugins work on copies of the list, the events and their data."""
    rewrite = Rewrite()
    client = make_client(rewrite)
    events = caller_events()
    with Engine().serving(client) as engine:
        given: Any = events[0] if single else events
        ids = await client.send(given) if how == "send" else client.send_sync(given)

    assert ids == ["id0", "id1"]
    (send,) = rewrite.sends
    assert (send.ids, send.error, send.call, send.step) == (ids, None, None, None)
    assert send.client is client
    assert send.stack is Stack.of(client)
    assert repr(send) == "<Send of 2 events>"
    check_sent(engine, events)


@settings
@pytest.mark.parametrize("single", [True, False])
def test_step_sends_leave_the_callers_objects_alone(setting: str, single: bool) -> None:
    """The same for `step.send_event`, where the SDK ignores list changes for a single event."""
    rewrite = Rewrite()
    events = caller_events()

    async def body(ctx: Any) -> None:
        await ctx.step.send_event("a", events[0] if single else events)

    app = serve(setting, body, rewrite)
    with Engine().serving(app.client) as engine:
        assert app.post(run_id="run-1").op["data"] == ["id0", "id1"]

    (send,) = rewrite.sends
    assert send.call is not None
    assert send.step is not None
    assert (send.call.run_id, send.step.id) == ("run-1", "a")
    assert send.ids == ["id0", "id1"]
    check_sent(engine, events)


class _Reader(Plugin):
    """Looks at what is sent, and changes nothing."""

    def before_send_events(self, send: Send) -> None:
        assert send.events


def _nested(levels: int) -> dict[str, Any]:
    """Objects in one another, the innermost with a list."""
    data: dict[str, Any] = {"list": [1]}
    for _ in range(levels):
        data = {"nested": data}
    return data


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["send", "send_sync"])
async def test_data_without_an_end_is_refused_as_without_plugins(how: str) -> None:
    """By the SDK, in its words, and not by a copy that never ends."""
    cycle: list[Any] = []
    cycle.append(cycle)
    for data in ({"cycle": cycle}, _nested(10_000)):
        event = inngest.Event(name="shop/x")
        event.data = data
        for client in (make_client(), make_client(_Reader())):
            with pytest.raises(ValueError, match=r"Circular reference|serialization depth"):
                await client.send(event) if how == "send" else client.send_sync(event)


def test_the_deepest_data_that_the_sdk_sends_is_copied() -> None:
    """An edit at its end leaves the caller's object alone."""
    event = inngest.Event(name="shop/x", data=_nested(250))
    (copy,) = copied(event)
    place: Any = copy.data
    while "nested" in place:
        place = place["nested"]
    place["list"].append(2)
    assert event.data == _nested(250)


@pytest.fixture
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    from inngest._internal.client_lib import client as client_module

    monkeypatch.setattr(client_module, "_compute_backoff_delay", lambda attempt: 0)


@pytest.mark.anyio
@pytest.mark.usefixtures("_no_backoff")
@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
@pytest.mark.parametrize("how", ["send", "send_sync", "step"])
async def test_after_send_events_when_the_engine_is_away(
    how: str, kind: type[Spy] | type[AsyncSpy]
) -> None:
    """The SDK leaves the hook out; plugins have it, once, with the error."""
    log: list[str] = []
    errors: list[Any] = []
    hooks = Hooks("watch")

    @hooks.after_send_events
    def note(send: Send) -> None:
        errors.append((send.ids, send.error))

    def away(request: Any) -> Any:
        import httpx

        raise httpx.ConnectError("refused")

    client = make_client(kind("", log), hooks)
    with Engine(away).serving(client):
        event = inngest.Event(name="shop/x")
        if how == "step":

            async def body(ctx: Any) -> None:
                await ctx.step.send_event("a", event)

            reply = await serve("fastapi-async", body, client=client).apost()
            assert reply.op["op"] == "StepError"
        elif how == "send":
            with pytest.raises(Exception, match="never received response"):
                await client.send(event)
        else:
            with pytest.raises(Exception, match="never received response"):
                client.send_sync(event)

    assert log.count("after_send_events") == 1
    ((ids, error),) = errors
    assert ids == []
    assert "never received response" in error


def test_skip_middleware_is_kept() -> None:
    """`client.send(..., skip_middleware=True)` calls no hook, as the SDK promises."""
    log: list[str] = []
    client = make_client(Spy("", log))
    with Engine().serving(client) as engine:
        client.send_sync(inngest.Event(name="shop/x"), skip_middleware=True)
    assert (log, len(engine.sent)) == ([], 1)


# ---------------------------------------------------------------- recording


@settings
@pytest.mark.parametrize("kind", [Spy, AsyncSpy])
def test_hooks_are_recorded(setting: str, kind: type[Spy] | type[AsyncSpy]) -> None:
    """`record_hooks` notes each hook that ran with run, duration and error."""

    async def body(ctx: Any) -> None:
        await ctx.step.run("a", lambda: 1)

    log: list[str] = []
    spy = kind("spy", log, fail_open=True, raises={"after_execution": ValueError("x")})
    app = serve(setting, body, spy)
    with record_hooks() as records:
        app.post(run_id="run-r")
    app.post(run_id="run-unseen")

    if setting.startswith("flask"):
        # The harness's WSGI threads were not started within the context.
        assert records == []
        return
    assert {record.run_id for record in records} == {"run-r"}
    assert {record.plugin for record in records} == {"spy"}
    hooks = [record.hook for record in records]
    assert sorted(hooks) == sorted(
        {name.lstrip("~").removeprefix("spy.").lstrip("~") for name in log[: len(log) // 2]}
    )
    assert [record.error for record in records if record.error] == ["ValueError"]
    assert all(record.duration >= 0 and record.started_at > 1e9 for record in records)


@pytest.mark.anyio
async def test_sends_are_recorded() -> None:
    """Hooks of a send outside of a run are recorded without a run."""
    client = make_client(Spy("spy", []))
    with Engine().serving(client), record_hooks() as records:
        await client.send(inngest.Event(name="shop/x"))
        client.send_sync(inngest.Event(name="shop/x"))
    assert [(record.hook, record.run_id) for record in records] == [
        ("before_send_events", None),
        ("after_send_events", None),
    ] * 2


def test_engine_api_is_exported() -> None:
    """The public names of the core are those of its `__all__`."""
    from inngest_plugins import core

    assert core.EngineApi is EngineApi
    assert all(hasattr(core, name) for name in core.__all__)
