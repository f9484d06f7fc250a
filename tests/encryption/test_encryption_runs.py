"""Whole runs on the embedded engine: ciphertext outside, plaintext inside."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine

if TYPE_CHECKING:
    from tests.encryption.conftest import App, MakeApp

pytestmark = pytest.mark.anyio


def declare_everything(app: App, canary: str, seen: dict[str, Any]) -> None:
    """Functions that put the canary everywhere a payload can be."""

    @app.function("child", "never/sent")
    async def child(ctx: Any) -> Any:
        seen.setdefault("invoked", []).append(ctx.event.data["secret"])
        assert "_inngest" in ctx.event.data
        return {"returned": ctx.event.data["secret"]}

    @app.function("broken", "never/sent", retries=0)
    async def broken(ctx: Any) -> Any:
        raise KeyError(canary)

    async def on_failure(ctx: Any) -> Any:
        data: Any = ctx.event.data
        seen["failure message"] = data["error"]["message"]
        seen["failure stack"] = data["error"]["stack"]
        seen["failed event"] = data["event"]["data"]["secret"]
        return await ctx.step.run("tidy", lambda: canary)

    @app.function("parent", "shop/order", retries=1, on_failure=on_failure)
    async def parent(ctx: Any) -> Any:
        seen["event"] = ctx.event.data["secret"]
        seen["events"] = ctx.events[0].data["secret"]
        seen["step"] = await ctx.step.run("step", lambda: {"x": canary})
        seen["none"] = await ctx.step.run("none", lambda: None)
        seen["invoke"] = await ctx.step.invoke(
            "invoke", function=child, data={"secret": canary, "open": 1}
        )
        seen["parallel"] = await ctx.group.parallel(
            tuple(
                lambda n=n: ctx.step.invoke(f"i{n}", function=child, data={"secret": canary})
                for n in range(3)
            )
        )

        def fail() -> None:
            try:
                raise KeyError(canary)
            except KeyError as cause:
                raise ValueError(f"cannot charge {canary}") from cause

        try:
            await ctx.step.run("fail", fail)
        except inngest.StepError as error:
            seen["step error"] = (error.name, error.message, error.stack)
        try:
            await ctx.step.invoke("broken", function=broken)
        except inngest.StepError as error:
            seen["invoke error"] = (error.name, error.message)
        await ctx.step.send_event(
            "send", inngest.Event(name="shop/paid", data={"id": 7, "secret": canary})
        )
        paid = await ctx.step.wait_for_event("wait", event="shop/paid", timeout=3_600_000)
        seen["waited"] = None if paid is None else paid.data
        await ctx.step.sleep("sleep", 1000)
        raise RuntimeError(f"final {canary}")

    @app.function("payer", "shop/order")
    async def payer(ctx: Any) -> Any:
        await ctx.step.sleep("later", 600_000)
        await ctx.step.send_event(
            "paid", [inngest.Event(name="shop/paid", data={"id": 8, "secret": canary})]
        )

    @app.function("watcher", "inngest/function.finished")
    async def watcher(ctx: Any) -> Any:
        data: Any = ctx.event.data
        if data["function_id"] == "shop-child":
            seen["finished result"] = data["result"]
            seen["finished event"] = data["event"]["data"]["secret"]


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, None),
        ({"bind": "run", "compress": "zlib", "require_encrypted": True}, None),
        ({"event_fields": "*"}, None),
        ({"event_fields": "*", "require_encrypted": True}, None),
        ({"strategy": "libsodium"}, "passphrase"),
    ],
    ids=["default", "strict", "whole data", "whole data required", "libsodium"],
)
async def test_the_canary_never_leaves_and_handlers_see_it_everywhere(
    make_app: MakeApp,
    canary: str,
    wire: Any,
    leaks: Any,
    options: dict[str, Any],
    keys: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No request, response, journal or log holds the canary in any spelling."""
    caplog.set_level(logging.DEBUG)
    app = make_app(keys, **{"event_fields": ("secret", "also"), **options})
    seen: dict[str, Any] = {}
    declare_everything(app, canary, seen)
    journal = tmp_path / "journal.db"
    trigger = inngest.Event(name="shop/order", data={"id": 1, "secret": canary, "also": [canary]})
    async with app.engine(journal=journal) as engine:
        run = await engine.run(trigger, function="parent")
        await engine.settle()
        text = wire(engine)
    assert run.status == "Failed"

    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert leaks(text) == []
    assert leaks(stored.decode("latin-1")) == []
    assert canary.encode() not in stored
    assert leaks(caplog.text) == []

    assert trigger.data == {"id": 1, "secret": canary, "also": [canary]}
    assert seen["event"] == seen["events"] == seen["failed event"] == canary
    assert seen["step"] == {"x": canary}
    assert seen["none"] is None
    assert seen["invoked"] == [canary] * len(seen["invoked"])
    assert seen["invoke"] == {"returned": canary}
    assert list(seen["parallel"]) == [{"returned": canary}] * 3
    name, message, stack = seen["step error"]
    assert (name, message) == ("ValueError", f"cannot charge {canary}")
    assert "Traceback" in stack
    assert "KeyError" in stack
    assert seen["invoke error"] == ("KeyError", repr(canary))
    assert seen["waited"]["secret"] == canary
    assert seen["failure message"] == f"final {canary}"
    assert canary in seen["failure stack"]
    assert seen["finished result"] == {"returned": canary}
    assert seen["finished event"] == canary


def encrypted_texts(value: Any) -> int:
    return json.dumps(value, default=str).count("__ENCRYPTED__")


@pytest.mark.parametrize("is_sync", [False, True])
async def test_error_classes_and_retries_stay_as_they_are(make_app: MakeApp, is_sync: bool) -> None:
    """NonRetriableError, RetryAfterError and ordinary errors keep name, code and headers."""
    app = make_app()
    errors: dict[str, Exception] = {
        "plain": ZeroDivisionError("secret"),
        "final": inngest.NonRetriableError("secret"),
        "later": inngest.RetryAfterError("secret", 60_000),
    }

    def body(ctx: Any) -> Any:
        raise errors[ctx.event.data["kind"]]

    async def async_body(ctx: Any) -> Any:
        body(ctx)

    def sync_body(ctx: Any) -> Any:
        body(ctx)

    app.function("f", "go", retries=1)(sync_body if is_sync else async_body)
    expected = {
        "plain": ("ZeroDivisionError", "unknown", 2, False),
        "final": ("NonRetriableError", "non_retriable_error", 1, False),
        "later": ("RetryAfterError", "retry_after_error", 2, True),
    }
    async with app.engine() as engine:
        for kind, (name, code, attempts, has_delay) in expected.items():
            run = await engine.run(inngest.Event(name="go", data={"kind": kind}))
            assert run.status == "Failed"
            assert len(run.requests) == attempts
            body_json: Any = run.requests[0].response
            assert (body_json["name"], body_json["code"]) == (name, code)
            assert "secret" not in json.dumps(body_json)
            assert encrypted_texts(body_json) == 2
            headers = run.requests[0].response_headers
            assert ("retry-after" in headers) is has_delay
            assert ("x-inngest-no-retry" in headers) is (kind == "final")
            assert app.plugin.decrypt_text(body_json["message"]) == "secret"
            assert "Traceback" in app.plugin.decrypt_text(body_json["stack"])


async def test_errors_stay_readable_when_asked_for(make_app: MakeApp) -> None:
    """encrypt_errors=False leaves errors as the SDK sends them."""
    app = make_app(encrypt_errors=False)

    @app.function("f", "go", retries=0)
    async def f(ctx: Any) -> Any:
        raise ValueError("readable")

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert run.error is not None
    assert run.error["message"] == "readable"


async def test_a_value_that_looks_encrypted_is_encrypted_like_any(make_app: MakeApp) -> None:
    """Spoofed, official and own envelopes come back from a step and an event as they went in."""
    app = make_app()
    lookalikes: list[Any] = [
        {"__ENCRYPTED__": True, "social-security-number": 1},
        EncryptionPlugin("k", strategy="libsodium").encrypt(1),
        app.plugin.encrypt({"twice": True}),
        {"__ENCRYPTED__": True, "data": "U2FsdGVkX18="},
        {"name": "looks/like.event", "data": {"encrypted": app.plugin.encrypt(1)}},
    ]
    seen: list[Any] = []

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        event = ctx.event.data["encrypted"]
        result = await ctx.step.run("s", lambda: lookalikes)
        await ctx.step.run("t", lambda: None)
        seen.append((event, result))
        return lookalikes[0]

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go", data={"encrypted": lookalikes}))
        assert run.status == "Completed", run.reason
        assert "social-security-number" not in json.dumps(run.output)
        one_each = [
            await engine.run(inngest.Event(name="go", data={"encrypted": each}))
            for each in lookalikes
        ]
    assert [run.status for run in one_each] == ["Completed"] * len(lookalikes)
    for event in (lookalikes, *lookalikes):
        assert (event, lookalikes) in seen


async def test_batches_and_several_fields_are_decrypted(make_app: MakeApp) -> None:
    """Every event of a batch, and every encrypted field of each, whatever its name."""
    writer = EncryptionPlugin("shared", strategy="libsodium", event_fields=("a", "b"))
    keys = KeyRing.generate().with_fallback(Key.official("shared"))
    app = make_app(keys, decrypt_only=True)
    seen: list[Any] = []

    @app.function("f", "go", batch_events=inngest.Batch(max_size=2, timeout=1000))
    async def f(ctx: Any) -> Any:
        seen.append([event.data for event in ctx.events])
        return 0

    async with app.engine() as engine:
        events = [
            inngest.Event(
                name="go", data={"n": n, "a": writer.encrypt(n), "other": app_own(keys, n)}
            )
            for n in (1, 2)
        ]
        await engine.send(events)
        await engine.settle()
    assert sorted(seen[0], key=lambda data: data["n"]) == [
        {"n": 1, "a": 1, "other": 1},
        {"n": 2, "a": 2, "other": 2},
    ]


def app_own(keys: KeyRing, value: Any) -> Any:
    return EncryptionPlugin(keys).encrypt(value)


async def test_the_caller_s_objects_stay_untouched(make_app: MakeApp) -> None:
    """Events, invoke data and step results are never mutated."""
    app = make_app()
    result = {"deep": [1, {"x": 2}]}
    data: dict[str, Any] = {"encrypted": {"deep": [1]}, "open": 2}
    event = inngest.Event(name="elsewhere", data=data)

    @app.function("child", "never")
    async def child(ctx: Any) -> Any:
        return None

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        await ctx.step.run("s", lambda: result)
        await ctx.step.send_event("e", event)
        await ctx.step.invoke("i", function=child, data=data)
        return result

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
        assert run.status == "Completed", run.reason
    assert result == {"deep": [1, {"x": 2}]}
    assert data == {"encrypted": {"deep": [1]}, "open": 2}
    assert event.data == data


async def test_a_result_that_is_not_json_fails_with_function_step_and_path(
    make_app: MakeApp,
) -> None:
    """The error is readable in the dashboard, names the place, and is not retried."""
    app = make_app()

    @app.function("f", "go", retries=3)
    async def f(ctx: Any) -> Any:
        return await ctx.step.run("price", lambda: {"net": float("nan"), "note": "secret-note"})

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
    text = json.dumps(run.requests[0].response, default=str)
    assert "step 'price' of function 'shop-f': at $.net there is a float that is NaN" in text
    assert "secret-note" not in text
    assert run.status == "Failed"
    assert len([each for each in run.requests if "StepError" in json.dumps(each.response)]) <= 1


async def test_decrypt_only_sends_everything_as_it_is(make_app: MakeApp) -> None:
    """The first stage of a rollout reads and changes nothing on the way out."""
    ring = KeyRing.generate()
    app = make_app(ring, decrypt_only=True)

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        return [await ctx.step.run("s", lambda: 1), ctx.event.data["encrypted"]]

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go", data={"encrypted": "open"}))
        assert run.output == [1, "open"]
        sealed = EncryptionPlugin(ring).encrypt("sealed")
        run = await engine.run(inngest.Event(name="go", data={"encrypted": sealed}))
    assert run.output == [1, "sealed"]


async def test_a_twenty_step_run_decrypts_each_memo_once_and_the_event_once(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """231 decryptions instead of the official middleware's 252: 210 memos, 21 events."""
    from inngest_plugins.encryption.formats import envelope

    counted: list[Any] = []
    original = envelope.unseal

    def counting(envelope: Any, keys: Any, contexts: Any) -> Any:
        counted.append(contexts)
        return original(envelope, keys, contexts)

    monkeypatch.setattr(envelope, "unseal", counting)
    app = make_app()

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        for n in range(20):
            await ctx.step.run(f"s{n}", lambda n=n: n)
        return ctx.event.data["encrypted"]

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go", data={"encrypted": 1}))
    assert run.status == "Completed", run.reason
    assert len(run.requests) == 21
    events = [contexts for contexts in counted if contexts[0] == "event"]
    assert (len(events), len(counted) - len(events)) == (21, 210)


async def test_event_and_events_do_not_share_objects(make_app: MakeApp) -> None:
    """The second parse keeps the SDK's promise that both can be edited apart."""
    app = make_app()

    @app.function("f", "go")
    async def f(ctx: Any) -> Any:
        first: Any = ctx.event.data["encrypted"]
        second: Any = ctx.events[0].data["encrypted"]
        return [first == second, first is second]

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go", data={"encrypted": {"a": 1}}))
    assert app.plugin.decrypt(run.output) == [True, False]


def test_sends_outside_of_runs_are_encrypted_sync_too(make_app: MakeApp) -> None:
    """client.send_sync works without an event loop, and the caller's event stays as it is."""
    app = make_app()

    @app.function("f", "go")
    def f(ctx: Any) -> Any:
        return ctx.event.data["encrypted"]

    engine: LocalEngine = app.engine()
    run = engine.run_sync(inngest.Event(name="go", data={"encrypted": "x"}))
    assert app.plugin.decrypt(run.output) == "x"
    assert encrypted_texts(run.requests[0].request) == 2
