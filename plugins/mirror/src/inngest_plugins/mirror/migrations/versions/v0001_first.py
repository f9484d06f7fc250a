"""The first migration: tables for runs, tags, steps, attempts and log lines."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def _key() -> sa.Column[Any]:
    return sa.Column("run_id", sa.String(64), primary_key=True)


def _step() -> sa.Column[Any]:
    return sa.Column("hashed_id", sa.String(64), primary_key=True)


def _error() -> tuple[sa.Column[Any], ...]:
    return sa.Column("error_class", sa.String(255)), sa.Column("error_message", sa.Text)


def upgrade() -> None:
    """Make the tables."""
    _make_runs()
    _make_steps()
    op.create_table(
        "inngest_logs",
        _key(),
        _step(),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("logged_at", _TIME),
    )


def _make_runs() -> None:
    op.create_table(
        "inngest_runs",
        _key(),
        sa.Column("app_id", sa.String(255), nullable=False),
        sa.Column("function_id", sa.String(255), nullable=False),
        sa.Column("function_name", sa.String(255)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(255)),
        sa.Column("event_name", sa.String(255)),
        sa.Column("event_id", sa.String(255)),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("queued_at", _TIME),
        sa.Column("started_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("seen_at", _TIME),
        sa.Column("confirmed_at", _TIME),
        *_error(),
        sa.Column("fields", sa.Text),
    )
    op.create_index("ix_inngest_runs_tenant", "inngest_runs", ["tenant", "run_id"])
    op.create_index("ix_inngest_runs_status", "inngest_runs", ["app_id", "status", "run_id"])
    op.create_table(
        "inngest_run_tags",
        _key(),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("value", sa.String(255), nullable=False),
    )
    op.create_index("ix_inngest_run_tags_value", "inngest_run_tags", ["name", "value", "run_id"])


def _make_steps() -> None:
    op.create_table(
        "inngest_steps",
        _key(),
        _step(),
        sa.Column("step_id", sa.String(255)),
        sa.Column("step_index", sa.Integer),
        sa.Column("name", sa.String(255)),
        sa.Column("op", sa.String(64)),
        sa.Column("position", sa.Integer),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer),
        sa.Column("started_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("duration_ms", sa.Float),
        sa.Column("output_bytes", sa.Integer),
        *_error(),
        sa.Column("fields", sa.Text),
    )
    op.create_table(
        "inngest_attempts",
        _key(),
        _step(),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("duration_ms", sa.Float),
        *_error(),
        sa.Column("tokens", sa.Integer),
        sa.Column("cost", sa.Float),
    )


def downgrade() -> None:
    """Drop the tables."""
    names = ("inngest_logs", "inngest_attempts", "inngest_steps", "inngest_run_tags")
    for name in (*names, "inngest_runs"):
        op.drop_table(name)
