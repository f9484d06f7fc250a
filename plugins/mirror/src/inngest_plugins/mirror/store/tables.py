"""The mirror's tables in SQLAlchemy; the migrations create them."""

from __future__ import annotations

import datetime as dt
from typing import Final

import sqlalchemy as sa


class UtcTime(sa.TypeDecorator[dt.datetime]):
    """A moment with its time zone, also in databases without time zones (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: dt.datetime | None, dialect: sa.Dialect
    ) -> dt.datetime | None:
        """Write UTC."""
        return None if value is None else value.astimezone(dt.timezone.utc)

    def process_result_value(
        self, value: dt.datetime | None, dialect: sa.Dialect
    ) -> dt.datetime | None:
        """Read UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=dt.timezone.utc)
        return value.astimezone(dt.timezone.utc)


metadata: Final = sa.MetaData()

runs: Final = sa.Table(
    "inngest_runs",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("app_id", sa.String(255), nullable=False),
    sa.Column("function_id", sa.String(255), nullable=False),
    sa.Column("function_name", sa.String(255)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("tenant", sa.String(255)),
    sa.Column("event_name", sa.String(255)),
    sa.Column("event_id", sa.String(255)),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("queued_at", UtcTime),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("seen_at", UtcTime),
    sa.Column("confirmed_at", UtcTime),
    sa.Column("error_class", sa.String(255)),
    sa.Column("error_message", sa.Text),
    sa.Column("fields", sa.Text),
    sa.Index("ix_inngest_runs_tenant", "tenant", "run_id"),
    sa.Index("ix_inngest_runs_status", "app_id", "status", "run_id"),
)
"""`seen_at`: when a request of the run was last written. `confirmed_at`: when the engine's own list
of runs last said so. `fields`: JSON, what `store_fields` names."""

tags: Final = sa.Table(
    "inngest_run_tags",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
    sa.Index("ix_inngest_run_tags_value", "name", "value", "run_id"),
)

steps: Final = sa.Table(
    "inngest_steps",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("hashed_id", sa.String(64), primary_key=True),
    sa.Column("step_id", sa.String(255)),
    sa.Column("step_index", sa.Integer),
    sa.Column("name", sa.String(255)),
    sa.Column("op", sa.String(64)),
    sa.Column("position", sa.Integer),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("duration_ms", sa.Float),
    sa.Column("output_bytes", sa.Integer),
    sa.Column("error_class", sa.String(255)),
    sa.Column("error_message", sa.Text),
    sa.Column("fields", sa.Text),
)

attempts: Final = sa.Table(
    "inngest_attempts",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("hashed_id", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("duration_ms", sa.Float),
    sa.Column("error_class", sa.String(255)),
    sa.Column("error_message", sa.Text),
    sa.Column("tokens", sa.Integer),
    sa.Column("cost", sa.Float),
)
"""An attempt of the function itself has the `hashed_id` "". Tokens and cost are those of the
attempt, so that the sum over a run is what was charged for it."""

logs: Final = sa.Table(
    "inngest_logs",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("hashed_id", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("logged_at", UtcTime),
)
"""Lines of `log`. Those of the function's body have the `hashed_id` "" and the attempt 0."""
