"""How a store's database is named: SQLAlchemy's URL, and arguments of its engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import exc

from inngest_plugins.core import class_name
from inngest_plugins.mirror._errors import MirrorError

_DRIVERS: Final = {"sqlite": ("aiosqlite",), "postgresql": ("asyncpg", "psycopg")}


def async_url(text: str) -> sa.URL:
    """Return SQLAlchemy's URL of a database, with an async driver that is installed.

    Raises:
        MirrorError: it is none, or names another database or a driver that is not installed.
    """
    try:
        url = sa.make_url(text)
    except exc.ArgumentError as err:
        raise MirrorError(
            "SQLAlchemyStore: the URL of the database is none that SQLAlchemy knows"
        ) from err
    kind, _, driver = url.drivername.partition("+")
    kind = "postgresql" if kind == "postgres" else kind
    if kind not in _DRIVERS or (driver and driver not in _DRIVERS[kind]):
        raise MirrorError(
            f"SQLAlchemyStore: {url.drivername!r} is not supported: use sqlite+aiosqlite, "
            "postgresql+asyncpg or postgresql+psycopg"
        )
    wanted = (driver,) if driver else _DRIVERS[kind]
    found = next((name for name in wanted if importlib.util.find_spec(name)), None)
    if found is None:
        raise MirrorError(
            f"SQLAlchemyStore: {url.drivername!r} needs the package {wanted[0]!r}: install it"
        )
    return url.set(drivername=f"{kind}+{found}")


def checked_options(options: object) -> dict[str, Any]:
    """Return arguments of SQLAlchemy's `create_async_engine`.

    Raises:
        MirrorError: they are no mapping.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise MirrorError(
            'SQLAlchemyStore(engine_options=...) is a mapping such as {"pool_size": 5}, not '
            f"{class_name(options)}"
        )
    return dict(cast("Mapping[str, Any]", options))
