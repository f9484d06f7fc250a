"""The production example: the shop on an engine, its workers, and what the files name."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import inngest
import pytest

from inngest_plugins.encryption import Key
from inngest_plugins.local import LocalEngine
from inngest_plugins.testing import assert_completed, assert_failed

if sys.version_info < (3, 11):
    pytest.skip("Pydantic AI needs Python 3.11", allow_module_level=True)

PACKAGE = "examples.production"
SECRET = "Ada Canary Lovelace"
Shop = Any
Load = Callable[[str], Shop]


def forget() -> None:
    """Have the example imported anew."""
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Load]:
    """Import the app as a worker does, with these encryption keys; payments stay in process."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    monkeypatch.setenv("INNGEST_MIRROR_URL", f"sqlite:///{tmp_path / 'mirror.db'}")
    monkeypatch.setenv("PAYMENTS_URL", "http://payments")
    monkeypatch.setenv("SHOP_OPERATOR_TOKEN", "operator")
    monkeypatch.delenv("SENTRY_DSN", raising=False)

    def loaded(keys: str) -> Shop:
        forget()
        monkeypatch.setenv("SHOP_KEYS", keys)
        shop: Any = importlib.import_module(f"{PACKAGE}.app")
        payments: Any = importlib.import_module(f"{PACKAGE}.payments")
        transport = httpx.ASGITransport(payments.app)
        monkeypatch.setattr(
            shop, "DurableTransport", functools.partial(shop.DurableTransport, transport)
        )
        return shop

    yield loaded
    forget()


def order(shop: Shop, number: str, card: str = "tok_visa") -> inngest.Event:
    """One order of a customer whose name is a secret."""
    placed = shop.events.Order(
        order_id=number,
        branch="north",
        articles={"tea-sencha": 2},
        customer={"name": SECRET, "email": "ada@example.com"},
        payment={"card_token": card},
    )
    made: inngest.Event = shop.events.order_placed.new(placed)
    return made


@pytest.mark.anyio
async def test_orders_and_the_mirrors_page(load: Load) -> None:
    """One order goes through, one is refused; operators see both, sealed, and nobody else does."""
    shop = load(Key.generate("k").to_text())
    async with shop.app.router.lifespan_context(shop.app):
        await shop.orders.create()
        async with LocalEngine(shop.client, shop.functions) as engine:
            sent = await engine.run(order(shop, "A1"))
            refused = await engine.run(order(shop, "A2", "tok_declined"))
            await engine.settle()
            assert_completed(sent)
            assert_failed(refused)
            ended = {(run.function_id, run.status) for run in engine.runs}
            assert {"shop-thank", "shop-invoice", "shop-compensate"} <= {name for name, _ in ended}
            spent = sent.metadata["run"]["userland.ai"]
            assert (spent["calls"], spent["input_tokens"]) == (1, 40)
            assert "unpriced_calls" not in spent
            wire = [str((run.output, run.reason, run.steps)) for run in engine.runs]
            assert SECRET not in "".join(wire)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://shop")
        async with http:
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/runs/page")).status_code == 401
            assert (await http.get("/runs/page", auth=("o", "wrong"))).status_code == 401
            page = await http.get("/runs/page", auth=("o", "operator"))
            runs = (await http.get("/runs/", auth=("o", "operator"))).json()["runs"]
    assert ">fulfil<" in page.text
    assert SECRET not in page.text
    fulfilled = [run for run in runs if run["function_id"] == "fulfil"]
    assert sorted(run["status"] for run in fulfilled) == ["Completed", "Failed"]
    # Deferred and compensating ones, too: a branch that sees its own misses none.
    assert len(runs) == 5
    assert {run["tenant"] for run in runs} == {"north"}


@pytest.mark.anyio
async def test_keys_are_rotated_under_a_run(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run that began before the rotation ends after it; at last the old key is not needed."""
    old, new = Key.generate("old").to_text(), Key.generate("new").to_text()
    journal = tmp_path / "runs.db"

    async def stage(keys: str, number: str, *, is_up: bool = True) -> list[Any]:
        shop = load(keys)
        if not is_up:
            away = functools.partial(
                httpx.MockTransport, lambda request: httpx.Response(503, request=request)
            )
            original = importlib.import_module("inngest_plugins.fetch").DurableTransport
            monkeypatch.setattr(shop, "DurableTransport", lambda: original(away()))
        async with shop.app.router.lifespan_context(shop.app):
            await shop.orders.create()
            async with LocalEngine(shop.client, shop.functions, journal) as engine:
                await engine.send(order(shop, number))
                await (engine.settle() if is_up else engine.idle())
                return [run for run in engine.runs if run.function_id == "shop-fulfil"]

    (waiting,) = await stage(old, "B1", is_up=False)
    assert waiting.status == "Running"
    for run in await stage(f"{new},{old}", "B2"):
        assert_completed(run)
        assert ":new:" in str(run.output)
    assert_completed((await stage(new, "B3"))[-1])
