"""Brings the tables up to date with the packaged migrations."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy as sa

from inngest_plugins.mirror._errors import MirrorDatabaseError

_FOLDER: Final = Path(__file__).parents[1] / "migrations"
_LOCK: Final = threading.Lock()
"""Alembic keeps the running migration in a module, so only one can run at a time."""
_ADVISORY_LOCK: Final = 0x1496E5E57


def upgrade(connection: sa.Connection) -> None:
    """Run the migrations that the database lacks, in the connection's transaction.

    Raises:
        MirrorDatabaseError: the tables are of a later release.
    """
    if connection.dialect.name == "postgresql":
        # Instances that start at the same time wait for each other.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _LOCK:
        try:
            alembic.command.upgrade(config, "head")
        except alembic.util.CommandError as err:
            raise MirrorDatabaseError(
                "its tables are of a later release of inngest-plugins than this one: install that "
                "release (pip install --upgrade inngest-plugins)"
            ) from err
