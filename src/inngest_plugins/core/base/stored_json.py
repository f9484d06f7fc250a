"""Values as they come back from the engine, which keeps JSON in canonical form (RFC 8785)."""

from __future__ import annotations

import decimal
import json
import sys
from operator import itemgetter
from typing import Any, Final

_EXACT: Final = 2**53
_EXACT_DIGITS: Final = 16
"""An integer of fewer characters is below 2**53."""

_ECMA_EXPONENT: Final = 1e21
"""From here on ECMAScript writes a number with an exponent, which JSON parsers read as a float."""

_LARGEST: Final = int(sys.float_info.max)

_SURROGATE: Final = "\\ud"
"""How the escape of every surrogate begins. (That of U+D000 begins so, too.)"""


def read_number(text: str) -> float | int:
    """Read a number with a fraction or an exponent: `1.0` comes back as `1`.

    For the `parse_float` of `json.loads`.
    """
    number = float(text)
    if not number.is_integer() or abs(number) >= _ECMA_EXPONENT:
        return number
    # The shortest digits that name the double, then zeros: not the double's exact value.
    return int(number) if abs(number) <= _EXACT else int(decimal.Decimal(repr(number)))


def read_integer(text: str) -> float | int:
    """Read an integer: beyond 2**53 it comes back as the nearest double.

    For the `parse_int` of `json.loads`.
    """
    if len(text) < _EXACT_DIGITS or abs(number := int(text)) <= _EXACT:
        return int(text)
    return read_number(text) if abs(number) < _LARGEST else number


def through_the_wire(value: Any) -> Any:
    """Return the value that a replay gives for one that a step returned.

    The engine keeps JSON and writes it in canonical form (RFC 8785): a tuple comes back as a list,
    `1.0` as `1`, keys in order, an integer beyond 2**53 as the nearest double.

    Raises:
        TypeError: it is not JSON.
        ValueError: it holds NaN or an infinity, which JSON lacks, refers to itself, or has a lone
            surrogate, which UTF-8 lacks: what a replay gives for that is the engine's to say.
    """
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        value.encode()
        return value
    text = json.dumps(value, allow_nan=False)
    if _SURROGATE in text:
        # Most of them are pairs, such as those of an emoji.
        json.dumps(value, ensure_ascii=False).encode()
    return json.loads(
        text,
        parse_float=read_number,
        parse_int=read_integer,
        object_pairs_hook=_sorted,
    )


def _sorted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(pairs, key=itemgetter(0)))
