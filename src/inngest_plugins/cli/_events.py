"""Reads the ``--event`` option: JSON text, a file, or standard input."""

from __future__ import annotations

import json
import pathlib
import sys
import typing

import inngest

from ._errors import CliError, not_json

_KEYS: typing.Final = ("name", "data", "id", "ts")
# Part of an event on the wire, and so of one copied from a dashboard, but not of inngest.Event.
_IGNORED: typing.Final = ("user", "v")


def read_events(option: str) -> list[inngest.Event]:
    """Turn the value of ``--event`` into events.

    Args:
        option: One event ``{"name": ..., "data": {...}}`` or a list of them as JSON text;
            ``@FILE`` for a file that holds it; ``@-`` for standard input.

    Raises:
        CliError: No such file, not JSON, or not events. The message never repeats a value.
    """
    source, text = _text_of(option)
    try:
        decoded: object = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if option.startswith(("@", "{", "[")) else "; a file is given as --event @FILE"
        raise not_json(source, error, hint) from error
    events = typing.cast("list[object]", decoded) if isinstance(decoded, list) else [decoded]
    if not events:
        raise CliError(f"{source} is an empty list: give at least one event")
    many = isinstance(decoded, list)
    return [
        _event(event, f"{source}[{index}]" if many else source)
        for index, event in enumerate(events)
    ]


def _text_of(option: str) -> tuple[str, str]:
    if not option.startswith("@"):
        return "--event", option
    name = option[1:]
    if name == "-":
        return "standard input", sys.stdin.read()
    path = pathlib.Path(name)
    try:
        return str(path), path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise CliError(f"there is no file {path} (--event @{path})") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error


def _event(value: object, where: str) -> inngest.Event:
    if not isinstance(value, dict):
        raise CliError(
            f'{where} is not an event: it must be an object {{"name": ..., "data": ...}}'
        )
    fields = typing.cast("dict[str, typing.Any]", value)
    unknown = [key for key in fields if key not in _KEYS and key not in _IGNORED]
    if unknown:
        raise CliError(
            f"{where} has the unknown field {unknown[0]!r}: an event has name, data, id and ts"
        )
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise CliError(f"{where}: 'name' must be a non-empty string")
    data = fields.get("data")
    if data is not None and not isinstance(data, dict):
        raise CliError(f"{where}: 'data' must be an object")
    for key, kind, noun in (("id", str, "a string"), ("ts", int, "an integer")):
        if key in fields and (not isinstance(fields[key], kind) or isinstance(fields[key], bool)):
            raise CliError(f"{where}: {key!r} must be {noun}")
    event = inngest.Event(name=name, data=typing.cast("dict[str, typing.Any]", data or {}))
    if "id" in fields:
        event.id = fields["id"]
    if "ts" in fields:
        event.ts = fields["ts"]
    return event
