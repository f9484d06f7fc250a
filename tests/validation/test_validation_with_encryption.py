"""Validation and encryption together, in every list order (inngest-js issue 1151 cannot happen)."""

import datetime
import itertools
from typing import Any

import inngest
import pytest
from pydantic import BaseModel, ConfigDict

from inngest_plugins.core import Hooks
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine
from inngest_plugins.validation import EventType, ValidationFailed, ValidationPlugin

pytestmark = pytest.mark.anyio

SECRET = "canary-4111-1111"
KEYS = KeyRing.generate()


class Card(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: str
    limits: dict[str, int] = {}


class Payment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    encrypted: Card


payment = EventType("pay/made", Payment)
GOOD: dict[str, Any] = {"id": "p", "encrypted": {"number": SECRET}}
BAD: dict[str, Any] = {"id": "p", "encrypted": {"number": SECRET, "limits": {SECRET: SECRET}}}
ORDERS = list(itertools.permutations(range(3)))


def client_in(order: tuple[int, ...], *, outgoing: bool = True) -> inngest.Inngest:
    plugins: list[Any] = [
        EncryptionPlugin(KEYS, encrypt_errors=False),
        ValidationPlugin(
            [payment], outgoing=outgoing, outputs={"f": Card}, steps={("f", "card"): Card}
        ),
        Hooks("audit"),
    ]
    return inngest.Inngest(
        app_id="pay", is_production=False, middleware=[plugins[index] for index in order]
    )


@pytest.mark.parametrize("order", ORDERS)
async def test_validation_sees_plaintext_everywhere(order: tuple[int, ...]) -> None:
    """Sent, received, awaited, invoked and failed events, steps and outputs: all pass as plain."""
    client = client_in(order)
    handled: list[str] = []

    async def failed(ctx: inngest.Context) -> None:
        inner: Any = ctx.event.data["event"]
        handled.append(payment.parse(inner).encrypted.number)

    @client.create_function(fn_id="child", trigger=payment.trigger(), retries=0, on_failure=failed)
    async def child(ctx: inngest.Context) -> None:
        assert payment.parse(ctx.event).encrypted.number == SECRET
        raise inngest.NonRetriableError("child fails")

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="pay/start"))
    async def f(ctx: inngest.Context) -> Any:
        async def card() -> Any:
            return {"number": SECRET}

        await ctx.step.run("card", card)
        await ctx.step.send_event("send", payment.new(GOOD))
        try:
            await ctx.step.invoke("call", function=child, data=GOOD)
        except inngest.StepError:
            handled.append("child failed")
        waited = await ctx.step.wait_for_event(
            "wait", event="pay/made", timeout=datetime.timedelta(hours=1)
        )
        assert waited is not None
        return {"number": payment.parse(waited).encrypted.number}

    async with LocalEngine(client, [f, child]) as engine:
        await engine.send(inngest.Event(name="pay/start", data={}))
        await engine.idle()
        await client.send(payment.new(GOOD))
        await engine.settle()
        run = next(each for each in engine.runs if each.function_id == "pay-f")
        exchanged = str([(e.request, e.response) for each in engine.runs for e in each.requests])
    assert run.status == "Completed", run.error
    assert "child failed" in handled
    assert handled.count(SECRET) >= 2
    assert SECRET not in exchanged


@pytest.mark.parametrize("order", ORDERS)
async def test_bad_plaintext_is_found(order: tuple[int, ...]) -> None:
    """What is bad inside the encrypted part is refused both ways, and its keys are masked."""
    client = client_in(order)
    with pytest.raises(ValidationFailed) as caught:
        await client.send(inngest.Event(name="pay/made", data=BAD))
    assert caught.value.errors[0].pointer == "/encrypted/limits/*"

    client = client_in(order, outgoing=False)

    @client.create_function(fn_id="f", trigger=payment.trigger())
    async def f(ctx: inngest.Context) -> None:
        return None

    async with LocalEngine(client, [f]) as engine:
        run = await engine.run(inngest.Event(name="pay/made", data=BAD))
        exchanged = str([(each.request, each.response) for each in run.requests])
    assert run.error is not None
    assert run.error["name"] == "ValidationFailed"
    assert "/encrypted/limits/*: int_parsing" in str(run.error["message"])
    assert SECRET not in exchanged
