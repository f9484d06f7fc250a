"""Text that goes to a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest

from inngest_plugins.core import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 👩‍💻", "plain é 漢 👩‍💻"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("a\x1b[2Jb", "a\\u001b[2Jb"),
        ("\x9b31m", "\\u009b31m"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("two\nlines\r", "two\\u000alines\\u000d"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text: str, shown: str) -> None:
    """Control and bidirectional characters are shown; letters of any script stay."""
    assert printable(text) == shown


def test_lines_may_stay_lines() -> None:
    """With `lines` breaks and tabs stay, and nothing else does."""
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb\\u000d\\u001b"


def test_every_control_character_is_escaped() -> None:
    """No character that Unicode calls control, surrogate or separator of lines is left."""
    everything = "".join(map(chr, range(0x110000)))
    left = printable(everything)
    assert {unicodedata.category(each) for each in left} & {"Cc", "Cs", "Zl", "Zp"} == set()
    bidirectional = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    assert {unicodedata.bidirectional(each) for each in left} & bidirectional == set()


def test_json_stays_json() -> None:
    """Escaping JSON text does not change what it says."""
    value = {"id": "a\u202e\x1b\x9b\u2028"}
    assert (
        json.loads(printable(json.dumps(value, ensure_ascii=False, indent=1), lines=True)) == value
    )
