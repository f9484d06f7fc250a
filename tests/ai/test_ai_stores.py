"""Stores of budgets: atomic on real servers, with fifty workers racing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from inngest_plugins.ai import (
    Balance,
    BudgetStore,
    MemoryBudgetStore,
    RedisBudgetStore,
    SQLAlchemyBudgetStore,
)

WORKERS = 50


def reserve(store: BudgetStore, name: str, amount: int, limit: int = 100) -> Balance:
    return store.reserve("a", reservation=name, amount=amount, limit=limit, seconds=60)


def settle(store: BudgetStore, spent: int, *names: str) -> None:
    store.settle("a", spent=spent, reservations=names, seconds=60)


def test_reserving_settling_and_giving_back(store: BudgetStore) -> None:
    """What is spent and reserved never exceeds the limit; an unknown account has spent nothing."""
    assert store.balance("a") == Balance(0, 0)
    assert reserve(store, "one", 60).granted
    assert reserve(store, "two", 60) == Balance(0, 60, granted=False)
    assert reserve(store, "three", 40).granted
    assert reserve(store, "four", 0) == Balance(0, 100, granted=False)
    settle(store, 50, "one")
    assert store.balance("a") == Balance(50, 40)
    settle(store, 0, "three", "unknown")
    assert store.balance("a") == Balance(50, 0)
    assert store.balance("b") == Balance(0, 0)
    settle(store, -50)
    assert store.balance("a") == Balance(0, 0)


def test_what_is_no_sync_client_or_engine_is_refused() -> None:
    """At construction: an error of the first reservation would be tried again."""
    wrongs: list[Any] = ["redis://localhost", redis.asyncio.Redis()]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="takes a sync client"):
            RedisBudgetStore(wrong)
    of_async_driver = sa.create_engine("sqlite+aiosqlite://")
    wrongs = ["sqlite://", create_async_engine("sqlite+aiosqlite://"), of_async_driver]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="takes a sync engine"):
            SQLAlchemyBudgetStore(wrong)


def test_workers_that_start_at_the_same_time_make_the_tables_once(tmp_path: Path) -> None:
    """Each looks for them before any has made them."""
    engines = [sa.create_engine(f"sqlite:///{tmp_path / 'budgets.db'}") for _ in range(2)]
    first = [engines[0]]

    def meanwhile(*_: object, **__: object) -> None:
        while first:
            SQLAlchemyBudgetStore(first.pop())

    event.listen(sa.Table, "before_create", meanwhile)
    try:
        settle(SQLAlchemyBudgetStore(engines[1]), 1)
    finally:
        event.remove(sa.Table, "before_create", meanwhile)
    assert SQLAlchemyBudgetStore(engines[0]).balance("a") == Balance(1, 0)
    for engine in engines:
        engine.dispose()


def test_large_amounts_are_exact(store: BudgetStore) -> None:
    """A million dollars in billionths of a dollar."""
    settle(store, 10**15 + 1)
    assert store.balance("a").spent == 10**15 + 1


def test_the_first_calls_of_an_unknown_account_race(store: BudgetStore) -> None:
    """Fifty workers at once, and room for ten: ten are granted, also on the first call ever."""
    start = threading.Barrier(WORKERS)

    def work(number: int) -> bool:
        start.wait()
        return reserve(store, f"r{number}", 10).granted

    with ThreadPoolExecutor(WORKERS) as pool:
        granted = list(pool.map(work, range(WORKERS)))
    assert sum(granted) == 10
    assert store.balance("a") == Balance(0, 100)


def test_fifty_workers_spend_to_the_limit_and_not_over(store: BudgetStore) -> None:
    """Each spends until it is refused: the sum is the limit, to the token."""

    def work(number: int) -> int:
        spent = 0
        for turn in range(100):
            name = f"r{number}-{turn}"
            if not reserve(store, name, 7, limit=350).granted:
                return spent
            settle(store, 7, name)
            spent += 7
        raise AssertionError("never refused")

    with ThreadPoolExecutor(WORKERS) as pool:
        spent = sum(pool.map(work, range(WORKERS)))
    assert spent == 350
    assert store.balance("a") == Balance(350, 0)


@pytest.fixture
def sqlite_engine() -> Iterator[sa.Engine]:
    """An engine of a database in memory, closed in the end."""
    engine = sa.create_engine("sqlite://")
    yield engine
    engine.dispose()


def test_a_dead_worker_s_reservation_lapses(sqlite_engine: sa.Engine) -> None:
    """It is not held for ever."""
    now = [1000.0]
    stores: list[BudgetStore] = [
        MemoryBudgetStore(clock=lambda: now[0]),
        SQLAlchemyBudgetStore(sqlite_engine, clock=lambda: now[0]),
    ]
    for store in stores:
        now[0] = 1000.0
        reserve(store, "dead", 100)
        now[0] += 59
        assert not reserve(store, "next", 1).granted
        now[0] += 2
        assert reserve(store, "next", 1).granted


def test_accounts_of_old_periods_go_away(sqlite_engine: sa.Engine) -> None:
    """The table does not grow with the days."""
    now = [1000.0]
    store = SQLAlchemyBudgetStore(sqlite_engine, clock=lambda: now[0])
    settle(store, 5)
    now[0] += 61
    store.settle("b", spent=1, reservations=(), seconds=60)
    assert store.balance("a").spent == 0
    assert store.balance("b").spent == 1


def test_redis_forgets_by_itself(request: pytest.FixtureRequest) -> None:
    """Every key of an account has a time to live."""
    client = request.getfixturevalue("redis_client")
    from inngest_plugins.ai import RedisBudgetStore

    client.flushall()
    store = RedisBudgetStore(client, prefix="p")
    reserve(store, "one", 5)
    settle(store, 5)
    keys = client.keys("p:*")
    assert len(keys) == 2
    assert all(0 < client.ttl(key) <= 60 for key in keys)
