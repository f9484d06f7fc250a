"""Matches regular expressions of JSON Schemas in bounded time for every text.

JSON Schema means ECMA 262 expressions (core, section 6.4). Python's `re` reads some of them
differently and backtracks: the right text makes a pattern such as `^(a+)+$` run for years. Here a
pattern is matched by the Rust `regex` crate, which takes time linear in the text and comes with
pydantic-core. Look-around and back-references do not exist there; a pattern that needs them is
matched by the `regex` package under a time limit, where that is installed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from pydantic_core import SchemaError as CoreSchemaError
from pydantic_core import SchemaValidator, core_schema

Matcher = Callable[[str], bool]

#: Seconds that one backtracking match may take; one that takes longer counts as no match.
BACKTRACKING_SECONDS = 0.1

_DIGIT = "0-9"
_WORD = "A-Za-z0-9_"
# ECMA 262 WhiteSpace and LineTerminator; Zs is written out, as not every engine knows its name.
_SPACE = r"\t\n\x0b\x0c\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_NO_LINE_END = r"[^\n\r\u2028\u2029]"
# An escape or a class, which is kept; else a dot.
_DOT = re.compile(r"(\\.|\[(?:\\.|[^\]\\])*\])|\.", re.DOTALL)
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_BACKTRACKS = re.compile(r"\(\?(?:=|!|<=|<!)|\\[1-9]|\\k<")


class PatternError(ValueError):
    """A pattern that no installed engine can match."""


# Compiled once: row "jsonschema" of benchmarks/validation.py.
@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Matcher:
    """A function that checks whether a text contains a match of a pattern.

    Raises:
        PatternError: It is no regular expression, or needs an engine that is not installed.
    """
    if needs_backtracking(pattern):
        return _backtracking(pattern)
    return _linear(pattern)


def needs_backtracking(pattern: str) -> bool:
    """Whether a pattern uses look-around or back-references."""
    return _BACKTRACKS.search(re.sub(r"\\\\", "", pattern)) is not None


def _linear(pattern: str) -> Matcher:
    translated = translate(pattern, "rust")
    try:
        found = SchemaValidator(
            core_schema.str_schema(pattern=translated, regex_engine="rust-regex", strict=True)
        )
    except CoreSchemaError as error:
        # The first lines repeat the pattern; the crate's reason is the last one.
        reason = str(error).strip().rpartition("\n")[2].strip()
        raise PatternError(reason) from None
    return found.isinstance_python


def _backtracking(pattern: str) -> Matcher:
    try:
        regex: Any = importlib.import_module("regex")
    except ImportError:
        msg = (
            "look-around and back-references cannot be matched in linear time. Write the pattern "
            "without them (`allOf` and `not` combine patterns), or install the `regex` package "
            "to have it matched under a time limit: pip install regex"
        )
        raise PatternError(msg) from None
    try:
        compiled = regex.compile(translate(pattern, "regex"))
    except regex.error as error:
        raise PatternError(str(error)) from None

    def found(text: str) -> bool:
        try:
            return compiled.search(text, timeout=BACKTRACKING_SECONDS) is not None
        except TimeoutError:
            return False

    return found


def translate(pattern: str, flavour: Literal["rust", "regex"]) -> str:
    """An ECMA 262 pattern in the dialect of another engine, with the same meaning."""
    pattern = _SURROGATES.sub(_joined, dots_written_out(pattern))
    if flavour == "regex":
        pattern = re.sub(r"\\k<(\w+)>", r"(?P=\1)", pattern)
    out: list[str] = []
    in_class = False
    position = 0
    while position < len(pattern):
        char = pattern[position]
        following = pattern[position + 1 : position + 2]
        position += 1
        if char == "\\" and following:
            position += 1
            if following == "c" and pattern[position : position + 1].isalpha():
                out.append(f"\\x{ord(pattern[position]) % 32:02x}")
                position += 1
            else:
                out.append(_escape(following, flavour, in_class=in_class))
        elif in_class:
            in_class = char != "]"
            # Set operations inside a class mean nothing in ECMA 262.
            out.append("\\" + char if char in "[&~|" else char)
        elif char == "[":
            in_class = True
            out.append(char)
            if following == "^":
                out.append("^")
                position += 1
        elif char == "$" and flavour == "regex":
            out.append(r"\Z")
        else:
            out.append(char)
    return "".join(out)


def dots_written_out(pattern: str) -> str:
    """A pattern without the character `.`, which matches other characters in other engines.

    In ECMA 262 it is anything but the four LineTerminators; elsewhere it matches three of them.
    """
    return _DOT.sub(lambda match: match[1] or _NO_LINE_END, pattern)


def _joined(match: re.Match[str]) -> str:
    high, low = int(match[1], 16), int(match[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"


def _escape(char: str, flavour: Literal["rust", "regex"], *, in_class: bool) -> str:
    members = _CLASSES.get(char.lower())
    if members is not None:
        if char.islower():
            return members if in_class else f"[{members}]"
        if in_class and flavour == "regex":
            return "\\" + char
        return f"[^{members}]"
    if char == "0":
        return r"\x00"
    if char in "bB" and flavour == "rust" and not in_class:
        return f"(?-u:\\{char})"
    if char == "b" and in_class:
        return r"\x08"
    if char == "/":
        return char
    return "\\" + char
