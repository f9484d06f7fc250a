"""Deferred functions: what a run asks to start when it has ended.

The rules are those of the server (``pkg/execution/defers``, ``saveDefer.lua``): the first input of
an id counts, what was aborted stays so, and what breaks a limit is dropped while the run goes on.
"""

from __future__ import annotations

import logging
import typing
from collections.abc import Iterator

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import DeferState, RunState, size
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.ids import (
    app_uuid,
    decode_ulid,
    deterministic_ulid,
    function_uuid,
)
from inngest_plugins.local.wire.meta import resolved_meta
from inngest_plugins.local.wire.protocol import canonical, decode
from inngest_plugins.local.wire.trace_ids import trace_and_span_id

from .ops import Op

MAX_DEFERS = 20
MAX_DEFER_INPUT = 4 * 1024 * 1024
"""Bytes of the inputs of all deferred functions of a run."""

EVENT_NAME = "inngest/deferred.schedule"

_logger = logging.getLogger("inngest_plugins.local")


class Defers:
    """Keeps what runs defer.

    Args:
        app_id: The app, for ids.
        store: The state.
    """

    def __init__(self, app_id: str, store: Store) -> None:
        self._app_id = app_id
        self._store = store

    def apply(self, run: RunState, op: Op) -> bool:
        """Do what a ``DeferAdd`` or ``DeferAbort`` says; whether that changed anything."""
        return self._add(run, op) if op["op"] == "DeferAdd" else self._abort(run, op)

    def _add(self, run: RunState, op: Op) -> bool:
        hashed_id = str(op.get("id"))
        if hashed_id in run.defers:
            return False
        if len(run.defers) >= MAX_DEFERS:
            self._warn(run, hashed_id, f"a run may defer {MAX_DEFERS} functions")
            return False
        opts = op.get("opts")
        opts = typing.cast("dict[str, Json]", opts if isinstance(opts, dict) else {})
        userland = op.get("userland")
        deferred = DeferState(
            hashed_id=hashed_id,
            id=str(userland.get("id") or hashed_id) if isinstance(userland, dict) else hashed_id,
            function_id=str(opts.get("fn_slug") or ""),
            status="AfterRun",
            meta=opts.get("meta"),
        )
        fault = self._fault(run, opts)
        if fault:
            self._warn(run, hashed_id, fault)
            deferred.status, deferred.meta = "Rejected", None
        else:
            deferred.input = canonical(opts["input"])
        self._store.save_defer(run, deferred)
        return True

    def _fault(self, run: RunState, opts: dict[str, Json]) -> str | None:
        """Why the server would not take it."""
        if not isinstance(opts.get("fn_slug"), str) or not opts["fn_slug"]:
            return "it names no function"
        if not isinstance(opts.get("input"), dict):
            return "its input is not a JSON object"
        try:
            resolved_meta(opts.get("meta"))
        except ValueError as error:
            return f"its {error}"
        used = sum(size(other.input) for other in run.defers.values())
        if used + size(canonical(opts["input"])) > MAX_DEFER_INPUT:
            return f"the inputs of a run's deferred functions may have {MAX_DEFER_INPUT} bytes"
        return None

    def _warn(self, run: RunState, hashed_id: str, why: str) -> None:
        _logger.warning(
            "run %s: a deferred function is dropped and the run goes on (id %.40s): %s",
            run.id,
            hashed_id,
            why,
        )

    def _abort(self, run: RunState, op: Op) -> bool:
        opts = op.get("opts")
        target = opts.get("target_hashed_id") if isinstance(opts, dict) else None
        deferred = run.defers.get(target) if isinstance(target, str) else None
        if deferred is None or deferred.status == "Aborted":
            return False
        deferred.status, deferred.input, deferred.meta = "Aborted", "", None
        self._store.save_defer(run, deferred)
        return True

    def take_events(
        self, run: RunState, now: float
    ) -> Iterator[tuple[DeferState, dict[str, Json]]]:
        """The events that start what an ended run deferred; each is given once.

        Args:
            run: The run.
            now: Seconds since the epoch.
        """
        for deferred in run.defers.values():
            if deferred.status != "AfterRun":
                continue
            event = self._event(run, deferred, now)
            deferred.status = "Started"
            self._store.save_defer(run, deferred)
            yield deferred, event

    def _event(self, run: RunState, deferred: DeferState, now: float) -> dict[str, Json]:
        _, span = trace_and_span_id(f"defer-span:{run.id}:{deferred.hashed_id}".encode())
        ulid = decode_ulid(run.id)
        parent = trace_and_span_id(ulid)[1]
        carrier: dict[str, Json] = {
            "fn_slug": deferred.function_id,
            "parent_app_id": app_uuid(self._app_id),
            "parent_defer_span": {
                "dsid": span,
                "dstp": f"00-{run.state_trace_id}-{parent}-00",
                "tp": f"00-{run.state_trace_id}-{span}-00",
                "ts": "",
            },
            "parent_fn_id": function_uuid(self._app_id, run.function_id),
            "parent_fn_slug": run.function_id,
            "parent_run_id": run.id,
        }
        event: dict[str, Json] = {
            "name": EVENT_NAME,
            "id": deterministic_ulid(
                decode_ulid(run.id), f"defer-event:{run.id}:{deferred.hashed_id}"
            ),
            "ts": int(now * 1000),
            "user": {},
            "data": {**decode(deferred.input), "_inngest": carrier},
        }
        if meta := resolved_meta(deferred.meta):
            event["meta"] = meta
        return event
