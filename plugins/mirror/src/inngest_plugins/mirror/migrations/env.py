"""Alembic's entry point: runs the migrations on the connection that the store opened."""

from __future__ import annotations

from alembic import context

from inngest_plugins.mirror.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="inngest_mirror_version",
)
with context.begin_transaction():
    context.run_migrations()
