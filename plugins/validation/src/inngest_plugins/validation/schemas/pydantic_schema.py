"""Compiles Pydantic models and everything else that `pydantic.TypeAdapter` takes."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast, get_args

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticSerializationError, core_schema, to_json

from .core_schema import Path, any_strict, lossy_fields, runs_user_code, secret_fields
from .graph import SchemaGraph
from .json_values import (
    deeper_than,
    detached,
    difference,
    is_plain,
    json_form,
    not_finite,
    revealed,
)
from .schema import (
    CompiledSchema,
    Rejection,
    SchemaError,
    Secrets,
    Violation,
    capped,
    pointer_to,
    shortened,
)

T = TypeVar("T")

# Building the detail of this many errors takes about a tenth of a second. Beyond it only the
# number is reported, so that a hostile event cannot hold the event loop for seconds.
_MAX_DETAILED = 20_000

# An undiscriminated union tries every member, so one that recurses through b members costs
# b ** depth. Payloads are refused where that passes this many visits (about a second).
_MAX_UNION_VISITS = 200_000

_KNOWN_TYPES = frozenset(get_args(core_schema.ErrorType))

# The parts of an error's context that come from the schema. Everything else (the tag found, a
# parser's message, the length) comes from the value.
_SCHEMA_CONTEXT = frozenset(
    {
        "class", "class_name", "decimal_places", "discriminator", "encoding", "expected",
        "expected_plural", "expected_schemes", "expected_tags", "expected_version", "field_type",
        "ge", "gt", "le", "lt", "max_digits", "max_length", "min_length", "multiple_of",
        "pattern", "tz_expected", "whole_digits",
    }
)  # fmt: skip

_EXPECTATIONS = {
    "assertion_error": "a value the schema's own validator accepts",
    "bytes_invalid_encoding": "valid {encoding}",
    "date_parsing": "a date in the format YYYY-MM-DD",
    "date_from_datetime_parsing": "a date or a datetime",
    "date_from_datetime_inexact": "a datetime at midnight, to be an exact date",
    "datetime_parsing": "a datetime in ISO 8601",
    "datetime_from_date_parsing": "a datetime or a date in ISO 8601",
    "datetime_object_invalid": "a valid datetime",
    "decimal_parsing": "a decimal number",
    "extra_forbidden": "no property of this name",
    "int_parsing_size": "an integer with fewer digits",
    "invalid_key": "a string as key",
    "missing": "a value (the property is required)",
    "recursion_depth_exceeded": "less nesting (at most 255 levels)",
    "recursion_loop": "no cyclic reference",
    "time_delta_parsing": "a duration",
    "time_parsing": "a time in ISO 8601",
    "timezone_offset": "a timezone offset of {tz_expected} seconds",
    "too_long": "at most {max_length} items",
    "too_short": "at least {min_length} items",
    "union_tag_invalid": "one of the tags {expected_tags} in {discriminator}",
    "union_tag_not_found": "a tag in {discriminator}",
    "unexpected_keyword_argument": "no property of this name",
    "url_parsing": "a URL",
    "url_scheme": "a URL with the scheme {expected_schemes}",
    "url_syntax_violation": "a URL of strict syntax",
    "url_too_long": "a URL of at most {max_length} characters",
    "uuid_parsing": "a UUID",
    "uuid_version": "a UUID of version {expected_version}",
    "value_error": "a value the schema's own validator accepts",
}

SECRETS_HINT = 'secrets="encrypted" carries it where a plugin encrypts the field'

_SCHEMAS = (
    "a schema is a Pydantic model or another type that pydantic.TypeAdapter takes, a TypeAdapter, "
    "a JSON Schema as a dict, or the path of a .json or .yaml file"
)
_MISSING = frozenset(
    {
        "missing",
        "missing_argument",
        "missing_keyword_only_argument",
        "missing_positional_only_argument",
    }
)
_SIZED = re.compile(r"^(String|Data) should (?:have|match|contain) (?:only )?")


class _JsonSchemaWriter(GenerateJsonSchema):
    # A default that JSON cannot say (a secret's) is left out: the plugin never reads it there.
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - pydantic's declaration
        "skipped-choice",
        "non-serializable-default",
    }

    def encode_default(self, dft: Any) -> Any:
        try:
            return super().encode_default(dft)
        except TypeError as error:
            # Pydantic before 2.14 cannot write a default of the type `Secret[T]`.
            raise PydanticSerializationError(str(error)) from error


class PydanticSchema(CompiledSchema[T], Generic[T]):
    """A Pydantic model, or any type a TypeAdapter takes.

    Payloads are JSON, so a strict field accepts what Pydantic's strict mode accepts in JSON: a
    datetime, UUID or tuple is not refused for arriving as a string or an array.
    """

    coerces = True

    def __init__(self, schema: object, *, where: str, secrets: Secrets = "refuse") -> None:
        try:
            adapter: TypeAdapter[Any] = (
                schema if isinstance(schema, TypeAdapter) else TypeAdapter(cast("Any", schema))
            )
            core = adapter.core_schema
            # The Rust validator itself: TypeAdapter.validate_python adds a third to a small event.
            self._validate = adapter.validator.validate_python
        except (PydanticUserError, TypeError, NameError, AttributeError) as error:
            # Behind its first line Pydantic explains itself to authors of types.
            reason = str(error).partition("\n")[0]
            is_object = isinstance(error, AttributeError) and not isinstance(schema, type)
            unknown = f"Unable to generate pydantic-core schema for {schema!r}."
            if is_object or reason.startswith(unknown):
                reason = _SCHEMAS
            msg = f"{where}: no Pydantic schema can be made of {_name_of(schema)}: {reason}"
            raise SchemaError(msg) from None
        self._adapter = cast("TypeAdapter[T]", adapter)
        self._name = _name_of(schema)
        self._may_be_strict = any_strict(core)
        self._runs_user_code = runs_user_code(core)
        self.secrets = secrets
        self.secret_fields = secret_fields(core)
        self._names, self._max_depth = self._shape()

    def _shape(self) -> tuple[frozenset[str], int | None]:
        try:
            graph = SchemaGraph(self.json_schema())
        except (PydanticUserError, SchemaError):
            # A type with no JSON Schema (a callable, a custom core schema) can still be checked.
            return frozenset(), None
        branches = graph.ambiguous_branches()
        depth = int(math.log(_MAX_UNION_VISITS) / math.log(branches)) if branches > 1 else None
        return graph.names(), depth

    def parse(self, value: object, *, mask_keys: bool = False) -> T:
        """See `CompiledSchema.parse`."""
        if self._max_depth is not None and deeper_than(value, self._max_depth):
            raise Rejection.of(
                "depth",
                f"at most {self._max_depth} levels of nesting (the schema recurses through a union"
                " without a discriminator, which takes exponential time)",
            )
        # Validators of the user may edit the value, which belongs to the caller.
        given = detached(value) if self._runs_user_code else value
        try:
            return cast("T", self._validate(given))
        except ValidationError as error:
            rejection = self._rejection(error, given, mask_keys=mask_keys)
        except Exception as error:
            rejection = _crashed(error)
        if not is_plain(value):
            # Keys that are numbers, and the like, are refused as they are, and fine as JSON.
            with contextlib.suppress(Exception):
                return cast("T", self._validate(json_form(value)))
        if self._may_be_strict:
            return self._parse_as_json(value, rejection, mask_keys=mask_keys)
        raise rejection

    def _parse_as_json(self, value: object, rejection: Rejection, *, mask_keys: bool) -> T:
        # Strict mode knows that JSON has no dates: what it refuses as Python it may take as JSON.
        try:
            return cast("T", self._adapter.validator.validate_json(to_json(value)))
        except ValidationError as error:
            rejection = self._rejection(error, value, mask_keys=mask_keys)
        except Exception:  # noqa: S110 - not JSON after all: the first verdict stands
            pass
        raise rejection

    def _rejection(self, error: ValidationError, value: object, *, mask_keys: bool) -> Rejection:
        count = error.error_count()
        if count > _MAX_DETAILED:
            return Rejection.of("too_many_violations", f"fewer than {count} violations")
        declared = self._names if mask_keys else None
        found: list[tuple[tuple[tuple[bool, int | str], ...], Violation]] = []
        for line in error.errors(include_url=False):
            kind = line["type"]
            path = _path(value, line["loc"], line["input"], missing=kind in _MISSING)
            expected = _expectation(kind, line["msg"], line.get("ctx") or {})
            order = tuple((isinstance(part, str), part) for part in path)
            found.append((order, Violation(pointer_to(path, declared), kind, expected)))
        found.sort(key=lambda item: (item[0], item[1].rule))
        return capped([violation for _, violation in found])

    def dump(self, parsed: object, *, mask_keys: bool = False) -> Any:
        """See `CompiledSchema.dump`. Computed fields are left out: they are not input."""
        declared = self._names if mask_keys else None
        written = self._written(parsed, declared)
        read = self.parse(written, mask_keys=mask_keys)
        place = not_finite(written)
        if place is None:
            place = difference(parsed, read)
        if place is not None:
            expected = "a value that is read back from its JSON form as it was"
            raise Rejection.of("round_trip", expected, pointer_to(place, declared))
        return written

    def _written(self, parsed: object, declared: Collection[str] | None) -> Any:
        options: dict[str, Any] = {"by_alias": True, "round_trip": True, "warnings": False}
        try:
            written = self._adapter.dump_python(cast("T", parsed), mode="json", **options)
            if not self.secret_fields:
                return written
            full = revealed(written, self._adapter.dump_python(cast("T", parsed), **options))
        except Exception:
            rejection = Rejection.of("serialization", f"an object {self._name} can write as JSON")
        else:
            place = difference(full, written)
            if self.secrets == "encrypted" or place is None:
                return full
            rejection = Rejection.of(
                "secret", f"no secret here ({SECRETS_HINT})", pointer_to(place, declared)
            )
        raise rejection

    def lossy_fields(self) -> Iterable[tuple[Path, str]]:
        """See `CompiledSchema.lossy_fields`."""
        yield from lossy_fields(self._adapter.core_schema)
        if self.secrets == "refuse":
            for path in self.secret_fields:
                yield path, f"it is a secret, which its JSON form hides ({SECRETS_HINT})"

    def json_schema(self) -> dict[str, Any]:
        """See `CompiledSchema.json_schema`."""
        return self._adapter.json_schema(
            by_alias=True, mode="validation", schema_generator=_JsonSchemaWriter
        )

    def __repr__(self) -> str:
        return f"PydanticSchema({self._name})"


def _name_of(schema: object) -> str:
    if isinstance(schema, type):
        return schema.__qualname__
    return shortened(str(schema))


def _crashed(error: Exception) -> Rejection:
    # Only the class: the message of a KeyError raised by a validator is the value's own text.
    return Rejection.of(
        "validator_crashed",
        f"the schema's own validator to give a verdict (it raised {type(error).__name__})",
    )


def _expectation(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """What was expected, in words that hold nothing of the value.

    Pydantic's own message is used only for error types of its own whose context comes from the
    schema alone; a message of user code (`ValueError(f"bad card {card}")`) never is.
    """
    safe = {key: value for key, value in context.items() if key in _SCHEMA_CONTEXT}
    template = _EXPECTATIONS.get(kind)
    if template is not None:
        try:
            return shortened(template.format_map(safe))
        except KeyError:
            return "a value of another form"
    if kind not in _KNOWN_TYPES or len(safe) != len(context):
        return "a value the schema's own validator accepts"
    sized = _SIZED.match(message)
    if sized is not None:
        rest = message[sized.end() :]
        return shortened(f"{'text' if sized[1] == 'String' else 'data'} with {rest}")
    return shortened(message.removeprefix("Input should be ").removeprefix("Input should "))


def _path(
    value: object, location: Sequence[int | str], target: object, *, missing: bool
) -> list[int | str]:
    """The place in the value that a Pydantic error location means.

    A location also holds labels that are no part of the value (the member of a union, the name of
    a wrapping validator, `[key]`). A part that leads somewhere is followed; where a label happens
    to be a key too, the reading that ends at the very object the error reports is taken.
    """
    first: list[int | str] | None = None
    todo: list[tuple[object, int, list[int | str]]] = [(value, 0, [])]
    for _ in range(4 * len(location) + 16):
        if not todo:
            break
        node, position, path = todo.pop()
        if position == len(location):
            first = path if first is None else first
            if node is target:
                return path
            continue
        part = location[position]
        last = position == len(location) - 1
        if missing and last:
            first = [*path, part] if first is None else first
            if node is target:
                return [*path, part]
            continue
        todo.append((node, position + 1, path))
        child = _child(node, part)
        if child is not _NOWHERE:
            todo.append((child, position + 1, [*path, part]))
    return first if first is not None else []


_NOWHERE = object()


def _child(node: object, part: int | str) -> object:
    if isinstance(node, Mapping):
        return cast("Mapping[object, object]", node).get(part, _NOWHERE)
    if isinstance(node, list | tuple) and isinstance(part, int):
        items = cast("Sequence[object]", node)
        if part < len(items):
            return items[part]
    return _NOWHERE
