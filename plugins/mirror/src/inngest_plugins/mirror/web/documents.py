"""Runs as JSON documents, for the API and for server-sent events."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from inngest_plugins.mirror.store.reads import MirroredRun, RunDetail


def run_document(run: MirroredRun) -> dict[str, Any]:
    """Return a run as JSON."""
    return {**_plain(dataclasses.asdict(run)), "is_open": run.is_open}


def detail_document(detail: RunDetail) -> dict[str, Any]:
    """Return a run with its steps, attempts, log lines and usage as JSON."""
    return {
        **run_document(detail.run),
        "tokens": detail.tokens,
        "cost": detail.cost,
        "steps": [_plain(dataclasses.asdict(step)) for step in detail.steps],
        "attempts": [_plain(dataclasses.asdict(one)) for one in detail.attempts],
        "logs": [_plain(dataclasses.asdict(line)) for line in detail.lines],
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, dt.datetime) else value
        for name, value in row.items()
    }
