"""The JSON Schema drafts that are understood, and schemas checked against their meta-schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY as META_SCHEMAS  # type: ignore[import-untyped]
from referencing import Registry, Resource, Specification
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012

from ._engine import without_text_keywords
from ._graph import Schema
from ._violations import SchemaError, pointer_to

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
        SchemaError: A document is no valid schema.
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
    except (TypeError, ValueError, RecursionError) as error:
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
