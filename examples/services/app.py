"""A function with a database session per tenant: opened where code runs, closed when it ends.

Without a server, from this folder:

    inngest-plugins run app.py --event @event.json
    inngest-plugins doctor app.py --health
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import inngest
import svcs

from inngest_plugins.core import Call
from inngest_plugins.injection import InjectionPlugin, get


@dataclass(frozen=True)
class Settings:
    """What is the same for the whole app."""

    databases: pathlib.Path = field(
        default_factory=lambda: pathlib.Path(
            os.environ.get("DATABASES") or tempfile.mkdtemp(prefix="services-")
        )
    )


class Database(sqlite3.Connection):
    """The database of the tenant whose run asks."""


def open_database(container: svcs.Container) -> Iterator[Database]:
    """Open the tenant's database, named by the event of the run."""
    tenant = str(container.get(Call).event.data["tenant"])
    path = container.get(Settings).databases / f"{tenant}.db"
    with contextlib.closing(sqlite3.connect(path, factory=Database)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, state TEXT)")
        yield database


def ping(settings: Settings) -> None:
    """Tell whether databases can be written."""
    (settings.databases / "ping").write_text("")


registry = svcs.Registry()
registry.register_value(Settings, Settings(), ping=ping)
registry.register_factory(Database, open_database)
client = inngest.Inngest(
    app_id="services", is_production=False, middleware=[InjectionPlugin(registry)]
)


def save(order: str, state: str) -> int:
    """Save an order, and return how many there are."""
    database = get(Database)
    with database:
        database.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (order, state))
    (count,) = database.execute("SELECT count(*) FROM orders").fetchone()
    return int(count)


@client.create_function(fn_id="fulfil", trigger=inngest.TriggerEvent(event="shop/order.placed"))
def fulfil(ctx: inngest.ContextSync) -> int:
    """Fulfil an order in two steps, each with a session of its own."""
    order = str(ctx.event.data["order"])
    ctx.step.run("placed", save, order, "placed")
    return ctx.step.run("shipped", save, order, "shipped")
