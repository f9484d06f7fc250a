"""Reads text and JSON from files and standard input."""

from __future__ import annotations

import json
import pathlib
import sys
import typing

from inngest_plugins.cli._errors import CliError

_DEEPEST: typing.Final = 200
"""Levels of nesting that a document may have.

The SDK and Pydantic walk payloads by recursion, in a stack that the app has filled in part.
"""


def read_text(source: str) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Args:
        source: Path of the file; ``-`` for standard input.

    Raises:
        CliError: It has no name, cannot be read, or is not UTF-8.
    """
    shown = source_name(source)
    if not source:
        # The path "" is the current folder.
        raise CliError("no file is named, where one was expected")
    try:
        if source == "-":
            return sys.stdin.read().removeprefix("\ufeff")
        return pathlib.Path(source).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise CliError(f"there is no file {shown}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{shown} is not UTF-8 text") from error
    except OSError as error:
        raise CliError(f"cannot read {shown}: {error.strerror}") from error
    except ValueError as error:
        # A null character in the name.
        raise CliError(f"cannot read {shown}: {error}") from error


def read_json(source: str) -> typing.Any:
    """Read a file or standard input as JSON.

    Args:
        source: Path of the file; ``-`` for standard input.

    Raises:
        CliError: It cannot be read, or is not JSON. The message repeats nothing of it.
    """
    return parse_json(read_text(source), source_name(source))


def parse_json(text: str, shown: str, hint: str = "") -> typing.Any:
    """Parse JSON text of a user.

    Args:
        text: The text.
        shown: What to call it in messages.
        hint: What to add to the message when it is not JSON.

    Raises:
        CliError: It is not JSON, or JSON that cannot be worked with. The message repeats nothing
            of it.
    """
    try:
        value: typing.Any = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CliError(f"{shown} is not JSON: {error.msg} at {place}{hint}") from error
    except RecursionError as error:
        raise _too_deep(shown) from error
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise CliError(f"{shown} is JSON with a number too long to read") from error
    if _is_deep(value):
        raise _too_deep(shown)
    return value


def source_name(source: str) -> str:
    """What to call a source in messages."""
    return "standard input" if source == "-" else source


def _too_deep(shown: str) -> CliError:
    return CliError(f"{shown} is JSON that nests deeper than {_DEEPEST} levels")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below += typing.cast("dict[str, object]", each).values()
            elif isinstance(each, list):
                below += typing.cast("list[object]", each)
        if not below:
            return False
        level = below
    return True
