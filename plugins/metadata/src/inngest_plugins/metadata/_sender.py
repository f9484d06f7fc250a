"""Takes updates to the engine: never twice what must not be, never at the cost of a run."""

from __future__ import annotations

import enum
import logging
import threading
import time
import weakref
from collections import OrderedDict
from urllib.parse import quote

import httpx
import inngest

from inngest_plugins.core import EngineApi, EngineApiError

from ._json import dumps
from ._limits import Limits
from ._outgoing import Batch, Target, Updates

_logger = logging.getLogger("inngest_plugins.metadata")

_KEPT_RUNS = 256
_ADD_WAITS = (0.1, 0.5)


class _Fate(enum.Enum):
    SENT = enum.auto()
    REFUSED = enum.auto()
    UNSENT = enum.auto()
    UNKNOWN = enum.auto()


class Sender:
    """Sends updates, and keeps what could not be sent for the next flush.

    Args:
        limits: sizes to keep.
        timeout: seconds that one request may take.
    """

    def __init__(self, limits: Limits, timeout: float) -> None:
        self._limits = limits
        self._timeout = timeout
        self._lock = threading.Lock()
        self._outboxes: weakref.WeakKeyDictionary[inngest.Inngest, _Outbox] = (
            weakref.WeakKeyDictionary()
        )
        self._silent = False

    def pending(self, client: inngest.Inngest, run_id: str) -> Updates:
        """Take what an earlier request of this run could not send."""
        with self._lock:
            return self._outbox(client).runs.pop(run_id, None) or Updates(self._limits)

    def has_pending(self, client: inngest.Inngest) -> bool:
        """Tell whether there is something to send that no run will ask for."""
        with self._lock:
            outbox = self._outboxes.get(client)
            return outbox is not None and bool(outbox.others)

    def left(self, client: inngest.Inngest) -> Updates:
        """Take what could not be sent and belongs to no request to come."""
        with self._lock:
            outbox = self._outbox(client)
            taken, outbox.others = outbox.others, Updates(self._limits)
            return taken

    def deliver(
        self, client: inngest.Inngest, updates: Updates, *, run_id: str | None, ended: bool
    ) -> list[str]:
        """Send updates, one request for each target.

        Args:
            client: whose engine.
            updates: what to send.
            run_id: the run whose request this is. What cannot be sent of its own metadata waits
                for its next request, which knows the values of then; all else waits for anybody's.
            ended: whether the run is over.

        Returns:
            One sentence for each request that failed; also logged, once until one succeeds.
        """
        with self._lock:
            outbox = self._outbox(client)
            everything, outbox.others = outbox.others, Updates(self._limits)
        everything.follow(updates)
        problems: list[str] = []
        for batch in everything.batches():
            fate, problem = self._post(client, batch)
            if problem is not None:
                problems.append(problem)
            if fate in (_Fate.UNSENT, _Fate.UNKNOWN):
                kept = everything.take(batch.target)
                if fate is _Fate.UNKNOWN:
                    kept.drop_adds()
                self._keep(outbox, batch.target, kept, run_id=run_id, ended=ended)
        return problems

    def _keep(
        self, outbox: _Outbox, target: Target, kept: Updates, *, run_id: str | None, ended: bool
    ) -> None:
        with self._lock:
            if (
                run_id is not None
                and run_id == target.run_id
                and target.attempt is None
                and not ended
            ):
                outbox.runs.setdefault(run_id, Updates(self._limits)).follow(kept)
                while len(outbox.runs) > _KEPT_RUNS:
                    outbox.runs.popitem(last=False)
            elif len(outbox.others) < _KEPT_RUNS:
                kept.follow(outbox.others.take(target))
                outbox.others.follow(kept)

    def _outbox(self, client: inngest.Inngest) -> _Outbox:
        return self._outboxes.setdefault(client, _Outbox(self._limits))

    def _post(self, client: inngest.Inngest, batch: Batch) -> tuple[_Fate, str | None]:
        # An add that may have arrived is not repeated: losing one is the lesser error, and rare.
        api = EngineApi(client, timeout=self._timeout, attempts=1 if batch.adds else 2)
        fate, problem = _post_once(api, batch)
        for wait in _ADD_WAITS if batch.adds else ():
            if fate is not _Fate.UNSENT:
                break
            time.sleep(wait)
            fate, problem = _post_once(api, batch)
        if problem is None:
            self._silent = False
        elif not self._silent:
            self._silent = True
            _logger.warning(
                "metadata of %s was not sent: %s. Runs are not affected; further failures are "
                "not logged until a request succeeds",
                batch.target,
                problem,
            )
        return fate, problem


class _Outbox:
    """What could not be sent by one client."""

    __slots__ = ("others", "runs")

    def __init__(self, limits: Limits) -> None:
        self.runs: OrderedDict[str, Updates] = OrderedDict()
        self.others = Updates(limits)


def _post_once(api: EngineApi, batch: Batch) -> tuple[_Fate, str | None]:
    path = f"/v1/runs/{quote(batch.target.run_id, safe='')}/metadata"
    try:
        response = api.request_sync(
            "POST",
            path,
            content=dumps(batch.to_json()).encode(),
            headers={"Content-Type": "application/json"},
        )
    except Exception as err:
        return (_Fate.UNSENT if _never_arrived(err) else _Fate.UNKNOWN), _describe(err)
    if response.status_code >= httpx.codes.BAD_REQUEST:
        return _Fate.REFUSED, f"the engine answered {response.status_code}{_reason(response)}"
    return _Fate.SENT, None


def _never_arrived(err: BaseException | None) -> bool:
    """Tell whether the engine surely did nothing: it said so, or no connection was made."""
    while err is not None:
        if isinstance(err, EngineApiError) and err.status is not None:
            return True
        if isinstance(err, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return True
        err = err.__cause__
    return False


def _describe(err: BaseException) -> str:
    cause = "" if err.__cause__ is None else f" ({type(err.__cause__).__name__})"
    return f"{err}{cause}"


def _reason(response: httpx.Response) -> str:
    try:
        reason = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {reason[:200]}" if isinstance(reason, str) else ""
