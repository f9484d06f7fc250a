"""jsonschema as the engine: pure Python, always there.

The library's keywords are kept but for those whose time a payload could decide: patterns (Python's
`re` backtracks), `uniqueItems` (quadratic for objects), the `unevaluated` pair (quadratic), and
`$ref` in schemas that recurse (exponential through `anyOf`). Those that report several properties
in one error report each on its own, as the other engine's failures are reported too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from fractions import Fraction
from itertools import islice
from math import isfinite
from typing import Any, cast

import jsonschema
from jsonschema import ValidationError, validators
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012

from .documents import Document, Engine, Failure, without_text_keywords
from .patterns import matcher
from .unevaluated import Evaluated

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]

_CLASSES: dict[str, Any] = {
    DRAFT4.name: jsonschema.Draft4Validator,
    DRAFT6.name: jsonschema.Draft6Validator,
    DRAFT7.name: jsonschema.Draft7Validator,
    DRAFT201909.name: jsonschema.Draft201909Validator,
    DRAFT202012.name: jsonschema.Draft202012Validator,
}

_VOCABULARIES = {
    "applicator": {
        "prefixItems", "items", "contains", "additionalProperties", "properties",
        "patternProperties", "dependentSchemas", "propertyNames", "if", "then", "else", "allOf",
        "anyOf", "oneOf", "not",
    },
    "core": {"$ref", "$dynamicRef"},
    "format-annotation": {"format"},
    "format-assertion": {"format"},
    "unevaluated": {"unevaluatedItems", "unevaluatedProperties"},
    "validation": {
        "type", "const", "enum", "multipleOf", "maximum", "exclusiveMaximum", "minimum",
        "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems",
        "uniqueItems", "maxProperties", "minProperties", "required", "dependentRequired",
    },
}  # fmt: skip

# More would only be counted, at a kilobyte and some microseconds each.
_MAX_LISTED = 1000

_seen_references: ContextVar[dict[tuple[int, int], tuple[ValidationError, ...]]] = ContextVar(
    "inngest_plugins.validation.references"
)


class PythonEngine(Engine):
    """A schema compiled by jsonschema."""

    def __init__(self, document: Document) -> None:
        base = _CLASSES[document.specification.name]
        keywords = dict(base.VALIDATORS)
        overrides = _overrides(document)
        keywords.update({name: rule for name, rule in overrides.items() if name in keywords})
        if document.vocabularies is not None:
            allowed = {"$ref", "$dynamicRef"}.union(
                *(
                    _VOCABULARIES.get(uri.rpartition("/")[2], set[str]())
                    for uri in document.vocabularies
                )
            )
            keywords = {name: rule for name, rule in keywords.items() if name in allowed}
        checker = base.TYPE_CHECKER.redefine_many({"array": _is_array, "number": _is_number})
        # `extend` can add keywords but not leave any out, which a custom vocabulary asks for.
        validator_class = validators.create(
            meta_schema=base.META_SCHEMA,
            validators=keywords,
            type_checker=checker,
            id_of=base.ID_OF,
            applicable_validators=base._APPLICABLE_VALIDATORS,  # noqa: SLF001
        )
        # jsonschema would look up a class of its own by `$schema`, and drop these keywords.
        contents: Any = without_text_keywords(document.contents, {"$schema"})
        registry = document.library.registry
        if document.base_uri:
            resource = document.specification.create_resource(contents)
            registry = registry.with_resource(document.base_uri, resource)
            contents = {"$ref": document.base_uri}
        self._validator: Any = validator_class(contents, registry=registry)

    def failures(self, value: object, *, first_only: bool = False) -> Sequence[Failure]:
        """See `Engine.failures`."""
        token = _seen_references.set({})
        try:
            errors = islice(self._validator.iter_errors(value), 1 if first_only else _MAX_LISTED)
            return [
                (tuple(error.absolute_path), str(error.validator or "false"), error.validator_value)
                for error in errors
            ]
        finally:
            _seen_references.reset(token)


def _is_array(_checker: object, value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_number(_checker: object, value: object) -> bool:
    if isinstance(value, bool):
        return False
    # NaN and the infinities have no JSON type at all.
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def _overrides(document: Document) -> dict[str, Keyword]:
    graph = document.graph
    found: dict[str, Keyword] = {
        "additionalProperties": _additional_properties,
        "contains": _contains(counted=document.specification.name in _COUNTING),
        "dependencies": _dependencies,
        "dependentRequired": _dependent_required,
        "items": _items if document.specification.name == DRAFT202012.name else _legacy_items,
        "additionalItems": _additional_items,
        "multipleOf": _multiple_of,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "prefixItems": _prefix_items,
        "properties": _properties,
        "propertyNames": _property_names,
        "required": _required,
        "uniqueItems": _unique_items,
    }
    evaluated = Evaluated(document.specification)
    found["unevaluatedItems"] = evaluated.items
    found["unevaluatedProperties"] = evaluated.properties
    if graph.recursive and not graph.dynamic:
        base = _CLASSES[document.specification.name]
        found["$ref"] = _remembered(base.VALIDATORS["$ref"])
    return found


_COUNTING = {DRAFT201909.name, DRAFT202012.name}


def _remembered(reference: Keyword) -> Keyword:
    """`$ref`, evaluated once for each place in the schema and each place in the value.

    Without that, a schema that recurses through two members of an `anyOf` evaluates the innermost
    value 2 ** depth times.
    """

    def remembered(
        validator: Any, target: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        seen = _seen_references.get()
        key = (id(schema), id(instance))
        if key not in seen:
            seen[key] = tuple(reference(validator, target, instance, schema))
        for error in seen[key]:
            # An error is bound to the path it is raised on, so each use gets one of its own.
            yield ValidationError(
                "",
                validator=error.validator,
                validator_value=error.validator_value,
                path=tuple(error.relative_path),
                schema_path=tuple(error.relative_schema_path),
            )

    return remembered


def _error(*path: str | int, **details: Any) -> ValidationError:
    # No message: the library's would repeat the value, and ours is made elsewhere.
    return ValidationError("", path=path, **details)


def _descend(
    validator: Any, value: object, subschema: Any, path: str | int
) -> Iterator[ValidationError]:
    if subschema is False:
        # The library's own descent forgets the path here.
        yield _error(path, validator="false", validator_value=None)
    else:
        yield from validator.descend(value, subschema, path=path)


def _pattern(validator: Any, pattern: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not matcher(pattern)(instance):
        yield _error()


def _pattern_properties(
    validator: Any, patterns: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        matches = matcher(pattern)
        for key, value in instance.items():
            if matches(key):
                yield from _descend(validator, value, subschema, key)


def _additional_properties(
    validator: Any, subschema: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known = schema.get("properties", {})
    patterns = [matcher(pattern) for pattern in schema.get("patternProperties", {})]
    for key, value in instance.items():
        if key in known or any(matches(key) for matches in patterns):
            continue
        if subschema is False:
            yield _error(key)
        else:
            yield from _descend(validator, value, subschema, key)


def _property_names(
    validator: Any, subschema: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for key in instance:
            if next(validator.descend(key, subschema), None) is not None:
                yield _error(key)


def _required(validator: Any, names: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for name in names:
            if name not in instance:
                yield _error(name)


def _dependent_required(
    validator: Any, dependencies: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for name, wanted in dependencies.items():
            if name in instance:
                yield from (_error(each) for each in wanted if each not in instance)


def _dependencies(
    validator: Any, dependencies: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for name, wanted in dependencies.items():
        if name not in instance:
            continue
        if isinstance(wanted, list):
            yield from (_error(each) for each in wanted if each not in instance)
        else:
            yield from validator.descend(instance, wanted, schema_path=name)


def _items(validator: Any, subschema: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "array"):
        for index in range(len(schema.get("prefixItems", ())), len(instance)):
            yield from _descend(validator, instance[index], subschema, index)


def _prefix_items(
    validator: Any, subschemas: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "array"):
        for index, (item, each) in enumerate(zip(instance, subschemas, strict=False)):
            yield from _descend(validator, item, each, index)


def _properties(
    validator: Any, properties: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for name, subschema in properties.items():
            if name in instance:
                yield from _descend(validator, instance[name], subschema, name)


def _legacy_items(
    validator: Any, subschema: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "array"):
        return
    if isinstance(subschema, list):
        for index, (item, each) in enumerate(zip(instance, subschema, strict=False)):
            yield from _descend(validator, item, each, index)
    else:
        for index, item in enumerate(instance):
            yield from _descend(validator, item, subschema, index)


def _additional_items(
    validator: Any, subschema: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    listed = schema.get("items", {})
    if not validator.is_type(instance, "array") or not isinstance(listed, list):
        return
    if subschema is False:
        if len(instance) > len(listed):
            yield _error()
        return
    for index in range(len(listed), len(instance)):
        yield from _descend(validator, instance[index], subschema, index)


def _contains(*, counted: bool) -> Keyword:
    def contains(
        validator: Any, subschema: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        if not validator.is_type(instance, "array"):
            return
        least = schema.get("minContains", 1) if counted else 1
        most = schema.get("maxContains") if counted else None
        matching = 0
        for item in instance:
            if next(validator.descend(item, subschema), None) is None:
                matching += 1
                if most is not None and matching > most:
                    break
        if matching < least or (most is not None and matching > most):
            # Counted keywords included: the other engine does not say which of them failed.
            yield _error(validator="contains", validator_value=None)

    return contains


def _multiple_of(validator: Any, factor: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "number"):
        # The shortest decimal form is what the JSON text says: 0.3 is a multiple of 0.1.
        if isinstance(factor, int) and isinstance(instance, int):
            # Integers of more than 4300 digits have no repr.
            remainder: object = instance % factor
        else:
            remainder = Fraction(repr(instance)) % Fraction(repr(factor))
        if remainder:
            yield _error()


def _unique_items(validator: Any, wanted: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if not wanted or not validator.is_type(instance, "array"):
        return
    seen: set[object] = set()
    for item in instance:
        key = _hashable(item)
        if key in seen:
            yield _error()
            return
        seen.add(key)


def _hashable(value: object) -> object:
    """A value that is equal, and hashes equal, for equal JSON values only: 1 is 1.0, not true."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return frozenset((key, _hashable(each)) for key, each in members.items())
    if isinstance(value, list | tuple):
        return ("array", *(_hashable(each) for each in cast("Sequence[object]", value)))
    return value
