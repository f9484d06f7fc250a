"""When a failed attempt is tried again."""

from __future__ import annotations

import zlib

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.protocol import parse_instant

_TABLE = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0, 3600.0, 7200.0)
_JITTER = 30.0
_RETRY_AFTER = (1.0, 86_400.0)


class Retries:
    """Queues the next attempt of a job.

    Args:
        store: The state.
        clock: Time.
        interval: Fixed seconds between attempts; None for the server's table
            (``pkg/backoff``: 15 s, 30 s, 1 min ... 2 h, and up to 30 s of jitter).
    """

    def __init__(self, store: Store, clock: Clock, interval: float | None) -> None:
        self._store = store
        self._clock = clock
        self._interval = interval

    def again(self, job: Job, retry_after: str | None = None) -> None:
        """Queue the next attempt.

        Args:
            job: The job whose attempt failed.
            retry_after: The ``retry-after`` header: seconds, or a date by the app's system clock.
        """
        job.due = self._clock.now() + self._delay(job, retry_after)
        job.attempt += 1
        self._store.put_job(job)

    def _delay(self, job: Job, retry_after: str | None) -> float:
        if retry_after is not None:
            low, high = _RETRY_AFTER
            return min(max(self._stated(retry_after), low), high)
        if self._interval is not None:
            return self._interval
        # Jitter that depends on the job alone keeps tests repeatable.
        jitter = zlib.crc32(f"{job.id}/{job.attempt}".encode()) / 2**32 * _JITTER
        return _TABLE[min(job.attempt, len(_TABLE) - 1)] + jitter

    def _stated(self, retry_after: str) -> float:
        try:
            return float(retry_after)
        except ValueError:
            pass
        try:
            return self._clock.from_wall(parse_instant(retry_after)) - self._clock.now()
        except ValueError:
            return 0.0
