"""The executor against apps that answer in unusual ways, and rules that no recording shows."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import typing
from collections.abc import Callable
from pathlib import Path

import anyio
import inngest
import pytest

from inngest_plugins.local import LocalEngine, RealClock, Run

Json = typing.Any
Answer = Callable[[dict[str, Json], str], tuple[int, Json]]
pytestmark = pytest.mark.anyio


def scripted(answer: Answer, headers: dict[str, str] | None = None) -> typing.Any:
    """An ASGI app that registers one function and answers its calls as the test says."""

    def serve(client: inngest.Inngest, functions: list[inngest.Function[typing.Any]]) -> typing.Any:
        async def app(scope: Json, receive: Json, send: Json) -> None:
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            status, content = 200, b"{}"
            if scope["method"] == "PUT":
                import httpx

                config = functions[0].get_config("http://localhost/api/inngest").main
                registration = {"functions": [json.loads(config.model_dump_json(by_alias=True))]}
                await http_post(client, httpx, registration)
            else:
                query = dict(pair.split("=") for pair in scope["query_string"].decode().split("&"))
                status, value = answer(json.loads(body), query["stepId"])
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
            sent = {"x-inngest-sdk": "test", "x-inngest-req-version": "2", **(headers or {})}
            raw = [(key.encode(), value.encode()) for key, value in sent.items()]
            await send({"type": "http.response.start", "status": status, "headers": raw})
            await send({"type": "http.response.body", "body": content})

        return app

    return serve


async def http_post(client: inngest.Inngest, httpx: Json, registration: Json) -> None:
    """Register with the engine, through the client's redirected HTTP."""
    from inngest_plugins.local.server.transport import http_clients

    _, (http, *_rest) = http_clients(client)
    request = httpx.Request(
        "POST", f"{client.api_origin.rstrip('/')}/fn/register", json=registration
    )
    response = await http.send(request)
    assert response.status_code == 200, response.text


async def run_scripted(
    answer: Answer, headers: dict[str, str] | None = None, retries: int = 1
) -> Run:
    """Run the scripted function once."""
    client = inngest.Inngest(app_id="shop", is_production=False)

    @client.create_function(
        fn_id="fn", retries=retries, trigger=inngest.TriggerEvent(event="shop/fn")
    )
    async def fn(ctx: inngest.Context) -> None:
        return None

    engine = LocalEngine(client, [fn], serve=scripted(answer, headers), retry_interval=1)
    async with engine:
        return await engine.run(inngest.Event(name="shop/fn"), timeout=200)


def op(step_id: str, kind: str, **fields: Json) -> dict[str, Json]:
    """One op as the SDK writes it."""
    hashed = hashlib.sha1(step_id.encode()).hexdigest()
    return {
        "id": hashed,
        "op": kind,
        "name": step_id,
        "displayName": step_id,
        "userland": {"id": step_id, "index": None},
        "opts": None,
        "data": None,
        **fields,
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((206, [op("a", "StepLevitate")]), "unknown op 'StepLevitate'"),
        ((206, [op("a", "StepError")]), "StepError without an error"),
        ((206, [{"id": "x"}]), "unknown op None"),
        ((206, [op("a", "Sleep", name="tomorrow")]), "cannot be understood"),
        ((206, [op("a", "WaitForEvent", opts={"timeout": "soon"})]), "cannot be understood"),
        ((206, [op("a", "StepRun", data="x" * (4 * 1024 * 1024))]), "greater than the limit"),
        ((206, b"[1]"), "without a list of steps"),
        ((200, b"{"), "not JSON"),
    ],
)
async def test_answers_that_make_no_sense_are_retried_and_then_fail(
    answer: tuple[int, Json], message: str
) -> None:
    """A malformed answer counts as a failed attempt, never as a hang."""
    run = await run_scripted(lambda body, step: answer)
    assert run.status == "Failed"
    assert message in run.reason
    assert [request.attempt for request in run.requests] == [0, 1]


@pytest.mark.parametrize(
    ("ops", "name"),
    [
        ([op(str(n), "StepPlanned") for n in range(1001)], "InngestErrFunctionOverflowed"),
        ([op("a", "Sleep", name="2099-01-01T00:00:00Z")], "InngestErrTimeoutTooLong"),
        ([op("a", "WaitForEvent", opts={"timeout": "53w"})], "InngestErrTimeoutTooLong"),
    ],
)
async def test_limits_fail_the_run_at_once(ops: list[dict[str, Json]], name: str) -> None:
    """Going over a limit of the server fails the run without another attempt."""
    run = await run_scripted(lambda body, step: (206, ops))
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == name
    assert len(run.requests) == 1


async def test_a_step_that_may_not_be_retried_is_named() -> None:
    """The reason says of a step's error that it is not retriable only when the app said so."""
    error = {"name": "ValueError", "message": "no"}

    def answer(body: dict[str, Json], step: str) -> tuple[int, Json]:
        return (500, error) if body["steps"] else (206, [op("a", "StepError", error=error)])

    run = await run_scripted(answer, {"x-inngest-no-retry": "true"})
    assert (run.status, len(run.requests)) == ("Failed", 2)
    assert run.reason == "step 'a' is not retriable: ValueError: no"


async def test_step_limit() -> None:
    """A run with 1,000 steps is not called again, even if it would only have to return."""

    def answer(body: dict[str, Json], step: str) -> tuple[int, Json]:
        n = len(body["ctx"]["stack"]["stack"])
        return (206, [op(f"s{n}", "StepRun", data=n)]) if n < 1000 else (200, n)

    run = await run_scripted(answer)
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "InngestErrFunctionOverflowed"
    assert len(run.requests) == len(run.steps) == 1000


async def test_state_limit() -> None:
    """Memos together may have 32 MiB."""

    def answer(body: dict[str, Json], step: str) -> tuple[int, Json]:
        n = len(body["ctx"]["stack"]["stack"])
        return 206, [op(f"s{n}", "StepRun", data="x" * 4_000_000)]

    run = await run_scripted(answer)
    assert run.error is not None
    assert run.error["name"] == "InngestErrStateOverflowed"
    assert len(run.steps) == 8


async def test_first_memo_of_a_step_wins() -> None:
    """A step that is reported again keeps its first memo, and the run does not go on for ever."""

    def answer(body: dict[str, Json], step: str) -> tuple[int, Json]:
        return 206, [op("a", "StepRun", data=len(body["steps"]))]

    run = await run_scripted(answer)
    assert run.status == "Failed"
    assert run.steps["a"].value == 0
    assert run.error is not None
    assert run.error["name"] == "NonDeterministicError"
    assert len(run.requests) == 2


async def test_target_that_is_never_reported_ends_the_run() -> None:
    """A group whose member vanishes leaves nothing to do: the run fails with the reason."""

    def answer(body: dict[str, Json], step: str) -> tuple[int, Json]:
        if step == "step":
            return 206, [op("a", "StepPlanned"), op("b", "StepPlanned")]
        return 206, [op("a", "StepRun", data=1)]

    run = await run_scripted(answer)
    assert run.status == "Failed"
    assert "nothing is left" in run.reason


async def test_nan_output_is_kept() -> None:
    """A function that returns NaN completes, as on the server."""
    run = await run_scripted(lambda body, step: (200, b"NaN"))
    assert run.status == "Completed"
    assert run.output != run.output


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("3", 3), ("0", 1), ("900000", 86_400), ("soon", 1), ("2001-01-01T00:00:00Z", 1)],
)
async def test_retry_after_is_seconds_or_a_date_and_is_clipped(
    retry_after: str, seconds: float
) -> None:
    """`retry-after` counts between one second and a day."""
    body = {"name": "E", "message": "m"}
    run = await run_scripted(lambda b, s: (500, body), {"retry-after": retry_after})
    first, second = run.requests
    assert second.started_at - (first.ended_at or 0) == pytest.approx(seconds, abs=0.5)


async def test_backoff_follows_the_servers_table() -> None:
    """Attempts are 15 s, 30 s, 1 min, 2 min... apart, with up to 30 s of jitter."""
    client = inngest.Inngest(app_id="shop", is_production=False)

    @client.create_function(fn_id="fn", retries=11, trigger=inngest.TriggerEvent(event="shop/fn"))
    async def fn(ctx: inngest.Context) -> None:
        raise ValueError

    async with LocalEngine(client, [fn]) as engine:
        run = await engine.run(inngest.Event(name="shop/fn"))
    times = [request.started_at for request in run.requests]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    table = [15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200, 7200]
    assert len(gaps) == len(table)
    for gap, base in zip(gaps, table, strict=True):
        assert base - 0.1 <= gap <= base + 31


# Functions of the recorded app that no recording in the repository shows.

SPEC: dict[str, tuple[str, Json, int]] = {
    # name: status, part of the output, number of requests
    "step-fail-caught": ("Completed", {"r": "recovered"}, 4),
    "fn-retry-after-step": ("Completed", {"r": "A", "attempt": 1}, 3),
    "retry-after-step": ("Completed", {"r": "fine"}, 3),
    "loop": ("Completed", [0, 1, 4], 4),
    "nested": ("Completed", "caught StepError: Nested steps are not supported.", 2),
    "parallel-err": ("Completed", {"caught": "StepError", "msg": "branch failed"}, 5),
    "parallel-race-first": ("Completed", {"done": True}, 5),
    "child-slow": ("Completed", "late", 2),
    "child-bad": ("Failed", None, 1),
    "child-typed": ("Completed", {"amount": 5, "currency": "EUR"}, 1),
    "on-failure-step": ("Failed", None, 2),
    "invoke-failed": ("Completed", {"type": "StepError", "name": "ValueError"}, 2),
    "invoke-timeout": ("Completed", {"name": "InngestInvokeTimeoutError"}, 2),
    "wait-same-event": ("Completed", [None, None], 2),
}


@pytest.mark.parametrize("name", sorted(SPEC))
async def test_unrecorded_function(name: str) -> None:
    """The functions without a recording end as the reference says."""
    path = Path(__file__).parent / "exchanges" / "app.py"
    spec = importlib.util.spec_from_file_location("recorded_app", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client, functions = module.build("fastapi")
    async with LocalEngine(client, functions, retry_interval=1) as engine:
        run = await engine.run(inngest.Event(name=f"refa/{name}"), function=name, timeout=200)
        await engine.settle(timeout=200)
    status, output, requests = SPEC[name]
    assert (run.status, len(run.requests)) == (status, requests)
    if isinstance(output, dict):
        assert output.items() <= run.output.items()
    else:
        assert run.output == output


async def test_types_survive_their_memos() -> None:
    """Every JSON type, and pydantic models, come back from a memo as they went in."""
    path = Path(__file__).parent / "exchanges" / "app.py"
    spec = importlib.util.spec_from_file_location("recorded_app", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client, functions = module.build("fastapi")
    async with LocalEngine(client, functions) as engine:
        run = await engine.run(inngest.Event(name="refa/types"), function="types")
    assert run.output[:9] == [
        "None",
        "[1, 'two', None, 3.5, True]",
        "{'nested': {'deep': [{'x': {}}]}}",
        repr("žluťoučký 🐴 \u2028"),
        "0",
        "False",
        "''",
        "{}",
        "[]",
    ]
    assert "Money(amount=3, currency='USD')" in run.output[-3].replace("Money( ", "Money(")
    assert "datetime.datetime(2024, 1, 2, 3, 4, 5)" in run.output[-1]


async def test_a_failed_step_without_a_message_is_still_an_error() -> None:
    """An exception with no text is memoized with an empty message, so that it is raised again."""
    client = inngest.Inngest(app_id="silent", is_production=False)

    @client.create_function(
        fn_id="fn", retries=0, trigger=inngest.TriggerEvent(event="silent/event")
    )
    async def function(ctx: inngest.Context) -> None:
        async def fail() -> None:
            raise ConnectionError

        await ctx.step.run("fail", fail)

    async with LocalEngine(client, [function]) as engine:
        run = await engine.run(inngest.Event(name="silent/event"))

    assert run.status == "Failed"
    assert run.steps["fail"].memo["error"]["message"] == ""
    assert run.error is not None
    assert run.error["name"] == "ConnectionError"


async def test_closing_right_after_a_cancellation_does_not_hang() -> None:
    """The engine closes at once, also when something wakes its driver in the same tick."""
    client = inngest.Inngest(app_id="closing", is_production=False)

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="closing/event"))
    async def function(ctx: inngest.Context) -> None:
        await ctx.step.sleep("nap", 60_000)

    for _ in range(20):
        with anyio.fail_after(100):
            async with LocalEngine(client, [function], clock=RealClock()) as engine:
                await engine.send(inngest.Event(name="closing/event"))
                await engine.idle()
                await engine.cancel(engine.runs[-1])
        assert engine.runs[-1].status == "Cancelled"
