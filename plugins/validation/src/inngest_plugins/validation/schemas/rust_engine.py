"""jsonschema-rs as the engine: the Rust `jsonschema` crate, some 150 times as fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, cast

import jsonschema_rs
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012

from .documents import Document, Engine, Failure, with_patterns, without_text_keywords
from .graph import Schema
from .patterns import dots_written_out

# Patterns without look-around are matched in linear time; for the others this bounds the work of
# one match to some milliseconds, and what exceeds it counts as no match.
_BACKTRACK_LIMIT = 100_000

_DRAFTS = {
    DRAFT4.name: "Draft4",
    DRAFT6.name: "Draft6",
    DRAFT7.name: "Draft7",
    DRAFT201909.name: "Draft201909",
    DRAFT202012.name: "Draft202012",
}

_WANTED = {
    "Constant": "expected_value",
    "Enum": "options",
    "ExclusiveMaximum": "limit",
    "ExclusiveMinimum": "limit",
    "MaxItems": "limit",
    "Maximum": "limit",
    "MaxLength": "limit",
    "MaxProperties": "limit",
    "MinItems": "limit",
    "Minimum": "limit",
    "MinLength": "limit",
    "MinProperties": "limit",
    "MultipleOf": "multiple_of",
    "Pattern": "pattern",
    "Type": "types",
}


class RustEngine(Engine):
    """A schema compiled by jsonschema-rs."""

    def __init__(self, document: Document) -> None:
        self._patterns: dict[str, str] = {}
        draft = _DRAFTS[document.specification.name]
        registry = document.library.compiled.get(draft)
        if registry is None:
            registry = jsonschema_rs.Registry(
                [(uri, self._readable(each)) for uri, each in document.library.documents.items()],
                draft=getattr(jsonschema_rs, draft),
                retriever=_refuse,
            )
            document.library.compiled[draft] = registry
        self._is_draft4 = document.specification.name == DRAFT4.name
        self._validator = jsonschema_rs.validator_for(
            self._readable(document.contents),
            registry=registry,
            retriever=_refuse,
            base_uri=document.base_uri or None,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT),
            validate_formats=False,
        )

    def _readable(self, contents: Schema) -> Schema:
        """The schema that makes this engine decide as the other one does.

        It asserts `contentEncoding` and `contentMediaType` for drafts 6 and 7, which every later
        draft has made annotations; and its `.` matches line ends.
        """
        without = without_text_keywords(contents, {"contentEncoding", "contentMediaType"})
        return cast("Schema", with_patterns(without, self._pattern))

    def _pattern(self, pattern: str) -> str:
        written = dots_written_out(pattern)
        self._patterns[written] = pattern
        return written

    def quick(self) -> Callable[[object], bool]:
        """See `Engine.quick`: the compiled function itself."""
        return self._validator.is_valid

    def failures(self, value: object, *, first_only: bool = False) -> Sequence[Failure]:
        """See `Engine.failures`."""
        if first_only:
            try:
                self._validator.validate(value)
            except jsonschema_rs.ValidationError as error:
                return list(self._failures(error))
            return []
        return [
            each for error in self._validator.iter_errors(value) for each in self._failures(error)
        ]

    def _failures(self, error: Any) -> Iterable[Failure]:
        for path, rule, found in _failures(error):
            wanted = self._patterns.get(str(found), found) if rule == "pattern" else found
            # In draft 4 the exclusive pair are flags of the other two.
            flag = self._is_draft4 and rule.startswith("exclusive")
            yield path, rule.removeprefix("exclusive").lower() if flag else rule, wanted


def _refuse(uri: str) -> NoReturn:
    msg = f"{uri!r} is not among the schemas given"
    raise ValueError(msg)


def _failures(error: Any) -> Iterable[Failure]:
    path = tuple(error.instance_path)
    kind = error.kind
    name = type(kind).__name__.rpartition("_")[2]
    keyword = str(kind.name)
    last = error.schema_path[-1] if error.schema_path else ""
    if name == "PropertyNames":
        yield (*path, str(kind.error.instance)), keyword, None
    elif name == "FalseSchema" and last == "propertyNames":
        yield from (((*path, key), "propertyNames", None) for key in error.instance)
    elif name == "FalseSchema":
        yield path, "false", None
    elif name == "Required":
        # Also what is missing under dependentRequired, or dependencies of the older drafts.
        yield (*path, str(kind.property)), str(last), None
    elif name in {"AdditionalProperties", "UnevaluatedProperties"}:
        yield from (((*path, key), keyword, None) for key in kind.unexpected)
    else:
        attribute = _WANTED.get(name)
        yield path, keyword, getattr(kind, attribute) if attribute else None
