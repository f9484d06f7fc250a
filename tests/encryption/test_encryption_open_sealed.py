"""What the embedded engine shows of an encrypted run: this process has the keys."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import typing
from pathlib import Path

import inngest
import pytest

from inngest_plugins.core import SealedPlace, Stack, open_sealed
from inngest_plugins.encryption import DecryptionError, EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine, Run

from .conftest import CANARY, App, MakeApp

pytestmark = pytest.mark.anyio


def giving(value: typing.Any) -> typing.Callable[[], typing.Awaitable[typing.Any]]:
    """A step's code that returns a value."""

    async def give() -> typing.Any:
        return value

    return give


async def charged() -> str:
    """Raises with a secret in the message."""
    raise ValueError(f"no money on {CANARY}")


def shop(make_app: MakeApp, keys: typing.Any = None, **options: typing.Any) -> App:
    """An app that has a value of every kind: events, steps, invokes, errors, outputs."""
    app = make_app(keys, **options)

    @app.function("child", "shop/child")
    async def child(ctx: inngest.Context) -> str:
        return f"child of {ctx.event.data['encrypted']}"

    @app.function("parent", "shop/parent", retries=0)
    async def parent(ctx: inngest.Context) -> dict[str, typing.Any]:
        first = await ctx.step.run("first", giving({"card": CANARY}))
        invoked = await ctx.step.invoke("child", function=child, data={"encrypted": CANARY})
        with contextlib.suppress(inngest.StepError):
            await ctx.step.run("caught", charged)
        sent = inngest.Event(name="shop/told", data={"encrypted": CANARY, "n": 1})
        await ctx.step.send_event("tell", sent)
        await ctx.step.sleep("nap", datetime.timedelta(hours=1))
        return {"first": first, "invoked": invoked}

    @app.function("typo", "shop/typo", retries=0)
    async def typo(ctx: inngest.Context) -> str:
        card = ctx.event.data["encrypted"]
        raise LookupError(f"{card} is unknown")

    @app.function("uncaught", "shop/uncaught", retries=0)
    async def uncaught(ctx: inngest.Context) -> None:
        await ctx.step.run("charge", charged)

    return app


def event(name: str) -> inngest.Event:
    """An event with a secret field."""
    return inngest.Event(name=f"shop/{name}", data={"encrypted": CANARY})


def sealed_text(run: Run) -> str:
    """Everything that the engine stores of a run."""
    bodies = b"".join(each.request_bytes + each.response_bytes for each in run.requests)
    stored = [run.output, run.error, run.reason, run.events, run.events_sent, run.steps]
    return repr(stored) + bodies.decode()


@pytest.mark.parametrize(
    "options",
    [{}, {"bind": "run"}, {"event_fields": "*"}, {"compress": "zlib"}, {"require_encrypted": True}],
)
async def test_a_run_is_shown_as_its_code_knows_it(
    make_app: MakeApp, options: dict[str, typing.Any]
) -> None:
    """Output, events, steps, step errors and invoke data are opened; the engine has ciphertext."""
    async with shop(make_app, **options).engine() as engine:
        run = await engine.run(event("parent"))
    assert run.result == {"first": {"card": CANARY}, "invoked": f"child of {CANARY}"}
    opened = run.opened
    assert opened.output == run.result
    assert opened.events[0]["data"]["encrypted"] == CANARY
    assert opened.events_sent[0]["data"] == {"encrypted": CANARY, "n": 1}
    steps = opened.steps
    assert steps["first"].value == {"card": CANARY}
    assert steps["child"].value == f"child of {CANARY}"
    assert steps["child"].opts["payload"]["data"]["encrypted"] == CANARY
    assert steps["caught"].error["message"] == f"no money on {CANARY}"
    assert "in charged" in steps["caught"].errors[0]["stack"]
    assert steps["nap"].value is None
    (answer,) = [each for each in opened.requests if each.status == 200]
    assert answer.response == run.result
    assert CANARY not in sealed_text(run)
    assert CANARY not in repr(run.timeline())


@pytest.mark.parametrize("name", ["typo", "uncaught"])
async def test_an_error_is_shown_with_its_traceback(make_app: MakeApp, name: str) -> None:
    """Name, message, reason and traceback are those that the function or the step raised."""
    async with shop(make_app).engine() as engine:
        run = await engine.run(event(name))
    error = run.opened.error
    assert error is not None
    kind, message = {
        "typo": ("LookupError", f"{CANARY} is unknown"),
        "uncaught": ("ValueError", f"no money on {CANARY}"),
    }[name]
    assert (error["name"], error["message"]) == (kind, message)
    assert error["stack"].startswith("Traceback")
    assert error["stack"].rstrip().endswith(f"{kind}: {message}")
    assert run.opened.reason.endswith(f"{kind}: {message}")
    assert str(run.timeline()[-1]).endswith(f"{kind}: {message}")
    assert CANARY not in sealed_text(run)


async def test_other_keys_leave_it_sealed(make_app: MakeApp, tmp_path: Path) -> None:
    """A journal under keys that this process lacks is shown as stored; the file has no canary."""
    journal = tmp_path / "runs.sqlite"
    async with shop(make_app).engine(journal=journal) as engine:
        await engine.run(event("parent"))
        await engine.run(event("typo"))
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        dump = "\n".join(connection.iterdump())
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert CANARY not in dump
    assert CANARY.encode() not in raw
    async with shop(make_app).engine(journal=journal) as engine:
        parent, *_, typo = engine.runs
        assert parent.result == parent.output
        assert parent.output["__ENCRYPTED__"] is True
        assert typo.opened.error == typo.error
        assert typo.opened.reason == typo.reason


class Odd(BaseException):
    """What the SDK does not catch, so that it escapes the app."""


@pytest.mark.parametrize("where", ["body", "step"])
async def test_what_escapes_the_app_is_named_by_its_class(
    make_app: MakeApp, where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing seals it: neither the journal nor the log, which others collect, has its text."""
    app = make_app()

    async def handler() -> None:
        raise Odd(f"no money on {CANARY}")

    @app.function("odd", "shop/odd", retries=0)
    async def odd(ctx: inngest.Context) -> None:
        await (handler() if where == "body" else ctx.step.run("charge", handler))

    caplog.set_level("INFO")
    async with app.engine(journal=tmp_path / "runs.sqlite") as engine:
        run = await engine.run(event("odd"))
    assert "The app raised Odd (" in run.reason
    assert "Odd" in caplog.text
    assert CANARY not in caplog.text
    assert CANARY not in sealed_text(run)
    assert not any(CANARY.encode() in path.read_bytes() for path in tmp_path.iterdir())


async def test_a_value_is_opened_at_its_place_only(make_app: MakeApp) -> None:
    """A result that stands where it was not written for stays sealed, as for the function."""
    app = shop(make_app)
    async with app.engine() as engine:
        run = await engine.run(event("parent"))
    stored = run.steps["first"].value
    hashed_id = run.steps["first"].hashed_id
    place = SealedPlace("step", "shop", "parent", run.id, hashed_id=hashed_id)
    assert open_sealed(Stack(app.plugin), stored, place) == {"card": CANARY}
    for moved in (
        SealedPlace("step", "shop", "parent", run.id, hashed_id="f" * 40),
        SealedPlace("step", "shop", "child", run.id, hashed_id=hashed_id),
        SealedPlace("output", "shop", "parent", run.id),
    ):
        assert open_sealed(Stack(app.plugin), stored, moved) is stored
        with pytest.raises(DecryptionError):
            app.plugin.open_sealed(stored, moved)
    damaged = '{"__ENCRYPTED__":true,"__STRATEGY__":"inngest-plugins/aes-256-gcm","head":"1'
    error = {"name": "E", "message": "clear", "stack": damaged + '"}'}
    place = SealedPlace("error", "shop", "parent", run.id)
    assert open_sealed(Stack(app.plugin), error, place) == error


async def test_failure_handlers_and_clear_errors(make_app: MakeApp) -> None:
    """The event of a failure handler is opened; errors that leave in the clear stay as they are."""
    app = make_app(encrypt_errors=False)

    async def handle(ctx: inngest.Context) -> typing.Any:
        return await ctx.step.run("noted", giving(CANARY))

    @app.function("work", "shop/work", retries=0, on_failure=handle)
    async def work(ctx: inngest.Context) -> None:
        raise LookupError("in the clear")

    async with app.engine() as engine:
        failed = await engine.run(event("work"))
        await engine.settle()
        handler = engine.runs[-1]
    assert failed.opened.error == failed.error
    assert handler.function_id == "shop-work-failure"
    assert handler.result == CANARY
    assert handler.opened.steps["noted"].value == CANARY
    started_by = handler.opened.events[0]["data"]["event"]
    assert started_by["data"]["encrypted"] == CANARY


class Vault:
    """A key provider, sync or async."""

    def __init__(self, *, is_async: bool) -> None:
        self.key = Key.generate("v1")
        self.is_async = is_async

    def _given(self) -> typing.Any:
        async def later() -> Key:
            return self.key

        return later() if self.is_async else self.key

    def encryption_key(self) -> typing.Any:
        """The one key."""
        return self._given()

    def decryption_key(self, key_id: str, wrapped: str | None) -> typing.Any:
        """The same."""
        return self._given()


@pytest.mark.parametrize("is_async", [False, True])
async def test_keys_of_a_provider(make_app: MakeApp, is_async: bool) -> None:
    """Keys that a provider has delivered open reports; a sync one is asked for the others."""
    vault = Vault(is_async=is_async)
    app = shop(make_app, vault)
    async with app.engine() as engine:
        run = await engine.run(event("typo"))
    assert run.opened.error is not None
    assert run.opened.error["message"] == f"{CANARY} is unknown"
    fresh = EncryptionPlugin(vault)
    place = SealedPlace("error", "shop", "typo", run.id)
    opened = open_sealed(Stack(fresh), run.error, place)
    assert (opened["message"] == f"{CANARY} is unknown") is not is_async


async def test_the_stack_of_the_function_opens(make_app: MakeApp) -> None:
    """A plugin in the function's own list opens that function's values, and no other's."""
    ring = KeyRing.generate()
    client = inngest.Inngest(app_id="shop", is_production=False)

    @client.create_function(
        fn_id="own",
        trigger=inngest.TriggerEvent(event="go"),
        middleware=[EncryptionPlugin(ring)],
    )
    async def own(ctx: inngest.Context) -> str:
        return CANARY

    @client.create_function(fn_id="plain", trigger=inngest.TriggerEvent(event="go"))
    async def plain(ctx: inngest.Context) -> str:
        return "in the clear"

    async with LocalEngine(client, [own, plain]) as engine:
        await engine.send(inngest.Event(name="go"))
        await engine.settle()
        results = {run.function_id: run.result for run in engine.runs}
        assert results == {"shop-own": CANARY, "shop-plain": "in the clear"}
        assert CANARY not in "".join(sealed_text(run) for run in engine.runs)
