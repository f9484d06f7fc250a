"""Reads JSON Schema documents from files and checks them against their draft.

A folder is read whole, once; references between its files are then resolved among what was read,
under addresses that no network resolves (RFC 2606, `.invalid`). So no reference can open a file or
a connection.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import jsonschema
import yaml
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY as META_SCHEMAS  # type: ignore[import-untyped]
from referencing import Registry, Resource, Specification
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012

from inngest_plugins.core import safe_repr

from .graph import Schema, SchemaGraph
from .schema import SUFFIXES, SchemaError, pointer_to

_DIALECTS: dict[str, tuple[Specification[Any], Any]] = {
    "http://json-schema.org/draft-04/schema": (DRAFT4, jsonschema.Draft4Validator),
    "http://json-schema.org/draft-06/schema": (DRAFT6, jsonschema.Draft6Validator),
    "http://json-schema.org/draft-07/schema": (DRAFT7, jsonschema.Draft7Validator),
    "https://json-schema.org/draft/2019-09/schema": (
        DRAFT201909,
        jsonschema.Draft201909Validator,
    ),
    "https://json-schema.org/draft/2020-12/schema": (
        DRAFT202012,
        jsonschema.Draft202012Validator,
    ),
}
DEFAULT_DIALECT = "https://json-schema.org/draft/2020-12/schema"


#: A schema as users write it.
Contents = Mapping[str, Any] | bool


class Library:
    """Documents that refer to one another, checked once and shared by all schemas among them.

    Args:
        documents: The documents by URI. References lead to these and nowhere else.
        where: What they are, to begin error messages with.

    Raises:
        SchemaError: A document is not a valid schema.
    """

    def __init__(self, documents: Mapping[str, Contents] | None = None, *, where: str = "") -> None:
        self.documents: dict[str, Schema] = {}
        resources: list[tuple[str, Resource[Any]]] = []
        for uri, contents in (documents or {}).items():
            place = f"{where}, {uri}"
            schema = self.documents[uri] = plain(contents, place)
            specification, checker = _DIALECTS[_known(_named(schema))]
            _check(schema, checker, place)
            # jsonschema would look up a class of its own by `$schema`, and drop our keywords.
            undialected = without_text_keywords(schema, {"$schema"})
            resources.append((uri, specification.create_resource(undialected)))
        self.registry: Registry[Any] = META_SCHEMAS.with_resources(resources)
        # The Rust engine's own registry, made by it when it first needs one.
        self.compiled: dict[str, Any] = {}


def plain(contents: Contents, where: str) -> Schema:
    """A deep copy of a schema as plain JSON, so that editing the original changes nothing."""
    try:
        return cast("Schema", json.loads(json.dumps(contents, allow_nan=False)))
    except RecursionError:
        msg = f"{where}: the schema nests too deeply"
        raise SchemaError(msg) from None
    except (TypeError, ValueError) as error:
        msg = f"{where}: the schema is no JSON value: {error}"
        raise SchemaError(msg) from None


def dialect_of(
    contents: Schema, library: Library, where: str
) -> tuple[Specification[Any], frozenset[str] | None]:
    """The dialect of a checked schema, and the vocabularies if a custom meta-schema limits them.

    Raises:
        SchemaError: It names a dialect that is unknown, or it is invalid in its own.
    """
    uri = _named(contents) or DEFAULT_DIALECT
    vocabularies: frozenset[str] | None = None
    if uri not in _DIALECTS:
        named = [each for key, each in library.documents.items() if uri in {key, _id(each)}]
        if not named or not isinstance(named[0], dict):
            known = ", ".join(_DIALECTS)
            msg = f"{where}: at /$schema: {uri!r} is no dialect this supports: {known}"
            raise SchemaError(msg)
        declared = named[0].get("$vocabulary")
        if isinstance(declared, dict):
            vocabularies = frozenset(cast("dict[str, Any]", declared))
        uri = _known(_named(named[0]))
    specification, checker = _DIALECTS[uri]
    _check(contents, checker, where)
    return specification, vocabularies


def refers_to_another(document: Document) -> bool:
    """Whether a schema refers to the meta-schema of another draft than its own."""
    reached = [_DIALECTS.get(uri) for uri in document.graph.dialects()]
    return any(each is None or each[0] != document.specification for each in reached)


def _named(contents: Schema) -> str:
    """The dialect a document names, "" for none."""
    named = contents.get("$schema", "") if isinstance(contents, dict) else ""
    return str(named).removesuffix("#")


def _known(uri: str) -> str:
    return uri if uri in _DIALECTS else DEFAULT_DIALECT


def _id(contents: Schema) -> object:
    return contents.get("$id") if isinstance(contents, dict) else None


def _check(contents: Schema, checker: Any, where: str) -> None:
    # Without a format checker: `pattern` is an ECMA 262 expression, not one of Python's.
    error: Any = best_match(checker(checker.META_SCHEMA).iter_errors(contents))
    if error is not None:
        place = pointer_to(tuple(error.absolute_path)) or "the root"
        msg = f"{where}: at {place}: the schema is invalid: {error.message}"
        raise SchemaError(msg)


#: The keyword that names the event of a file where its path does not: "shop/*".
EVENT_KEYWORD = "x-event"

_BASE = "https://schemas.invalid/"


def read_schema(path: Path) -> Contents:
    """Read one schema file.

    Raises:
        SchemaError: It cannot be read, or holds no schema.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: the path, or the text, is none
        msg = f"the schema file {path} cannot be read: {error}"
        raise SchemaError(msg) from None
    try:
        contents = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except RecursionError:
        msg = f"the schema file {path} nests too deeply"
        raise SchemaError(msg) from None
    except (ValueError, yaml.YAMLError) as error:
        msg = f"the schema file {path} is not {path.suffix[1:].upper()}: {error}"
        raise SchemaError(msg) from None
    if not isinstance(contents, dict | bool):
        msg = f"the schema file {path} holds no schema: that is an object, or true or false"
        raise SchemaError(msg)
    return cast("Contents", contents)


def read_folder(folder: Path) -> tuple[Library, dict[str, str]]:
    """Read every schema below a folder.

    A file is the schema of the event that its path spells (`shop/order.placed.json` for
    `shop/order.placed`), or of the one that its keyword `x-event` names. Files and folders whose
    name begins with `_` hold definitions for others to refer to. Links that lead out of the folder
    are refused.

    Returns:
        The documents by address, and the addresses by event name.

    Raises:
        SchemaError: The folder or a file cannot be read, or two files name one event.
    """
    try:
        root = folder.resolve()
    except (OSError, ValueError) as error:
        msg = f"{safe_repr(str(folder))} is no folder of schemas: {error}"
        raise SchemaError(msg) from None
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


Failure = tuple[tuple["str | int", ...], str, object]
"""A broken rule: where in the value, the keyword, and the keyword's value in the schema."""


@dataclass(frozen=True)
class Document:
    """A schema, checked and ready to be compiled."""

    contents: Schema
    base_uri: str
    """Its address among the other documents; "" for a schema on its own."""

    specification: Specification[Any]
    """Its dialect."""

    library: Library
    """Everything else a reference may lead to."""

    graph: SchemaGraph
    vocabularies: frozenset[str] | None = None
    """Those of a custom meta-schema; None for all."""


class Engine(ABC):
    """A compiled JSON Schema."""

    def quick(self) -> Callable[[object], bool] | None:
        """A function that only checks whether a value is valid, where the engine has a faster one.

        It may raise anything for a value that is not JSON.
        """
        return None

    @abstractmethod
    def failures(self, value: object, *, first_only: bool = False) -> Sequence[Failure]:
        """All broken rules in any order, or at least one of them."""


# The values of these keywords are data, also where a key has the name of a keyword.
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples"})


def without_text_keywords(contents: Any, keywords: Collection[str]) -> Any:
    """A copy of a schema without some keywords whose values are strings."""
    if isinstance(contents, dict):
        members: dict[str, Any] = contents
        return {
            key: value if key in _DATA_KEYWORDS else without_text_keywords(value, keywords)
            for key, value in members.items()
            if not (key in keywords and isinstance(value, str))
        }
    if isinstance(contents, list):
        items: list[Any] = contents
        return [without_text_keywords(each, keywords) for each in items]
    return contents


def with_patterns(contents: Any, rewritten: Callable[[str], str]) -> Any:
    """A copy of a schema with its regular expressions rewritten."""
    if isinstance(contents, list):
        items: list[Any] = contents
        return [with_patterns(each, rewritten) for each in items]
    if not isinstance(contents, dict):
        return contents
    members: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", contents).items():
        if key in _DATA_KEYWORDS:
            members[key] = value
        elif key == "pattern" and isinstance(value, str):
            members[key] = rewritten(value)
        elif key == "patternProperties" and isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            members[key] = {
                rewritten(name): with_patterns(each, rewritten) for name, each in inner.items()
            }
        else:
            members[key] = with_patterns(value, rewritten)
    return members
