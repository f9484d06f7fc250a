"""The demo app: its three stories, its plugins, and that it runs from anywhere."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing

import inngest
import pytest

from inngest_plugins.cli import App, load_app
from inngest_plugins.core import Stack
from inngest_plugins.testing import (
    Harness,
    assert_completed,
    assert_failed,
    assert_steps,
)

SHOP = pathlib.Path(__file__).parents[2] / "examples" / "shop"
MakeEngine = type[Harness]


@pytest.fixture(scope="module")
def shop() -> typing.Iterator[App]:
    """The app, loaded as the command line loads it."""
    before = set(sys.modules)
    path, sys.path = sys.path, [*sys.path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNGEST_DEV", "1")
        patch.delenv("SENTRY_DSN", raising=False)
        patch.delenv("SHOP_KEYS", raising=False)
        yield load_app(str(SHOP / "app.py"))
    sys.path = path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "shop":
            del sys.modules[name]


def order(name: str, number: str) -> inngest.Event:
    """One of the shop's orders, under a number of its own: the provider knows the others."""
    event = inngest.Event.model_validate_json((SHOP / name).read_text("utf-8"))
    event.data = {**event.data, "order_id": number}
    return event


def plain(harness: Harness, name: str) -> dict[str, typing.Any]:
    """The data of the one event of a name that the functions sent."""
    (event,) = harness.sent(name)
    return dict(event.data)


@pytest.mark.anyio
async def test_an_order_is_fulfilled(inngest_engine: MakeEngine, shop: App) -> None:
    """The charge fails once, the parcel is scanned hours later, and the invoice is written."""
    async with inngest_engine(shop.client, shop.functions) as engine:
        run = await engine.run(order("order.json", "A-1"))
        await engine.settle()
    assert_completed(run)
    assert_steps(
        run,
        *("validate", "charge", "reserve", "label", "notify", "hand-over"),
        *("carrier-scan", "invoice"),
    )
    assert run.steps["charge"].attempts == 2
    assert run.steps["carrier-scan"].status == "Completed"
    assert {each.function_id: each.status for each in engine.runs} == {
        "shop-fulfil": "Completed",
        "shop-send-email": "Completed",
        "shop-carrier": "Completed",
        "shop-invoice": "Completed",
    }
    assert plain(engine, "shop/email.requested")["template"] == "order-confirmed"
    assert run.metadata["run"]["userland.default"] == {"progress": "done"}


@pytest.mark.anyio
async def test_the_engine_never_sees_the_customer(inngest_engine: MakeEngine, shop: App) -> None:
    """Name, address, e-mail and card of the customer are ciphertext wherever the engine looks."""
    async with inngest_engine(shop.client, shop.functions) as engine:
        await engine.run(order("order.json", "A-1042"))
        await engine.settle()
    held = b"".join(
        request.request_bytes + request.response_bytes
        for run in engine.runs
        for request in run.requests
    )
    for secret in (b"Sommer", b"Lindenallee", b"mia@", b"tok_visa"):
        assert secret not in held
    assert b"A-1042" in held


@pytest.mark.anyio
async def test_a_declined_card_ends_the_order(inngest_engine: MakeEngine, shop: App) -> None:
    """A refused card is not tried again; the failure handler tells the customer."""
    async with inngest_engine(shop.client, shop.functions) as engine:
        run = await engine.run(order("order-declined.json", "A-1043"))
        await engine.settle()
    assert_failed(run, inngest.NonRetriableError)
    assert len(engine.calls("charge")) == 1
    assert_completed(engine.run_of("fulfil-failure"))
    assert engine.calls("refund")[0].args == ("A-1043",)
    assert plain(engine, "shop/email.requested")["template"] == "order-failed"


@pytest.mark.anyio
async def test_a_lost_parcel_is_refunded(inngest_engine: MakeEngine, shop: App) -> None:
    """When the carrier does not scan the parcel for three days, the money goes back."""
    async with inngest_engine(shop.client, shop.functions) as engine:
        run = await engine.run(order("order-lost.json", "A-3"))
        await engine.settle()
    assert_failed(run, "LostParcelError")
    assert run.steps["carrier-scan"].status == "TimedOut"
    assert_completed(engine.run_of("fulfil-failure"))
    assert [mail.data["template"] for mail in engine.sent("shop/email.requested")] == [
        "order-confirmed",
        "order-failed",
    ]


@pytest.mark.anyio
async def test_unknown_articles_and_broken_orders(inngest_engine: MakeEngine, shop: App) -> None:
    """What the shop does not sell fails at validation; an order that is none never leaves."""
    unknown = order("order.json", "A-4")
    unknown.data = {**unknown.data, "items": [{"sku": "coffee", "quantity": 1}]}
    broken = inngest.Event(name="shop/order.placed", data={"order_id": "A-1"})
    async with inngest_engine(shop.client, shop.functions) as engine:
        run = await engine.run(unknown)
        with pytest.raises(Exception, match=r"shop/order\.placed"):
            await engine.run(broken)
    assert_failed(run, inngest.NonRetriableError)
    assert_steps(run)


def test_every_plugin_is_in_its_place(shop: App) -> None:
    """The five plugins and the shop's own two, in the order of their layers."""
    for function in shop.functions:
        names = [entry.name for entry in Stack.of(shop.client, function).plugins]
        assert names == [
            *("sentry", "otel", "encryption", "validation"),
            *("audit", "order-context", "metadata"),
        ]
    assert not shop.served
    assert len(shop.functions) == 4
    assert {function.is_handler_async for function in shop.functions} == {True, False}


@pytest.mark.anyio
async def test_the_shops_own_plugins(
    inngest_engine: MakeEngine, shop: App, caplog: pytest.LogCaptureFixture
) -> None:
    """The audit log tells every outcome once; steps know their order; nothing is left behind."""
    own = sys.modules["shop.plugins"]
    seen: list[str | None] = []

    def look(number: str, cents: int) -> str:
        seen.append(own.current_order.get())
        return f"{number} over {cents}"

    with caplog.at_level("INFO", "shop"):
        async with inngest_engine(
            shop.client,
            shop.functions,
            stubs={"validate": {"cents": 1}, "label": "LOST-1"},
        ) as engine:
            run = await engine.run(order("order.json", "A-5"))
        async with inngest_engine(
            shop.client, shop.functions, stubs={"write": look, "number": "I-2"}
        ) as engine:
            data: typing.Any = {"order_id": "A-7", "cents": 5}
            await engine.run(inngest.Event(name="shop/invoice.requested", data=data))
    lines = [record.getMessage() for record in caplog.records if record.name == "shop.audit"]
    mine = [line.partition(": ")[2] for line in lines if run.id in line]
    assert mine[:3] == [
        "step validate done",
        "step charge PaymentUnavailableError, retried",
        "step charge done",
    ]
    assert mine[-1] == "function LostParcelError, final"
    assert seen == ["A-7"]
    assert own.current_order.get() is None


def test_the_demo_runs_from_anywhere(tmp_path: pathlib.Path) -> None:
    """The demo script runs from another folder and writes its picture and page there."""
    environment = {k: v for k, v in os.environ.items() if k not in ("SENTRY_DSN", "SHOP_KEYS")}
    ended = subprocess.run(
        [sys.executable, str(SHOP / "demo.py"), "--svg", "run.svg", "--html", "run.html", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["ok"] is True
    assert "Traceback" not in ended.stderr
    assert "shop-fulfil" in (tmp_path / "run.svg").read_text("utf-8")
    assert "shop-fulfil" in (tmp_path / "run.html").read_text("utf-8")


def test_the_picture_in_the_docs_is_of_this_demo() -> None:
    """docs/run.svg shows the functions that the demo runs now."""
    picture = (SHOP.parents[1] / "docs" / "run.svg").read_text("utf-8").replace("&#160;", " ")
    for expected in ("shop-fulfil", "carrier-scan", "order_id", "hooks: sentry"):
        assert expected in picture
