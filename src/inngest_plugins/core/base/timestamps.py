"""Dates and ULIDs as engines write them, read the same on every Python."""

from __future__ import annotations

import datetime
import re
from typing import Final


def parse_timestamp(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 date.

    Args:
        text: the date. Any number of digits may follow the seconds; those beyond microseconds do
            not count. A date without an offset is in UTC.

    Raises:
        ValueError: it is not a date.
    """
    # Python 3.10 reads neither "Z" nor fractions of other than three or six digits.
    normal = re.sub(
        r"\.(\d+)", lambda match: f".{match[1][:6]:0<6}", text.replace("Z", "+00:00"), count=1
    )
    instant = datetime.datetime.fromisoformat(normal)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=datetime.timezone.utc)
    return instant.timestamp()


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
