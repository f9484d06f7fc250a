"""Sends metadata to the engine, in the engine's operations, and keeps what failed.

The engine knows four operations, all on whole top-level keys: merge, set, delete and add (a
numeric sum). Only add depends on what the engine has. A run's own metadata is sent as known
values, which may arrive twice; add is for other runs' keys.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

import httpx
import inngest

from inngest_plugins.core import EngineApi, EngineApiError

from ._changes import Changes, StepRef
from ._errors import MetadataTargetError
from ._keys import render
from ._objects import WHOLE, MetadataObject, SizeBudget
from ._operations import Document, Operation, apply
from ._values import Json, Limits, dumps

_logger = logging.getLogger("inngest_plugins.metadata")

_KEPT_RUNS: Final = 256
_ADD_WAITS: Final = (0.1, 0.5)
# Follows the kind of a step whose id is empty.
_UNNAMED: Final = ".unnamed-step"


class Target(NamedTuple):
    """The run, step or attempt that metadata belongs to.

    Attributes:
        run_id: ULID of the run.
        step: a step of it; None for the run itself.
        attempt: an attempt of the step that failed and was retried; None for its last one.
    """

    run_id: str
    step: StepRef | None = None
    attempt: int | None = None

    @property
    def address(self) -> tuple[Target, str]:
        """The engine's address, and a suffix for the kind.

        For the engine an empty step id is none, so the run shows what such a step records.
        """
        if self.step is None or self.step.id:
            return self, ""
        use = f":{self.step.use}" if self.step.use else ""
        attempt = "" if self.attempt is None else f"@{self.attempt}"
        return Target(self.run_id), f"{_UNNAMED}{use}{attempt}"

    def to_json(self) -> Json:
        """Return the `target` of the request's body."""
        if self.step is None:
            return {}
        fields = {"step_index": self.step.use or None, "step_attempt": self.attempt}
        return {"step_id": self.step.id} | {k: v for k, v in fields.items() if v is not None}

    def __str__(self) -> str:
        if self.step is None:
            return f"run {self.run_id}"
        return f"step {self.step.id!r} of run {self.run_id}"


def entries_of(kind: str, changes: Changes) -> list[Json]:
    """Return changes as the engine's operations, at most one of each kind."""
    values, deleted, others = changes.parts()
    entries: list[tuple[str, Document]] = [
        ("delete", dict.fromkeys(deleted)),
        ("set" if changes.replaced else "merge", values),
        ("add", {str(path[0]): amount for _, path, amount in others}),
    ]
    return [
        {"kind": kind, "op": op, "values": dict(changed)}
        for op, changed in entries
        if changed or op == "set"
    ]


class Update(MetadataObject):
    """The operations to send for one kind of metadata of one target.

    Its document holds only what the update sets: the engine has the rest.

    Attributes:
        changes: the operations.
    """

    __slots__ = ("changes",)

    def __init__(self, limits: Limits, what: str) -> None:
        super().__init__(None, {}, SizeBudget(limits), what)
        self.changes = Changes()

    def write(self, operations: Sequence[Operation]) -> None:
        """Add operations on metadata whose present value is not known: another run's.

        Raises:
            MetadataTargetError: the engine cannot do one without knowing the present value.
            MetadataLimitError: the update would be too large.
        """
        super().write(operations)
        for operation in operations:
            self.changes.note(operation)

    def follow(self, changes: Iterable[Operation]) -> None:
        """Add operations without checks."""
        for operation in changes:
            apply(self.document, operation)
            self.changes.note(operation)

    def show(self, document: Document, keys: Iterable[str]) -> None:
        """Bring the engine up to date with an object whose value is known.

        Args:
            document: the object.
            keys: the top-level keys that have changed, or `WHOLE`.
        """
        if WHOLE in keys:
            self.follow([("replace", (), document)])
            return
        for key in keys:
            known = key in document
            self.follow([("set", (key,), document[key]) if known else ("delete", (key,), None)])

    def take_adds(self) -> list[Operation]:
        """Remove and return the increments of unknown values."""
        adds = self.changes.parts()[2]
        for _, path, _ in adds:
            del self.changes.by_key[str(path[0])]
        return adds

    def _check(self, document: Document, operation: Operation) -> None:
        code, path, _ = operation
        if len(path) > 1 or code in ("append", "remove"):
            raise MetadataTargetError(
                f"metadata {render(path)} of {self.what}: the engine can only set, delete and "
                "increment whole top-level keys of metadata that is written from elsewhere; "
                "what is nested in it, and the items of its lists, cannot be changed without "
                "a race. Give every writer a key of its own, or write from the run itself"
            )


class Updates(dict[tuple[Target, str], Update]):
    """Updates by target and wire kind."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits

    def __bool__(self) -> bool:
        return any(update.changes for update in self.values())

    def to(self, target: Target, kind: str) -> Update:
        """Return the update of one target and wire kind."""
        if (target, kind) not in self:
            self[target, kind] = Update(self.limits, str(target))
        return self[target, kind]

    def follow(self, later: Updates) -> None:
        """Add later updates."""
        for (target, kind), update in later.items():
            self.to(target, kind).follow(update.changes)

    def take(self, targets: Iterable[Target]) -> Updates:
        """Move the updates of these of the engine's addresses out of here."""
        addresses, taken = set(targets), Updates(self.limits)
        for key in [key for key in self if key[0].address[0] in addresses]:
            taken[key] = self.pop(key)
        return taken

    def split_adds(self) -> Updates:
        """Move the increments to updates of their own."""
        adds = Updates(self.limits)
        for (target, kind), update in self.items():
            adds.to(target, kind).follow(update.take_adds())
        return adds

    def entries(self) -> Iterator[tuple[Target, list[Json]]]:
        """Yield the entries of each kind that has some, with the engine's address."""
        for (target, kind), update in self.items():
            address, suffix = target.address
            if found := entries_of(kind + suffix, update.changes):
                yield address, found

    def batches(self) -> dict[Target, list[Json]]:
        """Return the entries of each request, by target."""
        batches: dict[Target, list[Json]] = {}
        for target, found in self.entries():
            batches.setdefault(target, []).extend(found)
        return batches


class _Fate(enum.Enum):
    SENT = enum.auto()
    REFUSED = enum.auto()
    UNSENT = enum.auto()
    UNKNOWN = enum.auto()


class _Outbox:
    """What one client could not send: of each run that goes on, and everything else."""

    __slots__ = ("others", "runs")

    def __init__(self, limits: Limits) -> None:
        self.runs: OrderedDict[str, Updates] = OrderedDict()
        self.others = Updates(limits)


class Sender:
    """Sends updates, and keeps what could not be sent for the next time.

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

    def pending(self, client: inngest.Inngest, run_id: str) -> Updates | None:
        """Take what an earlier request of this run could not send; None for nothing."""
        outbox = self._outboxes.get(client)
        if outbox is None:
            return None
        with self._lock:
            return outbox.runs.pop(run_id, None)

    def has_pending(self, client: inngest.Inngest) -> bool:
        """Return whether something waits that belongs to no request to come."""
        outbox = self._outboxes.get(client)
        return outbox is not None and bool(outbox.others)

    def left(self, client: inngest.Inngest) -> Updates:
        """Take what could not be sent and belongs to no request to come."""
        with self._lock:
            outbox = self._outboxes.setdefault(client, _Outbox(self._limits))
            taken, outbox.others = outbox.others, Updates(self._limits)
            return taken

    def deliver(
        self, client: inngest.Inngest, updates: Updates, *, run_id: str | None, ended: bool
    ) -> list[str]:
        """Send updates, one request for each target.

        Args:
            client: whose engine.
            updates: what to send.
            run_id: the run of this request. What cannot be sent of its own metadata waits for its
                next request, which knows the values of then; all else waits for any request.
            ended: whether the run is over.

        Returns:
            One sentence for each request that failed; also logged, once until one succeeds.
        """
        everything = self.left(client)
        everything.follow(updates)
        problems: list[str] = []
        for target, entries in everything.batches().items():
            fate, problem = self._post(client, target, entries)
            if problem is not None:
                problems.append(problem)
            if fate in (_Fate.UNSENT, _Fate.UNKNOWN):
                kept = everything.take([target])
                if fate is _Fate.UNKNOWN:
                    kept.split_adds()
                is_own = run_id is not None and run_id == target.run_id and target.attempt is None
                self._keep(client, target, kept, of_run=is_own and not ended)
        return problems

    def _keep(
        self, client: inngest.Inngest, target: Target, kept: Updates, *, of_run: bool
    ) -> None:
        with self._lock:
            outbox = self._outboxes[client]
            if of_run:
                outbox.runs.setdefault(target.run_id, Updates(self._limits)).follow(kept)
                while len(outbox.runs) > _KEPT_RUNS:
                    outbox.runs.popitem(last=False)
            elif len(outbox.others) < _KEPT_RUNS:
                kept.follow(outbox.others.take([target]))
                outbox.others.follow(kept)

    def _post(
        self, client: inngest.Inngest, target: Target, entries: list[Json]
    ) -> tuple[_Fate, str | None]:
        # An add that may have arrived is not sent again: losing one is rare, and better than
        # counting twice.
        adds = any(entry["op"] == "add" for entry in entries)
        api = EngineApi(client, timeout=self._timeout, attempts=1 if adds else 2)
        fate, problem = _post_once(api, target, entries)
        for wait in _ADD_WAITS if adds else ():
            if fate is not _Fate.UNSENT:
                break
            time.sleep(wait)
            fate, problem = _post_once(api, target, entries)
        if problem is None:
            self._silent = False
        elif not self._silent:
            self._silent = True
            _logger.warning(
                "metadata of %s was not sent: %s. Runs are not affected; further failures are "
                "not logged until a request succeeds",
                target,
                problem,
            )
        return fate, problem


def _post_once(api: EngineApi, target: Target, entries: list[Json]) -> tuple[_Fate, str | None]:
    try:
        response = api.request_sync(
            "POST",
            f"/v1/runs/{quote(target.run_id, safe='')}/metadata",
            content=dumps({"target": target.to_json(), "metadata": entries}).encode(),
            headers={"Content-Type": "application/json"},
        )
    except Exception as err:
        cause = "" if err.__cause__ is None else f" ({type(err.__cause__).__name__})"
        return (_Fate.UNSENT if _never_arrived(err) else _Fate.UNKNOWN), f"{err}{cause}"
    if response.status_code >= httpx.codes.BAD_REQUEST:
        return _Fate.REFUSED, f"the engine answered {response.status_code}{_reason(response)}"
    return _Fate.SENT, None


def _never_arrived(err: BaseException | None) -> bool:
    """Return whether the engine certainly did nothing: it said so, or no connection was made."""
    while err is not None:
        if isinstance(err, EngineApiError) and err.status is not None:
            return True
        if isinstance(err, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return True
        err = err.__cause__
    return False


def _reason(response: httpx.Response) -> str:
    try:
        reason = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {reason[:200]}" if isinstance(reason, str) else ""
