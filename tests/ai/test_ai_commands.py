"""`inngest-plugins ai`: accounts of budgets are listed and mended from the terminal."""

from __future__ import annotations

import pathlib
import textwrap
import time
from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa

from inngest_plugins.ai import Budget, BudgetStore, RedisBudgetStore, SQLAlchemyBudgetStore
from inngest_plugins.cli import main

APP = """
import inngest, sqlalchemy
from inngest_plugins.ai import AIPlugin, Budget, SQLAlchemyBudgetStore

store = SQLAlchemyBudgetStore(sqlalchemy.create_engine({url!r}, poolclass=sqlalchemy.NullPool))
budgets = [
    Budget(usd=50, per="day", key="event.data.tenant", store=store, name="tenants"),
    Budget(tokens=1000, per="hour", store=store, name="all"),
    Budget(usd=1, per="run"),
]
client = inngest.Inngest(app_id="shop", is_production=False)

@client.create_function(
    fn_id="fn", trigger=inngest.TriggerEvent(event="x"), middleware=[AIPlugin(budgets=budgets)]
)
async def fn(ctx: inngest.Context) -> None: ...
"""


def fill(store: BudgetStore) -> tuple[str, str]:
    """Two accounts: a tenant's day in dollars, and everybody's hour in tokens."""
    tenants = Budget(usd=50, per="day", key="event.data.tenant", store=store, name="tenants")
    everybody = Budget(tokens=1000, per="hour", store=store, name="all")
    first, second = tenants.account_of("acme/eu", time.time()), everybody.account_of(None, 0)
    store.settle(first, spent=1_500_000_000, reservations=(), seconds=600)
    store.reserve(first, reservation="r", amount=250_000_000, limit=10**12, seconds=600)
    store.reserve(second, reservation="s", amount=7, limit=1000, seconds=600)
    return first, second


@pytest.fixture(params=["redis", "sqlite"])
def store_and_url(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[tuple[BudgetStore, str]]:
    """A store with its URL, also of a Redis whose clients get text."""
    if request.param == "redis":
        client: redis.Redis = request.getfixturevalue("redis_client")
        client.flushall()
        port = client.get_connection_kwargs()["port"]
        yield RedisBudgetStore(client), f"redis://127.0.0.1:{port}?decode_responses=True"
    else:
        url = f"sqlite:///{tmp_path / 'budgets.db'}"
        engine = sa.create_engine(url)
        yield SQLAlchemyBudgetStore(engine), url
        engine.dispose()


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_accounts_of_a_store_are_listed_and_reset(
    store_and_url: tuple[BudgetStore, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the URL alone, in the store's units; what is reserved stays."""
    store, url = store_and_url
    assert main(["ai", "budgets", "--url", url]) == 0
    assert capsys.readouterr().out == "no account has spent or reserved anything\n"
    first, second = fill(store)
    monkeypatch.setenv("INNGEST_BUDGETS_URL", url)
    assert main(["ai", "budgets"]) == 0
    assert table(capsys.readouterr().out) == [
        ["ACCOUNT", "SPENT", "RESERVED", "LIMIT", "UNIT"],
        [second, "0", "7", "-", "-"],
        [first, "1500000000", "250000000", "-", "-"],
    ]
    assert main(["ai", "reset", first]) == 0
    assert capsys.readouterr().out == f"{first}: spent was 1500000000, and is 0 now\n"
    assert (store.balance(first).spent, store.balance(first).reserved) == (0, 250_000_000)
    assert store.balance(second).reserved == 7
    assert main(["ai", "reset", "tenants/of/nobody"]) == 1
    assert "see ai budgets" in capsys.readouterr().err


def test_with_the_app_there_are_limits(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The app's own stores; amounts are in each budget's unit."""
    url = f"sqlite:///{tmp_path / 'budgets.db'}"
    app = tmp_path / "budgets_app.py"
    app.write_text(textwrap.dedent(APP).format(url=url))
    engine = sa.create_engine(url)
    first, second = fill(SQLAlchemyBudgetStore(engine))
    assert main(["ai", "budgets", f"{app}:client"]) == 0
    assert table(capsys.readouterr().out)[1:] == [
        [second, "0", "7", "1000", "tokens"],
        [first, "1.5", "0.25", "50", "USD"],
    ]
    assert main(["ai", "reset", first, "--app", f"{app}:client"]) == 0
    assert main(["ai", "budgets", f"{app}:client", "--url", url]) == 0
    assert table(capsys.readouterr().out)[-1] == [first, "0", "0.25", "50", "USD"]
    engine.dispose()


def test_what_an_event_says_reaches_the_terminal_escaped(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The value of a key is part of an account's name, which is listed as it can be given back."""
    url = f"sqlite:///{tmp_path / 'budgets.db'}"
    engine = sa.create_engine(url)
    store = SQLAlchemyBudgetStore(engine)
    account = "tenants/2026-05-01/key=\x1b[2Jacme"
    store.settle(account, spent=5, reservations=(), seconds=600)
    assert main(["ai", "budgets", "--url", url]) == 0
    listed = table(capsys.readouterr().out)[1][0]
    assert listed == "tenants/2026-05-01/key=\\u001b[2Jacme"
    assert main(["ai", "reset", listed, "--url", url]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert store.balance(account).spent == 0
    engine.dispose()


BARE = """
import inngest
from inngest_plugins.ai import AIPlugin, Budget

class Store:
    def reserve(self, *args, **kwargs): ...
    def settle(self, *args, **kwargs): ...
    def balance(self, account): ...

def client_with(*plugins):
    client = inngest.Inngest(app_id="shop", is_production=False, middleware=list(plugins))

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="x"))
    async def fn(ctx: inngest.Context) -> None: ...

    return client, fn

without, one = client_with()
of_runs, two = client_with(AIPlugin(budgets=[Budget(tokens=1)]))
own, three = client_with(AIPlugin(budgets=[Budget(tokens=1, per="day", store=Store())]))
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "INNGEST_BUDGETS_URL"),
        (["--url", "no url, and a secret"], "ArgumentError"),
        (["--url", "nodb://user:secret@host"], "NoSuchModuleError"),
        (["--url", "sqlite:////no/such/secret/folder/x.db"], "no such database"),
        (["--url", "sqlite://"], "SQLAlchemyBudgetStore could not be used"),
        (["--url", "redis://:secret@127.0.0.1:1"], "RedisBudgetStore could not be used"),
        (["--url", "redis://host:secret"], "no URL of Redis"),
        (["--url", "sqlite+aiosqlite:///secret.db"], "async driver aiosqlite: name a sync one"),
        (["{app}:without"], "AIPlugin"),
        (["{app}:of_runs"], "no budget of the app has a store"),
        (["{app}:own"], "cannot list its accounts"),
    ],
)
def test_what_cannot_work_says_so_in_one_line(
    arguments: list[str], said: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the password of the URL."""
    app = tmp_path / "bare_app.py"
    app.write_text(textwrap.dedent(BARE))
    assert main(["ai", "budgets", *(argument.format(app=app) for argument in arguments)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "secret" not in told


@pytest.mark.parametrize("command", [["budgets"], ["reset", "tenants"]])
def test_a_database_that_is_not_there_is_not_made(
    command: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt file is told: an empty one would look like a store without accounts."""
    file = tmp_path / "none.db"
    assert main(["ai", *command, "--url", f"sqlite:///{file}"]) == 2
    assert "there is no such database" in capsys.readouterr().err
    assert not file.exists()
