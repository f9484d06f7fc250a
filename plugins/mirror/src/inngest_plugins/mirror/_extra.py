"""Requires the extra `mirror` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("mirror", "sqlalchemy", "alembic", "aiosqlite")
