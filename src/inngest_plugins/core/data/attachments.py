"""Values that travel with payloads, hidden from handlers and from plugins of other layers.

A step's attachments are joined with its result once the CONTEXT and CONTRACT plugins have seen the
result, and before WIRE plugins do; on the way in they are split off again right behind WIRE. So
validation sees the value alone, and encryption covers both.

On the wire (inside any encryption) a result with attachments is
`{"__inngest_plugins__": 1, "value": <result>, "attachments": {<key>: <value>}}`. A result of user
code that happens to have exactly that shape is wrapped once more, so that splitting gives it back.
An invoke's attachments are the key `_inngest_plugins` of its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MARKER: Final = "__inngest_plugins__"
_SHAPE: Final = frozenset({MARKER, "value", "attachments"})

EVENT_KEY: Final = "_inngest_plugins"
"""The key of an invoke's data that holds its attachments."""


def is_joined(value: object) -> bool:
    """Return whether a value is a result joined with attachments."""
    return (
        type(value) is dict
        and len(value) == len(_SHAPE)
        and value.get(MARKER) == 1
        and value.keys() == _SHAPE
        and type(value["attachments"]) is dict
    )


def join(value: Any, attachments: Mapping[str, Any] | None) -> Any:
    """Return the value with its attachments; the value itself when there is nothing to add."""
    if not attachments and not is_joined(value):
        return value
    return {MARKER: 1, "value": value, "attachments": dict(attachments or {})}
