"""`unevaluatedItems` and `unevaluatedProperties` (2020-12 core, section 11), in linear time.

The jsonschema library keeps what it has seen in lists that it searches for every member, and
matches names with `re`: an array of a million items, or one hostile name, would never be done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import ValidationError
from referencing import Specification
from referencing.jsonschema import DRAFT202012, lookup_recursive_ref

from .patterns import matcher

Member = str | int


class Evaluated:
    """The two keywords for one dialect."""

    def __init__(self, specification: Specification[Any]) -> None:
        self._specification = specification
        self._counts_contains = specification.name == DRAFT202012.name

    def properties(
        self, validator: Any, subschema: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        """The keyword `unevaluatedProperties`."""
        if not validator.is_type(instance, "object"):
            return
        seen = self._seen(validator, instance, schema, outermost=True)
        for key, value in instance.items():
            if key not in seen and next(validator.descend(value, subschema), None) is not None:
                yield ValidationError("", path=(key,))

    def items(
        self, validator: Any, subschema: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        """The keyword `unevaluatedItems`."""
        if not validator.is_type(instance, "array"):
            return
        seen = self._seen(validator, instance, schema, outermost=True)
        for index, item in enumerate(instance):
            if index not in seen and next(validator.descend(item, subschema), None) is not None:
                yield ValidationError("")
                return

    def _seen(
        self, validator: Any, instance: Any, schema: Any, *, outermost: bool = False
    ) -> set[Member]:
        """The members that a schema, which the instance satisfies, has evaluated."""
        if not isinstance(schema, dict):
            return set()
        seen = self._own(validator, instance, schema, outermost=outermost)
        for found, contents in self._referenced(validator, schema):
            seen |= self._seen(found, instance, contents)
        for branch in self._branches(validator, instance, schema):
            seen |= self._seen(self._inside(validator, branch), instance, branch)
        return seen

    def _own(self, validator: Any, instance: Any, schema: Any, *, outermost: bool) -> set[Member]:
        if isinstance(instance, list | tuple):
            return self._own_items(validator, instance, schema, outermost=outermost)
        if "additionalProperties" in schema or (
            "unevaluatedProperties" in schema and not outermost
        ):
            return set(instance)
        seen: set[Member] = {key for key in schema.get("properties", ()) if key in instance}
        for pattern in schema.get("patternProperties", ()):
            matches = matcher(pattern)
            seen.update(key for key in instance if matches(key))
        return seen

    def _own_items(
        self, validator: Any, instance: Any, schema: Any, *, outermost: bool
    ) -> set[Member]:
        items = schema.get("items")
        if (
            (items is not None and not isinstance(items, list))
            or (isinstance(items, list) and "additionalItems" in schema)
            or ("unevaluatedItems" in schema and not outermost)
        ):
            return set(range(len(instance)))
        listed = items if isinstance(items, list) else schema.get("prefixItems", ())
        seen: set[Member] = set(range(min(len(listed), len(instance))))
        if "contains" in schema and self._counts_contains:
            seen.update(
                index
                for index, item in enumerate(instance)
                if next(validator.descend(item, schema["contains"]), None) is None
            )
        return seen

    def _branches(self, validator: Any, instance: Any, schema: Any) -> Iterator[Any]:
        def satisfied(branch: Any) -> bool:
            return next(validator.descend(instance, branch), None) is None

        for keyword in ("allOf", "anyOf", "oneOf"):
            found = [each for each in schema.get(keyword, ()) if satisfied(each)]
            if keyword != "oneOf" or len(found) == 1:
                yield from found
        if isinstance(instance, dict):
            for name, branch in schema.get("dependentSchemas", {}).items():
                if name in instance:
                    yield branch
        if "if" in schema:
            if satisfied(schema["if"]):
                yield schema["if"]
                yield schema.get("then", True)
            else:
                yield schema.get("else", True)

    def _referenced(self, validator: Any, schema: Any) -> Iterator[tuple[Any, Any]]:
        # The resolver is the one thing of a validator that custom keywords need and that has no
        # public name; a test pins it.
        resolver = validator._resolver  # noqa: SLF001
        found = [resolver.lookup(schema[key]) for key in ("$ref", "$dynamicRef") if key in schema]
        if "$recursiveRef" in schema:
            found.append(lookup_recursive_ref(resolver))
        for each in found:
            yield (
                validator.evolve(schema=each.contents, _resolver=each.resolver),
                each.contents,
            )

    def _inside(self, validator: Any, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return validator
        resource = self._specification.create_resource(schema)
        resolver = validator._resolver.in_subresource(resource)  # noqa: SLF001
        return validator.evolve(schema=schema, _resolver=resolver)
