"""Events that come in: checked, and as the server stores them."""

from __future__ import annotations

import typing

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.wire.meta import resolved_meta
from inngest_plugins.local.wire.protocol import canonical, decode

_EARLIEST, _LATEST = 315_532_800_000, 4_102_444_800_000  # 1980 and 2100 in milliseconds
_FIELDS: dict[str, type] = {
    "name": str,
    "data": dict,
    "id": str,
    "ts": int,
    "user": dict,
    "v": str,
    "meta": dict,
}


class InvalidEventError(ValueError):
    """Something that was sent is not an event."""


def normalised(raw: Json, internal_id: str, now: float) -> dict[str, Json]:
    """The event as the server stores it: every field present, numbers as JSON has them.

    Args:
        raw: The event as it was sent.
        internal_id: Its id when it has none of its own.
        now: Seconds since the epoch.

    Raises:
        InvalidEventError: The server would refuse it.
    """
    if not isinstance(raw, dict):
        raise InvalidEventError("an event must be a JSON object")
    raw = typing.cast("dict[str, Json]", raw)
    instant = _checked(raw, now)
    name, data, user = raw["name"], raw.get("data"), raw.get("user")
    event: dict[str, Json] = {
        "name": name,
        # The engine's own envelope is not for others to forge.
        "data": data and {key: value for key, value in data.items() if key != "_inngest"},
        "id": raw.get("id") or internal_id,
        "ts": instant,
        "user": user or {},
    }
    if raw.get("v"):
        event["v"] = raw["v"]
    try:
        if meta := resolved_meta(raw.get("meta")):
            event["meta"] = meta
        return plain(event)
    except (ValueError, RecursionError) as error:
        raise InvalidEventError(f"event {name!r} is not JSON: {error}") from None


def _checked(raw: dict[str, Json], now: float) -> int:
    """Check the fields of an event; returns its time in milliseconds."""
    name = raw.get("name")
    for field, kind in _FIELDS.items():
        value = raw.get(field)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InvalidEventError(f"event {name!r}: {field} must be of type {kind.__name__}")
    if not name:
        raise InvalidEventError("event name is empty")
    if name.lower().startswith("inngest/"):
        raise InvalidEventError(f"event name is reserved for internal use: {name}")
    instant: int = raw.get("ts") or int(now * 1000)
    if instant < _EARLIEST:
        raise InvalidEventError("timestamp is before Jan 1, 1980")
    if instant > _LATEST:
        raise InvalidEventError("timestamp is after Jan 1, 2100")
    return instant


def plain(event: dict[str, Json]) -> dict[str, Json]:
    """An event of the engine's own, with numbers as JSON has them."""
    return typing.cast("dict[str, Json]", decode(canonical(event)))
