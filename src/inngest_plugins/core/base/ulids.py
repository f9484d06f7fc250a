"""ULIDs, the ids of runs and events: their number and their time."""

from __future__ import annotations

from typing import Final

_LENGTH: Final = 26
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE_32: Final = "0123456789abcdefghijklmnopqrstuv"
_DIGITS: Final = dict(
    zip((_CROCKFORD + _CROCKFORD.lower()).encode(), (2 * _BASE_32).encode(), strict=True)
)
_TO_BASE_32: Final = bytes(_DIGITS.get(code, ord("!")) for code in range(256))
"""Translates Crockford's digits, in which ULIDs are written, to those of `int(text, 32)`."""


def ulid_value(text: str) -> int | None:
    """Return the 128 bits of a ULID; None for another text.

    Args:
        text: a run id or an event id, in either case.
    """
    if len(text) != _LENGTH or text[0] > "7":
        return None
    try:
        return int(text.encode("ascii").translate(_TO_BASE_32), 32)
    except ValueError:
        return None


def ulid_time(text: str) -> int | None:
    """Return when a ULID was made, in milliseconds since the epoch; None for another text."""
    value = ulid_value(text)
    return None if value is None else value >> 80
