"""Makes values storable: no NUL, no lone surrogates, no longer than the column."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from inngest_plugins.core import safe_text

_REFUSED = re.compile("[\x00\ud800-\udfff]")
_MESSAGE_LENGTH = 4000
_FIELDS_LENGTH = 64_000


def text(value: object, length: int = 255) -> str:
    """Return a text as PostgreSQL and SQLite store it, cut to `length` characters."""
    plain = value if isinstance(value, str) else safe_text(value)
    return _REFUSED.sub("\N{REPLACEMENT CHARACTER}", str.__str__(plain)[:length])


def is_kept(value: str) -> bool:
    """Return whether a text is stored as it is: two that are not could become the same."""
    return text(value) == value


def optional(value: object, length: int = 255) -> str | None:
    """The same, and None stays None."""
    return None if value is None else text(value, length)


def message(value: object) -> str:
    """Return the text of an error or a log line, of at most 4,000 characters."""
    return text(value, _MESSAGE_LENGTH)


def fields_text(fields: Mapping[str, object]) -> str | None:
    """Return stored fields as JSON in ASCII, or None when there are none.

    A field that is not JSON, or would make the whole longer than 64,000 characters, is left out.
    """
    kept: dict[str, object] = {}
    length = 2
    for name, value in fields.items():
        try:
            size = len(json.dumps({name: value}, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            continue
        if length + size <= _FIELDS_LENGTH:
            kept[name] = value
            length += size
    return json.dumps(kept) if kept else None
