"""Assertions about runs of apps that encrypt compare and show plaintext."""

from __future__ import annotations

import typing

import inngest
import pytest

from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.testing import assert_completed, assert_failed, assert_steps

if typing.TYPE_CHECKING:
    from inngest_plugins.testing import Harness

MakeEngine = typing.Callable[..., "Harness"]


def make_app() -> tuple[inngest.Inngest, list[inngest.Function[typing.Any]]]:
    """An app that encrypts under a new key: an async and a sync function."""
    plugin = EncryptionPlugin(KeyRing.generate())
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[plugin])

    @client.create_function(fn_id="count", trigger=inngest.TriggerEvent(event="count"), retries=0)
    async def count(ctx: inngest.Context) -> int:
        async def two() -> int:
            return 42

        return await ctx.step.run("two", two) + 1

    def charge(card: str) -> str:
        raise ValueError(f"no money on {card}")

    @client.create_function(fn_id="pay", trigger=inngest.TriggerEvent(event="pay"), retries=0)
    def pay(ctx: inngest.ContextSync) -> str:
        return ctx.step.run("charge", charge, typing.cast("str", ctx.event.data["encrypted"]))

    return client, [count, pay]


@pytest.mark.anyio
async def test_outputs_are_compared_opened(inngest_engine: MakeEngine) -> None:
    """assert_completed compares what the function returned, and returns it."""
    client, functions = make_app()
    async with inngest_engine(client, functions) as engine:
        run = await engine.run(inngest.Event(name="count"))
    assert assert_completed(run, 43) == run.result == 43
    assert run.output["__ENCRYPTED__"] is True
    assert_steps(run, "two")
    with pytest.raises(AssertionError, match="shop-count returned 43, not 44"):
        assert_completed(run, 44)


def test_errors_are_compared_and_shown_opened(inngest_engine: MakeEngine) -> None:
    """assert_failed finds the message; a failing assertion shows message and own traceback."""
    client, functions = make_app()
    with inngest_engine(client, functions) as engine:
        run = engine.run_sync(inngest.Event(name="pay", data={"encrypted": "4242"}))
    body = assert_failed(run, ValueError, match="no money on 4242")
    assert body["message"] == "no money on 4242"
    with pytest.raises(AssertionError) as caught:
        assert_completed(run)
    message = str(caught.value)
    assert "step 'charge' is" not in message
    assert "ValueError: no money on 4242" in message
    assert 'raise ValueError(f"no money on {card}")' in message
    assert "site-packages" not in message
    assert "ENCRYPTED" not in message
    with pytest.raises(AssertionError, match="with the message 'no money on 4242'"):
        assert_failed(run, match="another")


@pytest.mark.anyio
async def test_stubs_of_what_the_engine_does_are_encrypted(inngest_engine: MakeEngine) -> None:
    """A stubbed wait or invoke is sealed as the step's result that it is, and opened as one."""
    plugin = EncryptionPlugin(KeyRing.generate())
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=[plugin])

    @client.create_function(fn_id="asks", trigger=inngest.TriggerEvent(event="ask"), retries=0)
    async def asks(ctx: inngest.Context) -> object:
        event = await ctx.step.wait_for_event("approval", event="approved", timeout=60_000)
        bill = await ctx.step.invoke_by_id("bill", function_id="bill", data={"order": 7})
        assert event is not None
        return [event.name, event.data, bill]

    stubs = {"approval": {"by": "Ada Lovelace"}, "bill": lambda data: data}
    async with inngest_engine(client, asks, stubs=stubs) as engine:
        run = await engine.run(inngest.Event(name="ask"))
    assert_completed(run, ["approved", {"by": "Ada Lovelace"}, {"order": 7}])
    assert "Ada Lovelace" not in str(run.steps["approval"].value)
    assert {step.op for step in run.steps.values()} == {"StepRun"}
