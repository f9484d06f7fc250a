"""Finds the changes of a schema that break producers or consumers of its events.

A schema that accepts less than before breaks producers: what they send is refused now. One that
promises less breaks consumers: what they read may be gone. A schema that only accepts more is a
risk for consumers, which may get values that are new to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from inngest_plugins.validation.schemas.schema import pointer_to, shortened

Effect = Literal["breaks producers", "breaks consumers", "risks consumers", "compatible"]

_ALL_TYPES = frozenset({"array", "boolean", "null", "number", "object", "string"})
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
# What says nothing about which values are valid.
_ANNOTATIONS = frozenset(
    {
        "$comment", "$defs", "$id", "$schema", "$anchor", "contentEncoding", "contentMediaType",
        "default", "definitions", "deprecated", "description", "discriminator", "examples",
        "format", "readOnly", "title", "writeOnly", "x-event",
    }
)  # fmt: skip
_COMPARED = frozenset(
    {
        "$ref", "additionalProperties", "anyOf", "const", "enum", "items", "oneOf", "pattern",
        "prefixItems", "properties", "required", "type", *_UPPER, *_LOWER,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One difference between two versions of an event's schema."""

    event: str
    pointer: str
    """Where in the event's data; `*` is every item of an array."""

    effect: Effect
    what: str
    """The change in words."""

    @property
    def breaks(self) -> bool:
        """Whether it breaks producers or consumers for sure."""
        return self.effect in {"breaks producers", "breaks consumers"}

    def __str__(self) -> str:
        return f"{self.effect}: {self.event} {self.pointer or '(the whole data)'}: {self.what}"


def compare_catalogues(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Compare the payload schemas of two catalogues, by event name."""
    changes: list[Change] = []
    for name in sorted({*old, *new}):
        if name not in new:
            changes.append(Change(name, "", "breaks consumers", "the event was removed"))
        elif name not in old:
            changes.append(Change(name, "", "compatible", "the event is new"))
        else:
            changes.extend(_Comparison(name, old[name], new[name]).changes())
    return changes


class _Comparison:
    def __init__(self, event: str, old: Any, new: Any) -> None:
        self._event = event
        # No schema promises nothing and refuses nothing.
        self._old = True if old is None else old
        self._new = True if new is None else new
        self._seen: set[tuple[int, int]] = set()
        self._changes: list[Change] = []

    def changes(self) -> list[Change]:
        self._compare(self._old, self._new, ())
        return list(dict.fromkeys(self._changes))

    def _add(self, path: tuple[str | int, ...], effect: Effect, what: str) -> None:
        self._changes.append(Change(self._event, pointer_to(path), effect, shortened(what)))

    def _compare(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if _canonical(old) == _canonical(new) and "$ref" not in _canonical(old):
            return
        if (id(old), id(new)) in self._seen:
            return
        self._seen.add((id(old), id(new)))
        if isinstance(old, bool) or isinstance(new, bool):
            self._compare_boolean(old, new, path)
            return
        olds, news = self._members(old, self._old), self._members(new, self._new)
        if len(olds) > 1 or len(news) > 1:
            olds = [part for each in olds for part in _by_type(each)]
            news = [part for each in news for part in _by_type(each)]
            self._compare_unions(olds, news, path)
            return
        self._compare_types(olds[0], news[0], path)
        self._compare_values(olds[0], news[0], path)
        self._compare_bounds(olds[0], news[0], path)
        self._compare_objects(olds[0], news[0], path)
        self._compare_arrays(olds[0], news[0], path)
        self._compare_rest(olds[0], news[0], path)

    def _compare_boolean(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        if _accepts_all(old):
            if not _accepts_all(new):
                self._add(path, "breaks producers", "anything was allowed, now a schema holds")
        elif _accepts_all(new) or old is False:
            self._add(path, "risks consumers", "a schema held, now anything is allowed")
        else:
            self._add(path, "breaks producers", "no value is allowed any more")

    def _members(self, schema: Any, root: Any) -> list[Any]:
        """The alternatives of a union, flattened; the schema itself when it is none."""
        for keyword in ("anyOf", "oneOf"):
            members: Any = schema.get(keyword)
            if isinstance(members, list) and not (schema.keys() - _ANNOTATIONS - {keyword}):
                found: list[Any] = []
                for each in members:
                    resolved = _resolved(each, root)
                    nested = isinstance(resolved, dict)
                    found.extend(self._members(resolved, root) if nested else [resolved])
                return found
        return [schema]

    def _compare_unions(
        self, olds: list[Any], news: list[Any], path: tuple[str | int, ...]
    ) -> None:
        gone = [each for each in olds if not any(_covers(other, each) for other in news)]
        added = [each for each in news if not any(_covers(other, each) for other in olds)]
        for each in list(gone):
            # The same alternative in a new version, if there is just one it can be.
            twins = [other for other in added if _kind(other) == _kind(each)]
            rivals = [other for other in gone if _kind(other) == _kind(each)]
            if len(twins) == 1 and len(rivals) == 1:
                self._compare(each, twins[0], path)
                gone.remove(each)
                added.remove(twins[0])
        for each in gone:
            self._add(path, "breaks producers", f"the alternative {_label(each)} was removed")
        for each in added:
            self._add(path, "risks consumers", f"the alternative {_label(each)} was added")

    def _compare_types(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        before, after = _types(old), _types(new)
        lost = {each for each in before if each not in after and not _in_number(each, after)}
        gained = {each for each in after if each not in before and not _in_number(each, before)}
        types = f"from {_named(before)} to {_named(after)}"
        if lost:
            self._add(path, "breaks producers", f"the type was narrowed {types}")
        elif gained:
            self._add(path, "risks consumers", f"the type was widened {types}")

    def _compare_values(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        before, after = _values(old), _values(new)
        if before == after:
            return
        if before is None:
            self._add(path, "breaks producers", "the values were limited to a list")
        elif after is None:
            self._add(path, "risks consumers", "the values are not limited to a list any more")
        else:
            if before - after:
                gone = ", ".join(sorted(before - after))
                self._add(path, "breaks producers", f"the values {gone} were removed")
            if after - before:
                more = ", ".join(sorted(after - before))
                self._add(path, "risks consumers", f"the values {more} were added")

    def _compare_bounds(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        for keyword in (*_UPPER, *_LOWER):
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            sign = -1 if keyword in _LOWER else 1
            narrower = before is None or (after is not None and sign * after < sign * before)
            what = f"{keyword} went from {_shown(before)} to {_shown(after)}"
            self._add(path, "breaks producers" if narrower else "risks consumers", what)
        if old.get("pattern") != new.get("pattern"):
            effect: Effect = "risks consumers" if "pattern" not in new else "breaks producers"
            self._add(path, effect, "the pattern changed")

    def _compare_objects(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        before, after = old.get("properties", {}), new.get("properties", {})
        required_before, required_after = set(old.get("required", ())), set(new.get("required", ()))
        closed = new.get("additionalProperties") is False
        for name in before:
            if name in after:
                self._compare(before[name], after[name], (*path, name))
            elif closed:
                self._add(
                    (*path, name), "breaks producers", "the property was removed and is refused"
                )
            else:
                self._add((*path, name), "breaks consumers", "the property was removed")
        for name in after:
            if name not in before and name not in required_after:
                self._add((*path, name), "compatible", "an optional property was added")
        for name in sorted(required_after - required_before):
            known = name in before
            what = "the property is required now" if known else "a required property was added"
            self._add((*path, name), "breaks producers", what)
        for name in sorted((required_before - required_after) & set(after)):
            self._add((*path, name), "risks consumers", "the property is optional now")
        self._compare_additional(old, new, path)

    def _compare_additional(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        before = _resolved(old.get("additionalProperties", True), self._old)
        after = _resolved(new.get("additionalProperties", True), self._new)
        if before is not False and after is False:
            self._add(path, "breaks producers", "additional properties are refused now")
        elif before is False and after is not False:
            self._add(path, "risks consumers", "additional properties are allowed now")
        elif before is not False:
            self._compare(before, after, (*path, "*"))

    def _compare_arrays(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        for index in range(max(len(before), len(after))):
            mine = before[index] if index < len(before) else old.get("items", True)
            theirs = after[index] if index < len(after) else new.get("items", True)
            self._compare(mine, theirs, (*path, index))
        self._compare(old.get("items", True), new.get("items", True), (*path, "*"))

    def _compare_rest(self, old: Any, new: Any, path: tuple[str | int, ...]) -> None:
        for keyword in sorted((old.keys() | new.keys()) - _ANNOTATIONS - _COMPARED):
            if keyword.startswith("x-"):
                continue
            if _canonical(old.get(keyword)) != _canonical(new.get(keyword)):
                effect: Effect = "risks consumers" if keyword not in new else "breaks producers"
                self._add(path, effect, f"{keyword} changed")


def _by_type(schema: Any) -> list[Any]:
    """A list of types as alternatives, to be compared with those of a union."""
    types: Any = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(types, list) and not (schema.keys() - _ANNOTATIONS - {"type"}):
        return [{"type": each} for each in types]
    return [schema]


def _resolved(schema: Any, root: Any) -> Any:
    """A schema with its `$ref` followed, within its own document."""
    for _ in range(64):
        if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
            break
        found = _lookup(str(schema["$ref"]), root)
        if found is None:
            break
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        if siblings.keys() - _ANNOTATIONS and isinstance(found, dict):
            found = {**found, **siblings}
        schema = found
    return cast("Any", schema)


def _lookup(reference: str, root: Any) -> Any:
    base, _, fragment = reference.partition("#")
    node: Any = root
    if base:
        node = next((each for each in _definitions(root) if each.get("$id") == base), None)
    for part in fragment.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            node = node.get(key) if isinstance(node, dict) else None
    return node


def _definitions(root: Any) -> Iterator[dict[str, Any]]:
    definitions: Any = root.get("$defs", {}) if isinstance(root, dict) else {}
    yield from (each for each in definitions.values() if isinstance(each, dict))


def _canonical(schema: Any) -> str:
    if isinstance(schema, dict):
        schema = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    return json.dumps(schema, sort_keys=True)


def _accepts_all(schema: Any) -> bool:
    return schema is True or (isinstance(schema, dict) and not (schema.keys() - _ANNOTATIONS))


def _covers(one: Any, other: Any) -> bool:
    """Whether an alternative surely accepts all that another does."""
    if _canonical(one) == _canonical(other):
        return True
    return _canonical(one) == '{"type": "number"}' and _types(other) == {"integer"}


def _kind(schema: Any) -> object:
    return frozenset(_types(schema)) if isinstance(schema, dict) else schema


def _types(schema: Any) -> set[str]:
    declared: Any = schema.get("type")
    if declared is None:
        values: Any = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list):
            return {_type_of(each) for each in values}
        return set(_ALL_TYPES)
    return {str(each) for each in declared} if isinstance(declared, list) else {str(declared)}


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def _in_number(name: str, types: set[str]) -> bool:
    return name == "integer" and "number" in types


def _named(types: set[str]) -> str:
    return "any" if types >= _ALL_TYPES else " or ".join(sorted(types))


def _values(schema: Any) -> set[str] | None:
    if "const" in schema:
        return {json.dumps(schema["const"], sort_keys=True)}
    if isinstance(schema.get("enum"), list):
        return {json.dumps(each, sort_keys=True) for each in schema["enum"]}
    return None


def _shown(bound: Any) -> str:
    return "none" if bound is None else str(bound)


def _label(schema: Any) -> str:
    if not isinstance(schema, dict):
        return json.dumps(schema)
    if "const" in schema or "enum" in schema:
        return " or ".join(sorted(_values(schema) or ()))
    return str(schema.get("title") or _named(_types(schema)))
