"""Compiles JSON Schema documents."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .documents import (
    Contents,
    Document,
    Engine,
    Failure,
    Library,
    dialect_of,
    plain,
    refers_to_another,
)
from .graph import Schema, SchemaGraph
from .json_values import deeper_than, exceeds, json_form
from .patterns import PatternError, matcher
from .python_engine import PythonEngine
from .schema import (
    CompiledSchema,
    EngineName,
    Rejection,
    SchemaError,
    Violation,
    capped,
    pointer_to,
    shortened,
)

#: How deep a value may nest under a schema that recurses (or compares whole items). The engines
#: recurse along with it, and the Rust one would overflow a small thread's stack.
MAX_DEPTH = 64

# With more members than this only the first violation is looked for: the Rust engine takes 16 us
# for each violation it lists, and lists all of them.
_MAX_LISTED = 20_000

# Visits that an exponential evaluation may take: some tenths of a second.
_MAX_UNION_VISITS = 2_000


class JsonSchema(CompiledSchema[dict[str, Any]]):
    """A JSON Schema, of draft 4, 6, 7, 2019-09 or 2020-12.

    `format` only annotates, as draft 2020-12 has it and for all drafts alike.

    Args:
        contents: The schema.
        where: What it is for, to begin error messages with.
        engine: "jsonschema", "jsonschema-rs", or "auto" for the second where it is installed.
        library: Documents that references may lead to; none but the schema itself by default.
        base_uri: The address of the schema among them.

    Raises:
        SchemaError: The schema is invalid, refers to something that is not there, or has a
            pattern that cannot be matched.
    """

    coerces = False

    def __init__(
        self,
        contents: Contents,
        *,
        where: str,
        engine: EngineName = "auto",
        library: Library | None = None,
        base_uri: str = "",
    ) -> None:
        self._contents = plain(contents, where)
        self._library = Library() if library is None else library
        self._base_uri = base_uri
        document = _document(self._contents, where, self._library, base_uri)
        self._names = document.graph.names()
        self._guarded = (
            document.graph.recursive or document.graph.dynamic or document.graph.uses("uniqueItems")
        )
        self.engine_name = _chosen(engine, where)
        if refers_to_another(document):
            # The Rust engine reads the meta-schema of another draft as one of its own.
            self.engine_name = "jsonschema"
        self._engine = _compile(document, self.engine_name, where)
        # Row "jsonschema-rs, valid" of benchmarks/validation.py: no list of failures is made.
        self._quick = self._engine.quick()
        branches = document.graph.ambiguous_branches()
        if branches > 1 and self.engine_name == "jsonschema-rs":
            # The Rust engine finds quickly that a value is invalid, but takes exponential time to
            # say where, if the schema recurses through several members of a union.
            self._engine = PythonEngine(document)
        self._max_depth = MAX_DEPTH
        if branches > 1 and document.graph.dynamic:
            # Neither engine can remember what it found behind a dynamic reference.
            self._max_depth = int(math.log(_MAX_UNION_VISITS) / math.log(branches))

    def parse(self, value: object, *, mask_keys: bool = False) -> dict[str, Any]:
        """See `CompiledSchema.parse`: returns the very value, which it only checks."""
        if self._guarded and deeper_than(value, self._max_depth):
            raise Rejection.of("depth", f"at most {self._max_depth} levels of nesting")
        if self._quick is not None and self._passes_as_it_is(value):
            return cast("dict[str, Any]", value)
        declared = self._names if mask_keys else None
        form = json_form(value, declared)
        try:
            if self._quick is None:
                failures = self._engine.failures(form)
                if not failures:
                    return cast("dict[str, Any]", value)
            else:
                if form is not value and self._quick(form):
                    return cast("dict[str, Any]", value)
                failures = self._listed(form)
            rejection = self._rejection(failures, mask_keys=mask_keys)
        except RecursionError:
            rejection = Rejection.of("depth", "less nesting")
        except Exception as error:
            rejection = Rejection.of(
                "json", f"a JSON value (the engine stopped with {type(error).__name__})"
            )
        raise rejection

    def _passes_as_it_is(self, value: object) -> bool:
        # The Rust engine raises for most values whose JSON form is another one.
        try:
            return bool(self._quick is not None and self._quick(value))
        except Exception:
            return False

    def _listed(self, value: object) -> Sequence[Failure]:
        if not exceeds(value, depth=MAX_DEPTH, members=_MAX_LISTED):
            return self._engine.failures(value)
        try:
            return self._engine.failures(value, first_only=True)
        except (RecursionError, ValueError):
            # To describe a failure the Rust engine copies the value, which fails at 255 levels.
            return ()

    def _rejection(self, failures: Sequence[Failure], *, mask_keys: bool) -> Rejection:
        if not failures:
            return Rejection.of("schema", "a value that satisfies the schema")
        declared = self._names if mask_keys else None
        return capped(
            [
                Violation(pointer_to(path, declared), rule, expectation(rule, wanted))
                for path, rule, wanted in sorted(failures, key=_order)
            ]
        )

    def dump(self, parsed: object, *, mask_keys: bool = False) -> Any:
        """See `CompiledSchema.dump`: a plain value is its own JSON form."""
        self.parse(parsed, mask_keys=mask_keys)
        return parsed

    def json_schema(self) -> Schema:
        """See `CompiledSchema.json_schema`: with the documents it refers to as `$defs`."""
        others = self._library.documents
        if not others or isinstance(self._contents, bool):
            return self._contents
        bundled = dict(self._contents)
        definitions = dict(cast("Mapping[str, Any]", bundled.get("$defs", {})))
        for uri, each in others.items():
            if uri != self._base_uri:
                definitions[uri] = {"$id": uri, **each} if isinstance(each, dict) else each
        bundled.setdefault("$id", self._base_uri)
        bundled["$defs"] = definitions
        return bundled

    def __repr__(self) -> str:
        return f"JsonSchema({self._base_uri or 'inline'}, engine={self.engine_name})"


def _order(failure: Failure) -> tuple[tuple[tuple[bool, int | str], ...], str]:
    path, rule, _ = failure
    return tuple((isinstance(part, str), part) for part in path), rule


def _document(contents: Schema, where: str, library: Library, base_uri: str) -> Document:
    specification, vocabularies = dialect_of(contents, library, where)
    try:
        graph = SchemaGraph(
            contents, specification=specification, registry=library.registry, base_uri=base_uri
        )
    except SchemaError as error:
        msg = f"{where}: {error}"
        raise SchemaError(msg) from None
    for pattern, place in graph.patterns():
        try:
            matcher(pattern)
        except PatternError as error:  # noqa: PERF203
            msg = f"{where}: at {place}: the pattern {pattern!r} cannot be used: {error}"
            raise SchemaError(msg) from None
    return Document(contents, base_uri, specification, library, graph, vocabularies)


def _chosen(engine: EngineName, where: str) -> EngineName:
    installed = importlib.util.find_spec("jsonschema_rs") is not None
    if engine == "auto":
        return "jsonschema-rs" if installed else "jsonschema"
    if engine == "jsonschema-rs" and not installed:
        msg = (
            f"{where}: the engine jsonschema-rs is not installed. "
            'Install it with: pip install "inngest-plugins[validation-fast]"'
        )
        raise SchemaError(msg)
    if engine not in {"jsonschema", "jsonschema-rs"}:
        msg = f"{where}: there is no engine {engine!r}: take jsonschema, jsonschema-rs or auto"
        raise SchemaError(msg)
    return engine


def _compile(document: Document, engine: EngineName, where: str) -> Engine:
    if engine == "jsonschema":
        return PythonEngine(document)
    from .rust_engine import RustEngine

    try:
        return RustEngine(document)
    except Exception as error:
        msg = f"{where}: jsonschema-rs cannot compile the schema: {error}"
        raise SchemaError(msg) from None


_TEMPLATES = {
    "additionalItems": "no items beyond those listed",
    "additionalProperties": "no property of this name",
    "anyOf": "a value matching at least one of the alternatives",
    "contains": "an array with the right number of matching items",
    "dependencies": "a value (another property requires it)",
    "dependentRequired": "a value (another property requires it)",
    "exclusiveMaximum": "a number below {}",
    "exclusiveMinimum": "a number above {}",
    "false": "no value here (the schema allows none)",
    "maximum": "a number of at most {}",
    "maxItems": "at most {} items",
    "maxLength": "at most {} characters",
    "maxProperties": "at most {} properties",
    "minimum": "a number of at least {}",
    "minItems": "at least {} items",
    "minLength": "at least {} characters",
    "minProperties": "at least {} properties",
    "multipleOf": "a multiple of {}",
    "not": "a value that does not match the excluded schema",
    "oneOf": "a value matching exactly one of the alternatives",
    "pattern": "text matching {}",
    "propertyNames": "a property name the schema allows",
    "required": "a value (the property is required)",
    "unevaluatedItems": "no items beyond those the schema evaluates",
    "unevaluatedProperties": "no property of this name",
    "uniqueItems": "items that all differ",
    "const": "the value {}",
}


def expectation(rule: str, wanted: object) -> str:
    """Describe a broken rule.

    Args:
        rule: The keyword.
        wanted: The keyword's value in the schema.
    """
    if rule == "type":
        types = wanted if isinstance(wanted, list) else [wanted]
        return "a value of type " + " or ".join(sorted(str(each) for each in types))
    if rule == "enum" and isinstance(wanted, list):
        return shortened("one of " + ", ".join(_json(each) for each in wanted))
    template = _TEMPLATES.get(rule)
    if template is None:
        return f"a value that satisfies {rule}"
    return shortened(template.format(_json(wanted)))


def _json(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False, default=str)
