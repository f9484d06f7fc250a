"""The command `inngest-plugins ai`."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated

import typer

from inngest_plugins.cli import CliError, load_app
from inngest_plugins.core import Stack, class_name, printable

from ._plugin import AIPlugin
from .budgets.budget import Budget
from .budgets.redis_store import RedisBudgetStore
from .budgets.sql_store import SQLAlchemyBudgetStore
from .budgets.stores import BudgetStore, ListsAccounts

ai = typer.Typer(
    help="Budgets of model calls: look at what was spent, and mend it.", no_args_is_help=True
)

_KEPT_SECONDS = 31 * 86_400.0
_REDIS = ("redis://", "rediss://", "unix://")

App = Annotated[
    str | None,
    typer.Argument(metavar="APP", help="module:client, module, or path.py[:client]"),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="INNGEST_BUDGETS_URL",
        help="Redis' or SQLAlchemy's URL of the store. With a password, better in "
        "INNGEST_BUDGETS_URL.",
        show_envvar=False,
    ),
]
Prefix = Annotated[str, typer.Option("--prefix", help="Of the keys in Redis.")]


@ai.command("budgets")
def budgets_command(app: App = None, url: Url = None, prefix: Prefix = "inngest-budget") -> None:
    """List the accounts of budgets: what is spent and reserved, and the limit.

    An account is a budget in one period, such as a day, for one value of its key. With APP the
    budgets are those of the app's AIPlugin, in their stores or in the one that --url names; amounts
    are in US dollars or tokens. With --url alone there are no limits, and amounts are in the
    store's units: tokens, or billionths of a US dollar.

    Exit code: 0 when they were listed, 2 when a store cannot be used.
    """
    lines: list[tuple[str, ...]] = []
    with _stores(app, url, prefix) as stores:
        for store, budgets in stores:
            with _reaching(store):
                lines += [_line(store, account, budgets) for account in _accounts_of(store)]
    if not lines:
        typer.echo("no account has spent or reserved anything")
        return
    rows = [("ACCOUNT", "SPENT", "RESERVED", "LIMIT", "UNIT"), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(map(str.ljust, row, widths)).rstrip())


@ai.command("reset")
def reset_command(
    account: Annotated[str, typer.Argument(help="The account, as `ai budgets` lists it.")],
    app: Annotated[
        str | None, typer.Option("--app", help="module:client, module, or path.py[:client]")
    ] = None,
    url: Url = None,
    prefix: Prefix = "inngest-budget",
) -> None:
    """Set what an account has spent to 0; what calls under way have reserved stays.

    Exit code: 0 when it was set, 1 when no store has the account, 2 when a store cannot be used.
    """
    with _stores(app, url, prefix) as stores:
        for store, _ in stores:
            with _reaching(store):
                # Listed is what a terminal can show of an account's name.
                names = {printable(name): name for name in _accounts_of(store)}
                name = names.get(printable(account))
                if name is None:
                    continue
                spent = store.balance(name).spent
                store.settle(name, spent=-spent, reservations=(), seconds=_KEPT_SECONDS)
            typer.echo(f"{printable(name)}: spent was {spent}, and is 0 now")
            return
    raise CliError(f"no store has the account {account!r}: see ai budgets", exit_code=1)


def _line(store: BudgetStore, account: str, budgets: Sequence[Budget]) -> tuple[str, ...]:
    balance = store.balance(account)
    found = [one for one in budgets if account.startswith(f"{one.name}/")]
    # The value of a key comes from an event.
    shown_account = printable(account)
    if not found:
        return shown_account, str(balance.spent), str(balance.reserved), "-", "-"
    budget = max(found, key=lambda one: len(one.name))
    amounts = (balance.spent, balance.reserved, budget.limit)
    shown = (_plain(budget.from_units(amount)) for amount in amounts)
    return shown_account, *shown, "tokens" if budget.usd is None else "USD"


def _plain(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _accounts_of(store: BudgetStore) -> Sequence[str]:
    if not isinstance(store, ListsAccounts):
        raise CliError(
            f"the store {class_name(store)} cannot list its accounts: give it a method accounts() "
            "that returns their names"
        )
    return list(store.accounts())


@contextlib.contextmanager
def _stores(
    app: str | None, url: str | None, prefix: str
) -> Iterator[list[tuple[BudgetStore, list[Budget]]]]:
    """Give each store once, with the budgets that are kept in it."""
    budgets = [] if app is None else _budgets_of(app)
    if url is not None:
        with _store_at(url, prefix) as store:
            yield [(store, budgets)]
        return
    if app is None:
        raise CliError("name the app, or the store: --url URL, or the variable INNGEST_BUDGETS_URL")
    found: dict[int, tuple[BudgetStore, list[Budget]]] = {}
    for budget in budgets:
        if budget.store is not None:
            found.setdefault(id(budget.store), (budget.store, []))[1].append(budget)
    if not found:
        raise CliError("no budget of the app has a store: budgets of runs are kept with the runs")
    yield list(found.values())


def _budgets_of(app: str) -> list[Budget]:
    loaded = load_app(app)
    # A function may have a plugin of its own.
    stacks = [Stack.of(loaded.client), *(Stack.of(loaded.client, one) for one in loaded.functions)]
    plugins = {
        id(plugin): plugin
        for stack in stacks
        for plugin in stack.plugins
        if isinstance(plugin, AIPlugin)
    }
    if not plugins:
        raise CliError("neither the app's client nor a function has an AIPlugin")
    return [budget for plugin in plugins.values() for budget in plugin.budgets]


@contextlib.contextmanager
def _store_at(url: str, prefix: str) -> Iterator[BudgetStore]:
    """Open the store that a URL names, and close it."""
    if url.startswith(_REDIS):
        import redis

        try:
            client = redis.Redis.from_url(url)
        except ValueError:
            # The message of the error may quote the URL.
            raise CliError("--url is no URL of Redis that can be used here") from None
        try:
            yield RedisBudgetStore(client, prefix=prefix)
        finally:
            client.close()
        return
    import sqlalchemy as sa
    from sqlalchemy import exc

    try:
        engine = sa.create_engine(url)
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
        # The message of the error may quote the URL.
        raise CliError(
            f"--url is no URL of Redis or SQLAlchemy that can be used here: {class_name(error)}"
        ) from None
    if engine.dialect.is_async:
        raise CliError(
            f"--url names the async driver {engine.dialect.driver}: name a sync one, such as "
            "postgresql+psycopg"
        )
    file = engine.url.database
    # SQLite would make an empty one. A name that begins so has options of its own.
    is_file = engine.dialect.name == "sqlite" and file not in (None, "", ":memory:")
    if is_file and not str(file).startswith("file:") and not pathlib.Path(str(file)).is_file():
        raise CliError("--url names an SQLite file that is not there: there is no such database")
    try:
        yield SQLAlchemyBudgetStore(engine, create_tables=False)
    finally:
        engine.dispose()


@contextlib.contextmanager
def _reaching(store: BudgetStore) -> Iterator[None]:
    try:
        yield
    except CliError:
        raise
    except Exception as error:
        # A database's errors name hosts and values.
        raise CliError(f"{class_name(store)} could not be used: {class_name(error)}") from error
