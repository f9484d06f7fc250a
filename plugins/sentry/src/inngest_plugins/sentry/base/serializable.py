"""Predicts whether the SDK can send an output as JSON.

The SDK finds out only after the last hook, and answers with an error that no plugin sees.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_KEYS: Final = _LEAVES
_MAX_VALUES = 50_000  # some 3 ms; the SDK itself serializes the output twice on the event loop
_MAX_DEPTH = 200


def serialization_error(value: object) -> Exception | None:
    """Return the error with which `json.dumps` will fail for this value, or None.

    Plain JSON types are recognised by their types alone, in about 40 ns a value. For anything else,
    very deep nesting included, `json.dumps` decides.

    Args:
        value: an output. Of a very big one only the first 50 000 values are looked at.
    """
    if type(value) in _LEAVES:
        return None
    pending: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while pending:
        container, depth = pending.pop()
        kind = type(container)
        items: Iterable[object]
        if kind is dict:
            mapping: dict[object, object] = container  # type: ignore[assignment]
            if any(type(key) not in _KEYS for key in mapping):
                return _dumps_error(value)
            items = mapping.values()
            seen += len(mapping)
        elif kind is list or kind is tuple:
            sequence: list[object] = container  # type: ignore[assignment]
            items = sequence
            seen += len(sequence)
        else:
            return _dumps_error(value)
        if depth > _MAX_DEPTH:
            return _dumps_error(value)
        if seen > _MAX_VALUES:
            return None
        pending.extend((item, depth + 1) for item in items if type(item) not in _LEAVES)
    return None


def _dumps_error(value: object) -> Exception | None:
    try:
        json.dumps(value)
    except Exception as err:
        return err
    return None
