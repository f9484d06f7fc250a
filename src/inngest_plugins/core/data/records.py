"""Recording which hooks ran, for timelines and tests."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hook_record import HookRecord


recorder: contextvars.ContextVar[list[HookRecord] | None] = contextvars.ContextVar(
    "inngest_plugins_recorder", default=None
)


@contextlib.contextmanager
def record_hooks() -> Iterator[list[HookRecord]]:
    """Record every hook of the calls that begin inside this context.

    Returns:
        A list that grows as hooks end. It covers calls in tasks started from here, and sync
        functions that those run in threads.
    """
    records: list[HookRecord] = []
    token = recorder.set(records)
    try:
        yield records
    finally:
        recorder.reset(token)
