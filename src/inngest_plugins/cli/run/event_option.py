"""Reads the ``--event`` option: JSON text, a file, or standard input."""

from __future__ import annotations

import typing

import inngest

from inngest_plugins.cli._errors import CliError
from inngest_plugins.cli.streams.reading import parse_json, read_json, source_name

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
    if option == "@":
        raise CliError("--event @ names no file: --event @FILE, or --event @- for standard input")
    if option.startswith("@"):
        source = source_name(option[1:])
        decoded: object = read_json(option[1:])
    else:
        source = "--event"
        hint = "" if option.startswith(("{", "[")) else "; a file is given as --event @FILE"
        decoded = parse_json(option, source, hint)
    events = typing.cast("list[object]", decoded) if isinstance(decoded, list) else [decoded]
    if not events:
        raise CliError(f"{source} is an empty list: give at least one event")
    many = isinstance(decoded, list)
    return [
        _event(event, f"{source}[{index}]" if many else source)
        for index, event in enumerate(events)
    ]


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
