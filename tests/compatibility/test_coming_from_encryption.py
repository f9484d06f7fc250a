"""From `inngest_encryption` to `EncryptionPlugin`, with runs in flight, in both directions."""

from __future__ import annotations

import datetime
import json
from typing import Any

import inngest
import pytest
from inngest_encryption import EncryptionMiddleware
from tests.compatibility.compatibility_switch import TURNS, run_on_both
from tests.composition.composition_secrets import all_leaks, secret

from inngest_plugins.core.entry import calls
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.metadata import MetadataPlugin, metadata

pytestmark = pytest.mark.anyio
SECRET = "what the official middleware was configured with"
EXPECTED = {
    "card": secret("card"),
    "first": {"kept": secret("first")},
    "sides": [secret("left"), [secret("right"), 1, None]],
    "child": {"child": secret("invoke")},
    "caught": "CardError: refused",
    "last": secret("last"),
}


class CardError(Exception):
    """A step's failure."""


def build(client: inngest.Inngest) -> list[inngest.Function[Any]]:
    """A function that uses what the official middleware encrypts."""

    @client.create_function(fn_id="child", trigger=inngest.TriggerEvent(event="shop/child"))
    async def child(ctx: inngest.Context) -> Any:
        return {"child": ctx.event.data["encrypted"]}

    def value(of: Any) -> Any:
        async def handler() -> Any:
            return of

        return handler

    async def refuse() -> None:
        raise CardError("refused")

    @client.create_function(
        fn_id="fulfil", trigger=inngest.TriggerEvent(event="shop/order"), retries=0
    )
    async def fulfil(ctx: inngest.Context) -> Any:
        step = ctx.step
        first = await step.run("first", value({"kept": secret("first")}))
        await step.sleep("nap", datetime.timedelta(minutes=1))
        sides = await ctx.group.parallel(
            (
                lambda: step.run("left", value(secret("left"))),
                lambda: step.run("right", value([secret("right"), 1, None])),
            )
        )
        invoked = await step.invoke("child", function=child, data={"encrypted": secret("invoke")})
        try:
            await step.run("refuse", refuse)
            caught = "nothing"
        except inngest.StepError as error:
            caught = f"{error.name}: {error.message}"
        last = await step.run("last", value(secret("last")))
        return {
            "card": ctx.event.data["encrypted"],
            "first": first,
            "sides": list(sides),
            "child": invoked,
            "caught": caught,
            "last": last,
        }

    return [fulfil, child]


def an_order() -> inngest.Event:
    """The event that starts the run."""
    return inngest.Event(name="shop/order", data={"encrypted": secret("card"), "order": 1})


def migrating() -> EncryptionPlugin:
    """The plugin as it is while old workers are about."""
    return EncryptionPlugin(SECRET, strategy="libsodium", encrypt_errors=False)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("sender_is_new", [True, False], ids=["sent by new", "sent by old"])
async def test_runs_move_between_official_and_plugin(turns: str, *, sender_is_new: bool) -> None:
    """A run that old and new workers answer in any turn comes to the same, encrypted throughout."""
    run, runs = await run_on_both(
        build,
        [EncryptionMiddleware.factory(SECRET)],
        [migrating()],
        TURNS[turns],
        an_order(),
        sender_is_new=sender_is_new,
    )
    assert run.status == "Completed", run.reason
    assert migrating().decrypt(run.output) == EXPECTED
    for each in runs:
        for request in each.requests:
            assert all_leaks([("wire", request.request_bytes + request.response_bytes)]) == []


@pytest.mark.parametrize("turns", TURNS)
async def test_runs_move_from_the_official_format_to_the_plugins_own(turns: str) -> None:
    """When no official worker is left, the own format comes in without a pause."""
    key = Key.generate("2026-11")
    own = EncryptionPlugin(KeyRing(key, Key.official(SECRET)))
    still = EncryptionPlugin(KeyRing(Key.official(SECRET), key), strategy="libsodium")
    run, runs = await run_on_both(build, [still], [own], TURNS[turns], an_order())
    assert run.status == "Completed", run.reason
    assert own.decrypt(run.output) == EXPECTED
    for each in runs:
        for request in each.requests:
            assert all_leaks([("wire", request.request_bytes + request.response_bytes)]) == []


async def test_an_official_run_finishes_on_the_own_format_at_once() -> None:
    """Without a step in between: in-flight runs of the official middleware finish on own keys."""
    own = EncryptionPlugin(KeyRing(Key.generate("2026-11"), Key.official(SECRET)))
    run, _ = await run_on_both(
        build,
        [EncryptionMiddleware.factory(SECRET)],
        [own],
        TURNS["old then new"],
        an_order(),
    )
    assert run.status == "Completed", run.reason
    assert own.decrypt(run.output) == EXPECTED
    assert '"2026-11"' not in json.dumps(run.steps["first"].memo)


async def test_an_official_worker_cannot_go_on_with_the_own_format() -> None:
    """Why the official format is written first: an official worker hands on what it cannot read."""
    own = EncryptionPlugin(KeyRing(Key.generate("2026-11"), Key.official(SECRET)))
    run, _ = await run_on_both(
        build,
        [EncryptionMiddleware.factory(SECRET)],
        [own],
        TURNS["new then old"],
        an_order(),
    )
    assert run.status != "Completed" or own.decrypt(run.output) != EXPECTED


async def test_metadata_comes_after_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step records beside its result is unknown to old workers: one of them would see it."""
    # An old worker has none of our packages; this process may have imported one of those that give
    # every request a call.
    monkeypatch.setattr(calls, "_every_request", set[str]())

    def recording(client: inngest.Inngest) -> list[inngest.Function[Any]]:
        async def record() -> str:
            metadata.set("progress", 1)
            return "value"

        @client.create_function(fn_id="fulfil", trigger=inngest.TriggerEvent(event="shop/order"))
        async def fulfil(ctx: inngest.Context) -> Any:
            first = await ctx.step.run("first", record)
            await ctx.step.sleep("nap", 60_000)
            return first

        return [fulfil]

    run, _ = await run_on_both(
        recording,
        [EncryptionMiddleware.factory(SECRET)],
        [migrating(), MetadataPlugin()],
        lambda number: number < 2,
        an_order(),
    )
    assert migrating().decrypt(run.output) != "value"
