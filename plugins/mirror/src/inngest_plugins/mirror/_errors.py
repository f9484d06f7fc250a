"""The errors of the mirror."""

from __future__ import annotations

from inngest_plugins.core import PluginsError, class_name


class MirrorError(PluginsError):
    """An argument of the mirror cannot be used."""


class MirrorDatabaseError(MirrorError):
    """The mirror's database could not be reached, did not answer in time, or has no tables."""


def driver_error(error: BaseException) -> str:
    """Describe a driver's error without values: by what SQLite says of its file, or its class."""
    # An app whose mirror is in PostgreSQL has no other use for it (`startup`).
    import sqlite3

    is_of_file = isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
    return str(error) if is_of_file else class_name(error)
