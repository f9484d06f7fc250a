"""Schemas in files and folders.

A folder is read whole, once; references between its files are then resolved among what was read,
under addresses that no network resolves (RFC 2606, `.invalid`). So no reference, whatever it says,
opens a file or a connection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from urllib.parse import quote

import yaml

from ._dialects import Contents, Library
from ._violations import SchemaError

SUFFIXES = (".json", ".yaml", ".yml")

#: The keyword that names the event of a file where its path does not: "shop/*".
EVENT_KEYWORD = "x-event"

_BASE = "https://schemas.invalid/"


def read_schema(path: Path) -> Contents:
    """Read one schema file.

    Raises:
        SchemaError: It cannot be read, or holds no schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the schema file {path} cannot be read: {error}"
        raise SchemaError(msg) from None
    try:
        contents = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        msg = f"the schema file {path} is not {path.suffix[1:].upper()}: {error}"
        raise SchemaError(msg) from None
    if not isinstance(contents, dict | bool):
        msg = f"the schema file {path} holds no schema: that is an object, or true or false"
        raise SchemaError(msg)
    return cast("Contents", contents)


def read_folder(folder: Path) -> tuple[Library, dict[str, str]]:
    """Read every schema below a folder.

    A file stands for the event its path spells: `shop/order.placed.json` for `shop/order.placed`,
    or for the one its keyword `x-event` names. Files and folders whose name begins with `_` hold
    definitions for others to refer to. Links that lead out of the folder are refused.

    Returns:
        The documents by address, and the addresses by event name.

    Raises:
        SchemaError: The folder or a file cannot be read, or two files stand for one event.
    """
    root = folder.resolve()
    if not root.is_dir():
        msg = f"{folder} is no folder of schemas: {root} is not a folder"
        raise SchemaError(msg)
    documents: dict[str, Contents] = {}
    events: dict[str, str] = {}
    for path in sorted(each for each in root.rglob("*") if each.suffix in SUFFIXES):
        if not path.resolve().is_relative_to(root):
            msg = f"the schema file {path} is a link that leads out of {folder}"
            raise SchemaError(msg)
        relative = path.relative_to(root)
        contents = read_schema(path)
        uri = _BASE + quote(relative.as_posix(), safe="/*@")
        documents[uri] = contents
        name = _event_name(relative, contents)
        if name is None:
            continue
        if name in events:
            msg = f"two files in {folder} stand for the event {name!r}: {relative} is the second"
            raise SchemaError(msg)
        events[name] = uri
    if not events:
        msg = f"{folder} holds no schema of an event (files named {', '.join(SUFFIXES)})"
        raise SchemaError(msg)
    return Library(documents, where=f"folder {folder}"), events


def _event_name(relative: Path, contents: Contents) -> str | None:
    named = contents.get(EVENT_KEYWORD) if isinstance(contents, Mapping) else None
    if named is not None:
        return str(named)
    if any(part.startswith("_") for part in relative.parts):
        return None
    return relative.with_suffix("").as_posix()
