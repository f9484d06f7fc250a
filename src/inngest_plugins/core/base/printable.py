"""Text that others wrote, made safe for a terminal."""

from __future__ import annotations

import re
import typing

_UNSAFE: typing.Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters (C0, C1), line separators, bidirectional controls, lone surrogates.

A terminal obeys the first (colours, titles, cursor, clipboard), the others make text read as what
it is not, and a lone surrogate cannot be written at all.
"""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Escape what a terminal would obey instead of show.

    Step ids, event names and error texts come from payloads and from other people's code. Whatever
    of them goes to a terminal or a log goes through here. Escapes are written ``\u001b``, which
    keeps JSON text valid JSON.

    Args:
        text: The text.
        lines: Whether line breaks and tabs stay as they are: for text that may have several lines.
    """

    def escaped(match: re.Match[str]) -> str:
        character = match.group()
        return character if lines and character in "\n\t" else f"\\u{ord(character):04x}"

    return _UNSAFE.sub(escaped, text)
