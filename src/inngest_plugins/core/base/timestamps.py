"""Reads the dates that engines write (RFC 3339), the same on every Python."""

from __future__ import annotations

import datetime
import re
from typing import Final

_FRACTION: Final = re.compile(r"\.(\d+)")


def parse_timestamp(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 date.

    Args:
        text: the date. Any number of digits may follow the seconds; those beyond microseconds do
            not count. A date without an offset is in UTC.

    Raises:
        ValueError: it is not a date.
    """
    # Python 3.10 reads neither "Z" nor fractions of other than three or six digits.
    normal = _FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", text.replace("Z", "+00:00"), 1)
    instant = datetime.datetime.fromisoformat(normal)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=datetime.timezone.utc)
    return instant.timestamp()
