"""Writes reports: before the answer, during a long request, and again after a failure."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from inngest_plugins.core import printable

from ._errors import MirrorDatabaseError
from ._record import Progress, RunRecord
from .store.rows import ENDED_STEPS, Report
from .store.store import SQLAlchemyStore

_SHOW_SECONDS: Final = 0.5
"""Seconds after which a request is also written while it runs."""
_AGAIN_SECONDS: Final = 1.0
"""Seconds between two attempts to write the kept reports."""
_KEPT_SECONDS: Final = 30.0
"""Seconds that one of these attempts may take; no request waits for it."""
_QUIET_SECONDS: Final = 60.0
"""Seconds in which a database that is slow now and then is logged once."""
_TOGETHER: Final = 20
"""How many kept reports go into a transaction: one by one, a busy database never catches up."""
_REMEMBERED_RUNS: Final = 4096
_logger = logging.getLogger("inngest_plugins.mirror")


class ReportWriter:
    """Writes the reports of one plugin.

    While the database fails, reports are kept in memory, requests do not wait for it, and the
    store's thread tries again each second.

    Args:
        store: the database.
        timeout: seconds that a request may wait for its report.
        limit: how many reports are kept; the oldest is dropped.
    """

    def __init__(self, store: SQLAlchemyStore, timeout: float, *, limit: int) -> None:
        self._store = store
        self._timeout = timeout
        self._lock = threading.Lock()
        self._kept: deque[Report] = deque(maxlen=limit)
        self._keeps = False
        self._process = os.getpid()
        self._is_logged = False
        self._logged_at = -_QUIET_SECONDS
        self.written = WrittenSteps()

    async def write(self, report: Report) -> None:
        """Write a report, or keep it when the database fails."""
        if self._has_kept(report):
            return
        try:
            await self._store.write(report, timeout=self._timeout)
        except Exception as err:
            self._failed(err, report)
        else:
            self._succeeded(report)

    def write_sync(self, report: Report) -> None:
        """Write a report from sync code; see `write`."""
        if self._has_kept(report):
            return
        try:
            self._store.write_sync(report, timeout=self._timeout)
        except Exception as err:
            self._failed(err, report)
        else:
            self._succeeded(report)

    def show_meanwhile(self, record: RunRecord) -> None:
        """Write a report of a long request while it runs; the request does not wait."""
        self._store.later(_SHOW_SECONDS, functools.partial(self._show, record, None))

    async def _show(self, record: RunRecord, shown: Progress | None) -> None:
        if record.is_closed:
            return
        progress = record.progress()
        if progress != shown and not self._is_keeping():
            try:
                await self._store.write(record.report_meanwhile(), timeout=self._timeout)
                shown = progress
            except Exception as err:
                self._failed(err, None)
        self._store.later(_SHOW_SECONDS, functools.partial(self._show, record, shown))

    # ------------------------------------------------------------ the database fails

    def _is_keeping(self) -> bool:
        with self._lock:
            if self._process != os.getpid():
                # After a fork, the parent process writes the reports that it has kept.
                self._process = os.getpid()
                self._kept.clear()
                self._keeps = False
            return self._keeps

    def _has_kept(self, report: Report) -> bool:
        if not self._is_keeping():
            return False
        with self._lock:
            self._kept.append(report)
        return True

    def _failed(self, err: Exception, report: Report | None) -> None:
        now = time.monotonic()
        if not self._is_logged and now - self._logged_at >= _QUIET_SECONDS:
            self._is_logged = True
            self._logged_at = now
            _logger.warning(
                "runs are not mirrored until the database %s works again; functions are not "
                "affected. %s",
                self._store.label,
                printable(self._store.explain(err)),
            )
        is_first = not self._is_keeping()
        with self._lock:
            if report is not None:
                self._kept.append(report)
            self._keeps = True
        if is_first:
            # At once, without a request that waits: most often the database is slow and not away,
            # and what is kept is lost when the process is killed.
            self._store.later(0, self._write_kept)

    async def _write_kept(self) -> None:
        alone = 0
        failed: Report | None = None
        while reports := self._oldest(1 if alone else _TOGETHER):
            started = time.monotonic()
            try:
                await self._store.write_all(reports, timeout=_KEPT_SECONDS)
            except Exception:
                if not await self._answers():
                    self._store.later(_AGAIN_SECONDS, self._write_kept)
                    return
                if reports[0] is not failed:
                    # One of them is the reason, or the database has just come back: again, alone.
                    alone, failed = len(reports), reports[0]
                    continue
                # The database refuses this report only: go on with the others.
            else:
                for report in reports:
                    self.written.add(report)
                if time.monotonic() - started <= self._timeout:
                    # Only after a quick write: with a slow database each request would log this
                    # again.
                    self._works()
            alone = max(0, alone - len(reports))
            self._drop(reports)

    async def _answers(self) -> bool:
        try:
            await self._store.check()
        except MirrorDatabaseError:
            return False
        return True

    def _oldest(self, count: int) -> list[Report]:
        with self._lock:
            self._keeps = bool(self._kept)
            return list(itertools.islice(self._kept, count))

    def _drop(self, reports: Iterable[Report]) -> None:
        with self._lock:
            for report in reports:
                # It may have been dropped meanwhile, because there were too many.
                if self._kept and self._kept[0] is report:
                    self._kept.popleft()

    def _succeeded(self, report: Report) -> None:
        self.written.add(report)
        self._works()

    def _works(self) -> None:
        if self._is_logged:
            self._is_logged = False
            _logger.info("runs are mirrored again in the database %s", self._store.label)


class WrittenSteps:
    """The ended steps that this process has written, so that a replay does not write them again."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, set[str]] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, run_id: str, hashed_id: str) -> bool:
        """Whether a step's end has been written."""
        known = self._runs.get(run_id)
        return known is not None and hashed_id in known

    def add(self, report: Report) -> None:
        """Remember what has been written."""
        # A step that the function has not reached has no name yet: it is written again with it.
        ended = {
            step.hashed_id
            for step in report.steps
            if step.status in ENDED_STEPS and step.step_id is not None
        }
        run_id = report.run.run_id
        with self._lock:
            if report.run.status != "Running":
                self._runs.pop(run_id, None)
                return
            self._runs.setdefault(run_id, set()).update(ended)
            self._runs.move_to_end(run_id)
            if len(self._runs) > _REMEMBERED_RUNS:
                self._runs.popitem(last=False)
