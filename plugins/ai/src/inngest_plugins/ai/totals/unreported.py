"""Attempts of open runs that no step's result has named yet."""

from __future__ import annotations

import threading
from collections import OrderedDict

from inngest_plugins.core import ModelUsage

_KEPT_RUNS = 4096


class Unreported:
    """Attempts of open runs that no step's result has named yet, kept in this process.

    A request that ends without a step's result, such as one whose step failed, leaves them here
    for the run's next request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, dict[str, ModelUsage]] = OrderedDict()

    def of(self, run_id: str) -> dict[str, ModelUsage]:
        """Return what attempts of a run used."""
        with self._lock:
            return dict(self._runs.get(run_id, {}))

    def add(self, run_id: str, key: str, usage: ModelUsage) -> None:
        """Keep what an attempt used."""
        with self._lock:
            self._runs.setdefault(run_id, {})[key] = usage
            self._runs.move_to_end(run_id)
            while len(self._runs) > _KEPT_RUNS:
                self._runs.popitem(last=False)

    def forget(self, run_id: str) -> None:
        """Forget a run that has ended."""
        with self._lock:
            self._runs.pop(run_id, None)
