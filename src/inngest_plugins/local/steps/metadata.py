"""Run metadata: ``POST /v1/runs/{id}/metadata`` with the server's rules and limits."""

from __future__ import annotations

import json
import logging
import typing

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState
from inngest_plugins.local.journal.store import Store

MAX_ENTRY = 65_536
MAX_RUN = 1024 * 1024
_MAX_KIND = 128
_INNGEST_KINDS = frozenset(
    f"inngest.{kind}"
    for kind in ("ai", "http", "http.timing", "response_headers", "warnings", "experiment", "score")
)
_logger = logging.getLogger("inngest_plugins.local")
_OPS = ("merge", "set", "delete", "add")


class MetadataRejectedError(Exception):
    """The server would refuse the update with ``status`` and this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def apply_update(store: Store, run: RunState, body: Json) -> None:
    """Apply the body of an update to a run; entries before a refused one stay.

    Raises:
        MetadataRejectedError: The body breaks a rule.
    """
    if not isinstance(body, dict):
        raise MetadataRejectedError(400, "Invalid metadata target")
    body = typing.cast("dict[str, Json]", body)
    target = _target(body.get("target"))
    entries = body.get("metadata")
    if entries is None:
        return
    if not isinstance(entries, list):
        raise MetadataRejectedError(400, "Invalid metadata target")
    for checked in [_check(entry) for entry in entries]:
        _keep(store, run, target, *checked)


def apply_op_metadata(
    store: Store, run: RunState, step_key: str, attempt: int, entries: Json
) -> None:
    """Apply the metadata that an op carries; what breaks a rule is left out, with a warning.

    Args:
        store: Where the run is.
        run: The run.
        step_key: The op's step.
        attempt: The attempt that reported it, from 0.
        entries: As on the wire.
    """
    targets = {"run": "run", "step": step_key, "step_attempt": f"{step_key}@{attempt}"}
    for entry in entries if isinstance(entries, list) else [entries]:
        scope = entry.get("scope") if isinstance(entry, dict) else None
        fault = _refusal(store, run, targets.get(str(scope)), entry)
        if fault:
            _logger.warning("run %s: metadata of step %r: %s", run.id, step_key, fault)


def _refusal(store: Store, run: RunState, target: str | None, entry: Json) -> str | None:
    """Store an entry, or say why not."""
    if target is None:
        return "Invalid metadata target"
    try:
        _keep(store, run, target, *_check(entry))
    except MetadataRejectedError as rejected:
        return str(rejected)
    return None


def _keep(
    store: Store, run: RunState, target: str, kind: str, op: str, values: dict[str, Json]
) -> None:
    size = sum(
        len(key.encode()) + len(json.dumps(value, separators=(",", ":")))
        for key, value in values.items()
    )
    if size > MAX_ENTRY:
        raise MetadataRejectedError(413, "Metadata span exceeds maximum size of 64KB")
    if run.is_open and run.metadata_bytes + size > MAX_RUN:
        raise MetadataRejectedError(413, "Cumulative metadata size exceeds limit")
    run.metadata_bytes += size
    kinds = run.metadata.setdefault(target, {})
    _apply(kinds.setdefault(kind, {}), op, values)
    store.save_metadata(run, target)


def _target(raw: Json) -> str:
    if raw is None or raw == {}:
        return "run"
    if not isinstance(raw, dict):
        raise MetadataRejectedError(400, "Invalid metadata target")
    raw = typing.cast("dict[str, Json]", raw)
    step_id = raw.get("step_id")
    if not isinstance(step_id, str) or not step_id:
        raise MetadataRejectedError(400, "Invalid metadata target")
    index, attempt = raw.get("step_index") or 0, raw.get("step_attempt", -1)
    if type(index) is not int or type(attempt if attempt is not None else -1) is not int:
        raise MetadataRejectedError(400, "Invalid metadata target")
    key = f"{step_id}:{index}" if index > 0 else step_id
    return key if attempt is None or attempt < 0 else f"{key}@{attempt}"


def _check(entry: Json) -> tuple[str, str, dict[str, Json]]:
    if not isinstance(entry, dict):
        raise MetadataRejectedError(400, "Invalid metadata target")
    entry = typing.cast("dict[str, Json]", entry)
    kind, values = entry.get("kind", ""), entry.get("values")
    op = str(entry.get("op") or "merge").lower()
    if op not in _OPS or not isinstance(values, dict) or not isinstance(kind, str):
        raise MetadataRejectedError(400, "Invalid metadata target")
    values = typing.cast("dict[str, Json]", values)
    if len(kind.encode()) > _MAX_KIND:
        raise MetadataRejectedError(400, "Invalid metadata")
    if kind.startswith("inngest.") and kind not in _INNGEST_KINDS:
        raise MetadataRejectedError(400, "Invalid metadata")
    if kind == "inngest.score" and not all(map(_is_score, values.items())):
        raise MetadataRejectedError(400, "Invalid metadata")
    return kind, op, values


def _is_score(item: tuple[str, Json]) -> bool:
    name, score = item
    if not name or "'" in name or any(ord(character) < 32 for character in name):
        return False
    return isinstance(score, dict) and isinstance(score.get("value"), (int, float))


def _apply(current: dict[str, Json], op: str, values: dict[str, Json]) -> None:
    if op == "set":
        current.clear()
        current.update(values)
    elif op == "delete":
        for key in values:
            current.pop(key, None)
    elif op == "add":
        for key, value in values.items():
            old = current.get(key, 0)
            both_numbers = isinstance(value, (int, float)) and isinstance(old, (int, float))
            current[key] = old + value if both_numbers else value
    else:
        current.update(values)
