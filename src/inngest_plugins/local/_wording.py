"""Values, lengths of time and counts in words."""

from __future__ import annotations

import json
import typing

if typing.TYPE_CHECKING:
    from ._run import Json

_ENVELOPE: typing.Final = "__ENCRYPTED__"
"""The mark by which every format of encrypted Inngest payloads can be told."""


def value_text(value: Json) -> str:
    """A JSON value on one line; an encrypted one as ``(encrypted)``, which says more."""
    if isinstance(value, dict) and value.get(_ENVELOPE) is True:
        return "(encrypted)"
    return json.dumps(value, ensure_ascii=False)


def is_sealed(message: str) -> bool:
    """Whether an error's message is encrypted."""
    return message.startswith("{") and f'"{_ENVELOPE}"' in message[:40]


def message_text(message: str) -> str:
    """An error's message with its line breaks; an encrypted one as ``(encrypted)``."""
    if is_sealed(message):
        return "(encrypted)"
    return "\n".join(line.rstrip() for line in message.strip().splitlines() if line.strip())


def reason_text(reason: str) -> str:
    """Why a run has its status; an encrypted message at its end as ``(encrypted)``."""
    head, brace, rest = reason.partition("{")
    return f"{head}(encrypted)" if is_sealed(brace + rest) else message_text(reason)


def duration_text(seconds: float) -> str:
    """A length of time for people: ``0.04 ms``, ``12 ms``, ``2.5 s``, ``30 min``, ``2.1 h``."""
    if seconds <= 0:
        return "0 ms"
    for limit, divisor, digits, unit in (
        (0.000995, 0.001, 2, "ms"),
        (0.00995, 0.001, 1, "ms"),
        (0.9995, 0.001, 0, "ms"),
        (119.95, 1, 1, "s"),
        (7197, 60, 0, "min"),
        (172620, 3600, 1, "h"),
    ):
        if seconds < limit:
            return f"{seconds / divisor:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} d"


def plural(count: int, noun: str) -> str:
    """``1 request``, ``2 requests``, ``2 retries``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"
