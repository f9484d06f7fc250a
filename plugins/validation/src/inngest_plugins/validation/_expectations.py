"""What a JSON Schema keyword asks for, in words made of the schema alone."""

from __future__ import annotations

import json

from ._violations import shortened

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
