"""A ciphertext opens only where it was written for. Requests are posted as an attacker would."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import fastapi
import httpx
import inngest
import inngest.fast_api
import pytest

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

if TYPE_CHECKING:
    from tests.encryption.conftest import App, MakeApp

pytestmark = pytest.mark.anyio

Post = Callable[..., Awaitable[httpx.Response]]


def hashed(step_id: str) -> str:
    return hashlib.sha1(step_id.encode()).hexdigest()


def body(
    *,
    steps: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    run_id: str = "01K0000000000000000000000A",
    name: str = "go",
) -> dict[str, Any]:
    event = {"data": data or {}, "id": "e", "name": name, "ts": 1}
    return {
        "ctx": {
            "attempt": 0,
            "max_attempts": 4,
            "disable_immediate_execution": False,
            "run_id": run_id,
            "stack": {"stack": [], "current": 0},
            "use_api": False,
        },
        "event": event,
        "events": [copy.deepcopy(event)],
        "steps": {hashed(step): memo for step, memo in (steps or {}).items()},
        "use_api": False,
    }


async def post(app: App, request: dict[str, Any], function: str = "shop-f") -> httpx.Response:
    server = fastapi.FastAPI()
    inngest.fast_api.serve(server, app.client, app.functions)
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        return await http.post(
            "/api/inngest", params={"fnId": function, "stepId": "step"}, json=request
        )


def two_steps(app: App, fn_id: str = "f") -> None:
    """A function of two steps that returns what it saw."""

    @app.function(fn_id, "go", retries=3)
    async def f(ctx: Any) -> Any:
        first = await ctx.step.run("a", lambda: "A")
        second = await ctx.step.run("b", lambda: "B")
        return [first, second, dict(ctx.event.data)]


async def written(
    app: App, run_id: str = "01K0000000000000000000000A", function: str = "shop-f"
) -> Any:
    """What steps a and b, and the function, put on the wire."""
    steps: dict[str, Any] = {}
    for step in ("a", "b"):
        answer = await post(app, body(steps=steps, run_id=run_id), function)
        steps[step] = {"data": answer.json()[0]["data"]}
    output = (await post(app, body(steps=steps, run_id=run_id), function)).json()
    return steps["a"], steps["b"], output


def assert_refused(answer: httpx.Response, *parts: str, retriable: bool = False) -> None:
    assert answer.status_code == 500
    error = answer.json()
    assert error["name"] == ("DecryptionError" if retriable else "RejectedError")
    assert ("x-inngest-no-retry" in answer.headers) is not retriable
    for part in parts:
        assert part in error["message"], error["message"]


async def test_results_in_their_own_place_are_opened(make_app: MakeApp) -> None:
    """The base line of the tests below."""
    app = make_app()
    two_steps(app)
    _first, _second, output = await written(app)
    assert app.plugin.decrypt(output) == ["A", "B", {}]


async def test_results_swapped_between_steps_are_refused(make_app: MakeApp) -> None:
    """The error says what was written for what, in which function and run, without a value."""
    app = make_app()
    two_steps(app)
    first, second, _ = await written(app)
    answer = await post(app, body(steps={"a": second, "b": first}))
    assert_refused(
        answer,
        f"step with hashed id {hashed('a')} of function 'shop-f', run 01K",
        f"'step/shop/f/{hashed('b')}'",
        f"'step/shop/f/{hashed('a')}'",
    )


async def test_results_of_another_function_app_or_purpose_are_refused(make_app: MakeApp) -> None:
    """Function, app and purpose are bound, in both directions."""
    ring = KeyRing.generate()
    app, foreign = make_app(ring), make_app(ring, app_id="other")
    two_steps(app)
    two_steps(app, "g")
    two_steps(foreign)
    first, second, output = await written(app)
    other_function, _, _ = await written(app, function="shop-g")
    other_app, _, _ = await written(foreign, function="other-f")
    as_event = {"data": app.plugin.encrypt("event")}
    for wrong in (other_function, other_app, as_event):
        assert_refused(await post(app, body(steps={"a": wrong, "b": second})), "was written as")
    for wrong in (first["data"], output):
        answer = await post(app, body(data={"encrypted": wrong}))
        assert_refused(answer, "here belongs 'event'", "$.encrypted")


async def test_results_of_another_run_are_refused_when_runs_are_bound(make_app: MakeApp) -> None:
    """bind="run" refuses what bind="step" allows, as rerunning from a step needs it."""
    ring = KeyRing.generate()
    loose, strict = make_app(ring), make_app(ring, bind="run")
    two_steps(loose)
    two_steps(strict)
    other_run = "01K0000000000000000000000B"
    first, second, _ = await written(loose, run_id=other_run)
    assert (await post(loose, body(steps={"a": first, "b": second}))).status_code == 200
    assert_refused(await post(strict, body(steps={"a": first, "b": second})))
    first, second, _ = await written(strict, run_id=other_run)
    assert_refused(await post(strict, body(steps={"a": first, "b": second})))
    assert_refused(await post(loose, body(steps={"a": first, "b": second})))
    first, second, _ = await written(strict)
    for app in (strict, loose):
        assert (await post(app, body(steps={"a": first, "b": second}))).status_code == 200


async def test_a_function_s_output_is_the_result_of_an_invoke_only(make_app: MakeApp) -> None:
    """What a function returned is handed to a step that invoked it, and to no other step."""
    app = make_app()
    two_steps(app)
    seen: list[Any] = []

    @app.function("parent", "go")
    async def parent(ctx: Any) -> Any:
        try:
            seen.append(await ctx.step.invoke_by_id("child", function_id="f", data={}))
        except inngest.StepError as err:
            seen.append(err.message)

    _first, second, output = await written(app)
    refused = await post(app, body(steps={"a": {"data": output}, "b": second}))
    assert_refused(refused, hashed("a"), "only a step that invoked it")
    assert (
        await post(app, body(steps={"child": {"data": output}}), "shop-parent")
    ).status_code == 200
    assert seen == [app.plugin.decrypt(output)]


async def test_steps_of_the_failure_handler_are_other_steps(make_app: MakeApp) -> None:
    """A step of the handler and a step of the function may share an id, not a result."""
    app = make_app()

    async def handler(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: "handler")

    @app.function("f", "go", on_failure=handler)
    async def f(ctx: Any) -> Any:
        return await ctx.step.run("a", lambda: "main")

    failed = body(name="inngest/function.failed")
    answer = await post(app, failed, "shop-f-failure")
    memo = {"data": answer.json()[0]["data"]}
    assert_refused(await post(app, body(steps={"a": memo})), "step/shop/f-failure/")


async def test_messages_and_stacks_of_errors_are_bound_to_their_place(make_app: MakeApp) -> None:
    """A memoized error's parts cannot trade places, nor move to another step."""
    app = make_app()

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        def fail() -> None:
            raise ValueError("why")

        try:
            await ctx.step.run(ctx.event.data.get("step", "a"), fail)
        except inngest.StepError as error:
            return [error.message, error.name, "Traceback" in (error.stack or "")]

    answer = await post(app, body())
    error = answer.json()[0]["error"]
    good = {key: error[key] for key in ("message", "name", "stack")}
    answer = await post(app, body(steps={"a": {"error": good}}))
    assert app.plugin.decrypt(answer.json()) == ["why", "ValueError", True]
    swapped = {**good, "message": good["stack"], "stack": good["message"]}
    assert_refused(await post(app, body(steps={"a": {"error": swapped}})), "$.message")
    moved = body(data={"step": "x"}, steps={"x": {"error": good}})
    assert_refused(await post(app, moved), "$.message")
    for damaged in (good["message"][:-1] + "]}", good["message"].replace('"head"', '"hat"')):
        answer = await post(app, body(steps={"a": {"error": {**good, "message": damaged}}}))
        assert_refused(answer)
    engines_own = {"message": "Timed out", "name": "InngestInvokeTimeoutError"}
    answer = await post(app, body(steps={"a": {"error": engines_own}}))
    assert app.plugin.decrypt(answer.json())[0] == "Timed out"


@pytest.mark.parametrize("fields", ["*", ("encrypted",)])
async def test_plaintext_is_refused_when_ciphertext_is_required(
    make_app: MakeApp, fields: Any
) -> None:
    """require_encrypted finds a downgrade by whoever holds the state."""
    ring = KeyRing.generate()
    open_app = make_app(ring, event_fields=fields)
    strict = make_app(ring, event_fields=fields, require_encrypted=True)
    two_steps(open_app)
    two_steps(strict)
    _first, second, _ = await written(strict)
    forged = body(steps={"a": {"data": "forged"}, "b": second})
    assert (await post(open_app, forged)).status_code == 200
    assert_refused(await post(strict, forged), hashed("a"), "is not encrypted")
    downgraded = body(data={"encrypted": "open"})
    assert (await post(open_app, downgraded)).status_code == 206
    assert_refused(await post(strict, downgraded), "is not encrypted")
    null = body(steps={"a": {"data": None}, "b": second})
    assert_refused(await post(strict, null), hashed("a"), "is not encrypted")
    event = {"name": "shop/paid", "data": {}, "id": "01", "ts": 1}
    event["data"] = strict.plugin.encrypt({}) if fields == "*" else {}
    assert_refused(await post(strict, body(steps={"a": event, "b": second})), "is not encrypted")
    engines_own = body(data={"cron": "* * * * *"}, name="inngest/scheduled.timer")
    assert (await post(strict, engines_own)).status_code == 206


async def test_what_the_engine_answers_with_stays_allowed(make_app: MakeApp) -> None:
    """With require_encrypted a sleep, a timed-out wait and an event still reach their steps."""
    app = make_app(require_encrypted=True)
    seen: list[Any] = []

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        await ctx.step.sleep("nap", 1000)
        seen.append(await ctx.step.wait_for_event("none", event="x", timeout=1000))
        seen.append((await ctx.step.wait_for_event("some", event="x", timeout=1000)).data)

    event = {"name": "x", "data": {"encrypted": app.plugin.encrypt(7)}, "id": "01", "ts": 1}
    answer = await post(app, body(steps={"nap": None, "none": None, "some": event}))
    assert answer.status_code == 200
    assert seen == [None, {"encrypted": 7}]


async def test_whole_data_survives_what_the_engine_adds(make_app: MakeApp) -> None:
    """`_inngest` beside an envelope reaches the handler; a smuggled field does not."""
    app = make_app(KeyRing(Key.generate(), Key.official("k")), event_fields="*")
    seen: list[Any] = []

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        seen.append(dict(ctx.event.data))

    sealed = app.plugin.encrypt({"card": 1, "_inngest": "stale"})
    ours = {"_inngest": {"correlation_id": "x"}, "_otel_context": {"traceparent": "t"}}
    assert (await post(app, body(data={**sealed, **ours}))).status_code == 200
    assert seen == [{"card": 1, **ours}]
    answer = await post(app, body(data={**sealed, "smuggled": 1}))
    assert_refused(answer, "plaintext fields beside")
    answer = await post(app, body(data=app.plugin.encrypt([1])))
    assert_refused(answer, "not an object")
    official = EncryptionPlugin("k", strategy="libsodium")
    answer = await post(app, body(data={**official.encrypt({"a": 1}), "kept": 2, **ours}))
    assert seen[-1] == {"a": 1, "kept": 2, **ours}


async def test_an_unknown_key_is_retried_and_tells_what_to_deploy(make_app: MakeApp) -> None:
    """The request fails without no-retry, before the handler runs, and nothing else leaks."""
    app = make_app(KeyRing(Key.generate("old")))
    two_steps(app)
    newer = EncryptionPlugin(KeyRing(Key.generate("new"))).encrypt("x")
    answer = await post(app, body(data={"encrypted": newer}))
    assert_refused(answer, "'new'", "tried: old", "$.encrypted", retriable=True)
    assert json.dumps(newer["data"]) not in answer.text
