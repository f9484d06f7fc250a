"""The command `inngest-plugins mirror`."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections.abc import Iterator
from typing import Annotated, Final

import anyio
import inngest
import typer

from inngest_plugins.cli import CliError, load_app
from inngest_plugins.core import PluginsError, Stack

from ._errors import MirrorError
from ._plugin import MirrorPlugin
from .store.store import SQLAlchemyStore

_MOST_HOURS: Final = 1_000_000.0
"""More than a century; a `timedelta` holds no hours without end."""

mirror = typer.Typer(
    help="The mirror's database: make its tables, compare it with the engine.",
    no_args_is_help=True,
)
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="INNGEST_MIRROR_URL",
        help="SQLAlchemy's URL of the database. With a password, better in INNGEST_MIRROR_URL.",
        show_envvar=False,
    ),
]


@mirror.command("upgrade")
def upgrade_command(url: Url = None) -> None:
    """Make the mirror's tables, or bring them up to date.

    Exit code: 0 when they are up to date, 2 when the database cannot be used.
    """
    if url is None:
        raise CliError("name the database: --url URL, or the variable INNGEST_MIRROR_URL")
    try:
        store = SQLAlchemyStore(url)
        with _closing(store):
            store.upgrade_sync()
    except MirrorError as error:
        raise CliError(str(error)) from error
    typer.echo(f"{store.label} is up to date")


@mirror.command("reconcile")
def reconcile_command(
    app: Annotated[
        str, typer.Argument(metavar="APP", help="module:client, module, or path.py[:client]")
    ],
    url: Url = None,
    hours: Annotated[
        float, typer.Option("--hours", min=0, help="How far back runs are compared.")
    ] = 24.0,
) -> None:
    """Compare the mirror with the engine's list of runs, and correct it.

    The database is that of the app's MirrorPlugin, unless --url names another. Run it by a
    schedule: it finds the runs that were cancelled, timed out or lost.

    Exit code: 0 when it was compared, 2 when the database or the engine cannot be used.
    """
    client = load_app(app).client
    try:
        store = _store_of(client) if url is None else SQLAlchemyStore(url)
        since = dt.timedelta(hours=min(hours, _MOST_HOURS))
        with _closing(store):
            found = anyio.run(functools.partial(store.reconcile, client, since=since))
    except CliError:
        raise
    except PluginsError as error:
        raise CliError(str(error)) from error
    typer.echo(f"{found.compared} compared, {found.corrected} corrected, {found.lost} lost")


@contextlib.contextmanager
def _closing(store: SQLAlchemyStore) -> Iterator[None]:
    try:
        yield
    finally:
        store.close_sync()


def _store_of(client: inngest.Inngest) -> SQLAlchemyStore:
    for plugin in Stack.of(client).plugins:
        if isinstance(plugin, MirrorPlugin):
            return plugin.store
    raise CliError("the app's client has no MirrorPlugin: name the database with --url")
