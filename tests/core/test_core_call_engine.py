"""`call.engine`: who a request is, operations sent while it goes on, operations of other kinds."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import inngest
import pytest
from tests.core.core_protocol import (
    ASYNC_SETTINGS,
    BOTH,
    SETTINGS,
    Engine,
    Reply,
    hashed,
    make_client,
    serve,
)

from inngest_plugins.core import (
    Call,
    Dispatch,
    EngineApiError,
    EngineError,
    OpTooLargeError,
    Plugin,
    RunEndedError,
    StaleDispatchError,
    Step,
    answered_by,
)

IDENTITY = {"fn_id": "f-1", "qi_id": "q-1", "generation_id": 3, "request_id": "r-1"}
DEFERS = {"h1": {"abortable": True}}


class Asking(Plugin):
    """Asks `call.engine` for something where the call begins."""

    def __init__(self, ask: Callable[[Call], Any]) -> None:
        self.ask = ask
        self.answers: list[Any] = []

    def before_execution(self, call: Call) -> None:
        self.answers.append(self.ask(call))


async def nothing(ctx: Any) -> None:
    return None


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_identity_of_the_dispatch(setting: str) -> None:
    """It is read off the raw body, in every way the SDK runs a function."""
    asking = Asking(lambda call: (call.engine.dispatch, dict(call.engine.defers)))
    before = int(time.time() * 1000)
    app = serve(setting, nothing, asking)
    app.post(run_id="run-1", identity=IDENTITY, defers=DEFERS)
    ((dispatch, defers),) = asking.answers
    assert before <= dispatch.started_at <= time.time() * 1000
    expected = Dispatch("run-1", "f-1", "q-1", 3, "r-1", dispatch.started_at)
    assert dispatch == expected
    assert dispatch.is_known
    assert defers == DEFERS


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_body_of_the_request(setting: str) -> None:
    """It is there as it came, in every way the SDK runs a function."""
    asking = Asking(lambda call: call.engine.request_body)
    serve(setting, nothing, asking).post(run_id="run-1", identity=IDENTITY)
    (body,) = asking.answers
    assert isinstance(body, bytes)
    assert json.loads(body)["ctx"]["fn_id"] == "f-1"


@pytest.mark.parametrize("setting", BOTH)
def test_an_engine_that_says_less(setting: str) -> None:
    """What is not in the body is empty; the request's id comes from its header then."""
    asking = Asking(lambda call: call.engine.dispatch)
    app = serve(setting, nothing, asking)
    app.post(run_id="run-1", headers={"x-request-id": "r-2"})
    app.post(run_id="run-1", identity={"fn_id": 7, "generation_id": "1"})
    first, second = (dataclasses.replace(found, started_at=0) for found in asking.answers)
    assert first == Dispatch("run-1", "", "", 0, "r-2", 0)
    assert second == Dispatch("run-1", "", "", 0, "", 0)
    assert not first.is_known


def test_one_engine_for_a_call() -> None:
    """`call.engine` is one object, and so is its API client."""
    asking = Asking(lambda call: (call.engine is call.engine, call.engine.api is call.engine.api))
    serve("flask", nothing, asking).post()
    assert asking.answers == [(True, True)]


# ---------------------------------------------------------------- send_ops


class Sending(Plugin):
    """Sends operations from `before_execution`, and notes what that raised."""

    def __init__(self, ops: list[dict[str, Any]], **options: Any) -> None:
        self.ops = ops
        self.options = options
        self.raised: list[BaseException] = []

    async def before_execution(self, call: Call) -> None:
        try:
            if call.is_async:
                await call.engine.send_ops(self.ops, **self.options)
            else:
                call.engine.send_ops_sync(self.ops, **self.options)
        except EngineError as err:
            self.raised.append(err)


RAN = {"id": hashed("a"), "op": "StepRun", "data": 1}


def post_sending(
    setting: str, sending: Sending, answer: Callable[[httpx.Request], httpx.Response]
) -> tuple[Reply, Engine]:
    client = make_client(sending)
    app = serve(setting, nothing, client=client)
    with Engine(answer).serving(client) as engine:
        return app.post(run_id="run-1", identity=IDENTITY), engine


@pytest.mark.parametrize("setting", BOTH)
def test_send_ops(setting: str) -> None:
    """The call has the identity of the dispatch and the operations."""
    sending = Sending([RAN])
    reply, engine = post_sending(setting, sending, lambda _: httpx.Response(200))
    assert (reply.status, sending.raised) == (200, [])
    (request,) = engine.requests
    assert (request.method, request.url.path) == ("POST", "/v1/checkpoint/run-1/async")
    body = json.loads(request.content)
    assert body.pop("ts") >= body.pop("request_started_at") > 0
    assert body == {"run_id": "run-1", **IDENTITY, "steps": [RAN]}


def test_deferring_leaves_the_count_of_attempts_alone() -> None:
    """With a queue item in the call, the engine starts the job's attempts anew."""
    sending = Sending([{"id": hashed("d"), "op": "DeferAdd", "opts": {}}])
    _, engine = post_sending("flask", sending, lambda _: httpx.Response(200))
    assert json.loads(engine.requests[0].content)["qi_id"] == ""


NOT_FOUND = {"error": "run not found in state store", "data": {}, "status": 400}


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, {}, StaleDispatchError),
        (404, NOT_FOUND, RunEndedError),
        (404, {"error": "page not found"}, EngineApiError),
        (400, NOT_FOUND, RunEndedError),
        (413, {}, OpTooLargeError),
        (400, {"error": "cannot checkpoint async steps"}, EngineApiError),
        (401, {}, EngineApiError),
        (500, {}, EngineApiError),
    ],
)
def test_what_an_answer_means(
    setting: str, status: int, body: Any, error: type[EngineError]
) -> None:
    """Each refusal of the engine is an error of its own; only a failure is tried again."""
    sending = Sending([RAN], attempts=2)
    reply, engine = post_sending(setting, sending, lambda _: httpx.Response(status, json=body))
    assert reply.status == 200
    (raised,) = sending.raised
    assert type(raised) is error
    assert len(engine.requests) == (2 if status == 500 else 1)
    if isinstance(raised, EngineApiError):
        assert raised.status == status


def test_an_engine_that_is_away() -> None:
    """No answer at all is an `EngineApiError` too."""

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away", request=request)

    sending = Sending([RAN], attempts=1)
    post_sending("flask", sending, away)
    (raised,) = sending.raised
    assert isinstance(raised, EngineApiError)
    assert raised.status is None


# ---------------------------------------------------------------- foreign operations


async def run_op(step_id: str, **options: Any) -> Any:
    call = Call.current()
    assert call is not None
    if call.is_async:
        return await call.engine.run_op(step_id, **options)
    return call.engine.run_op_sync(step_id, **options)


async def fetches(ctx: Any) -> Any:
    opts = {"url": "https://example.com", "method": "GET", "headers": {}, "body": ""}
    answer = await run_op("page", op="Gateway", opts=opts)
    again = await run_op("page", op="Gateway", opts=opts)
    return [answer["status_code"], again["status_code"]]


@pytest.mark.parametrize("setting", [*ASYNC_SETTINGS, "fastapi-pool", "flask"])
def test_a_foreign_op_is_a_step(setting: str) -> None:
    """It leaves as the engine wants it, is found again on replay, and counts reused ids."""
    app = serve(setting, fetches, Asking(lambda call: None))
    op = app.post().op
    has_userland = op.pop("userland", None) == {"id": "page", "index": None}
    assert op == {
        "displayName": "page",
        "id": hashed("page"),
        "name": "page",
        "op": "Gateway",
        "opts": {"url": "https://example.com", "method": "GET", "headers": {}, "body": ""},
        "data": None,
    }
    memos = {"page": {"data": {"status_code": 200}}}
    second = app.post(memos=memos).op
    assert second["id"] == hashed("page:1")
    # Older releases of the SDK send no `userland`.
    assert not has_userland or second["userland"]["index"] == 1
    memos["page:1"] = {"data": {"status_code": 404}}
    assert app.post(memos=memos).body == [200, 404]


@pytest.mark.parametrize("setting", BOTH)
def test_a_foreign_op_that_failed(setting: str) -> None:
    """The engine's error is raised where the operation was asked for, as any step's is."""

    async def body(ctx: Any) -> str:
        try:
            await run_op("page", op="Gateway", opts={})
        except inngest.StepError as err:
            return f"{err.name}: {err.message}"
        return "none"

    app = serve(setting, body, Asking(lambda call: None))
    error = {"name": "GatewayError", "message": "refused"}
    assert app.post(memos={"page": {"error": error}}).body == "GatewayError: refused"


@pytest.mark.parametrize("setting", BOTH)
def test_foreign_ops_in_a_group(setting: str) -> None:
    """They are reported together with the group's other steps."""

    async def body(ctx: Any) -> Any:
        return list(
            await ctx.group.parallel(
                (
                    lambda: run_op("signal", op="WaitForSignal", opts={"signal": "s"}, name="s"),
                    lambda: ctx.step.run("other", lambda: 1),
                )
            )
        )

    app = serve(setting, body, Asking(lambda call: None))
    ops = app.post().ops
    assert [(op["op"], op["name"]) for op in ops] == [
        ("WaitForSignal", "s"),
        ("StepPlanned", "other"),
    ]
    memos = {"signal": None, "other": {"data": 1}}
    assert app.post(memos=memos).body == [None, 1]


class Watching(Plugin):
    """Notes the steps and changes what leaves."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, str]] = []

    def step_reached(self, call: Call, step: Step) -> None:
        self.reached.append((step.op, step.status))

    def transform_step_input(self, call: Call, step: Step) -> None:
        assert step.input is not None
        step.input = {**step.input, "url": "https://changed.example"}


@pytest.mark.parametrize("setting", BOTH)
def test_hooks_see_foreign_ops(setting: str) -> None:
    """A plugin sees what leaves for the engine, and may change it."""
    watching = Watching()
    app = serve(setting, fetches, watching)
    assert app.post().op["opts"]["url"] == "https://changed.example"
    memos = {"page": {"data": {"status_code": 200}}}
    app.post(memos=memos)
    assert watching.reached == [
        ("Gateway", "waiting"),
        ("Gateway", "memoized"),
        ("Gateway", "waiting"),
    ]


@pytest.mark.parametrize("setting", BOTH)
def test_the_twin_of_the_other_kind_of_function(setting: str) -> None:
    """The wrong one of the two says which is right."""

    async def body(ctx: Any) -> str:
        call = Call.current()
        assert call is not None
        try:
            if call.is_async:
                call.engine.run_op_sync("a", op="Gateway")
            else:
                await call.engine.run_op("a", op="Gateway")
        except TypeError as err:
            return str(err)
        return "nothing was raised"

    reply = serve(setting, body, Asking(lambda call: None)).post()
    right = "call.engine.run_op" if setting in ASYNC_SETTINGS else "call.engine.run_op_sync"
    assert reply.body.endswith(f"use {right}")


def test_connections_of_a_loop_that_has_ended() -> None:
    """They cannot be used any more: the call is made from a thread."""

    async def ended(request: httpx.Request) -> httpx.Response:
        raise RuntimeError("Event loop is closed")

    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    sending = Sending([RAN], attempts=1)
    app = serve("fastapi-async", nothing, sending)
    transports = httpx.MockTransport(ended), httpx.MockTransport(answer)
    with answered_by(app.client, *transports):
        app.post(run_id="run-1", identity=IDENTITY)
    assert (sending.raised, len(sent)) == ([], 1)
