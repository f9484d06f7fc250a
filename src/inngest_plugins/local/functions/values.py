"""Values of expressions: comparison, arithmetic and functions, as lenient as the server's.

Every part of an expression is a `Node`, a function that computes its value.
"""

from __future__ import annotations

import operator
import re
import typing
from collections.abc import Callable, Mapping

Value = typing.Any
Node = Callable[[Mapping[str, Value]], Value]


class _Unknown:
    """The value of what an event does not have."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: typing.Final = _Unknown()


def either(left: Node, right: Node, *, decided_by: bool) -> Node:
    """Return the part for ``&&`` or ``||``; the value of either side may decide alone."""

    # CEL's logical operators are commutative: an error on one side does not matter when the
    # other side decides. It counts as false.
    def evaluate(scope: Mapping[str, Value]) -> Value:
        try:
            first = left(scope)
        except (TypeError, ArithmeticError, ValueError):
            if _truthy(second := right(scope)) is decided_by:
                return second
            raise
        return first if _truthy(first) is decided_by else right(scope)

    return evaluate


def _truthy(value: Value) -> bool:
    return value is not UNKNOWN and (isinstance(value, (list, dict)) or bool(value))


def known(function: Callable[[Value], Value], value: Value) -> Value:
    """Apply a function; it gives nothing for what the event does not have."""
    if value is not UNKNOWN:
        return function(value)
    return 0 if function is _size else UNKNOWN


def binary(apply: Callable[[Value, Value], Value], left: Node, right: Node) -> Node:
    """Return the part for an operator between two others."""
    return lambda scope: apply(left(scope), right(scope))


def _from_event(value: Value) -> Value:
    return float(value) if type(value) is int else value


def attribute(target: Node, name: str) -> Node:
    """Return the part for ``target.name``."""

    def evaluate(scope: Mapping[str, Value]) -> Value:
        value = target(scope)
        return _from_event(value.get(name, UNKNOWN)) if isinstance(value, dict) else UNKNOWN

    return evaluate


def item(target: Node, index: Node) -> Node:
    """Return the part for ``target[index]``."""

    def evaluate(scope: Mapping[str, Value]) -> Value:
        value, key = target(scope), index(scope)
        if isinstance(value, dict):
            return _from_event(value.get(key, UNKNOWN))
        if isinstance(value, list) and _is_number(key) and 0 <= key < len(value):
            return _from_event(value[int(key)])
        return UNKNOWN

    return evaluate


def negate(value: Value) -> bool:
    """Return what ``!`` makes of a value."""
    if not isinstance(value, bool):
        raise TypeError("! needs a boolean")
    return not value


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(left: Value, right: Value) -> bool:
    if left is UNKNOWN or right is UNKNOWN:
        return left is None or right is None
    if _is_number(left) and _is_number(right):
        return float(left) == float(right)
    return type(left) is type(right) and bool(left == right)


def _zero(value: Value) -> Value:
    """What ``null`` counts as when it is compared with a value."""
    return "" if isinstance(value, str) else 0 if _is_number(value) else None


def _ordered(
    compare: Callable[[typing.Any, typing.Any], typing.Any],
) -> Callable[[Value, Value], bool]:
    def evaluate(left: Value, right: Value) -> bool:
        if left is UNKNOWN or right is UNKNOWN:
            # What is unknown is less than anything.
            return bool(compare(0, 1) if left is UNKNOWN else compare(1, 0))
        left = _zero(right) if left is None else left
        right = _zero(left) if right is None else right
        if _is_number(left) and _is_number(right):
            return bool(compare(left, right))
        if isinstance(left, str) and isinstance(right, str):
            return bool(compare(left, right))
        return False

    return evaluate


def _contained(item: Value, container: Value) -> bool:
    if isinstance(container, dict):
        return item in container
    return isinstance(container, list) and any(_same(item, other) for other in container)


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError("this method needs a string")
    return value


def _size(value: Value) -> int:
    if not isinstance(value, (str, list, dict)):
        raise TypeError("size() needs a string, list or map")
    return len(value)


def _sum(left: Value, right: Value) -> Value:
    return left + right


def _add(left: Value, right: Value) -> Value:
    if left is UNKNOWN or right is UNKNOWN:
        return right if left is UNKNOWN else left
    if left is None and isinstance(right, (str, int, float)):
        return right
    if right is None and isinstance(left, (str, int, float)):
        return left
    if type(left) is type(right) and type(left) in (str, list, int, float):
        return _sum(left, right)
    raise TypeError("+ needs two numbers of one type, two strings or two lists")


def _numeric(apply: Callable[[Value, Value], Value]) -> Callable[[Value, Value], Value]:
    def evaluate(left: Value, right: Value) -> Value:
        if not (_is_number(left) and type(left) is type(right)):
            raise TypeError("arithmetic needs numbers of one type; those of events are doubles")
        return apply(left, right)

    return evaluate


def _divide(left: Value, right: Value) -> Value:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _modulo(left: Value, right: Value) -> Value:
    if not isinstance(left, int):
        raise TypeError("% needs integers")
    return left - right * _divide(left, right)


def _string(value: Value) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


RELATIONS: dict[str, Callable[[Value, Value], bool]] = {
    "==": _same,
    "!=": lambda left, right: not _same(left, right),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _contained,
}
ARITHMETIC: dict[str, Callable[[Value, Value], Value]] = {
    "+": _add,
    "-": _numeric(operator.sub),
    "*": _numeric(operator.mul),
    "/": _numeric(_divide),
    "%": _numeric(_modulo),
}
FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "size": _size,
    "string": _string,
    "int": int,
    "double": float,
}
METHODS: dict[str, tuple[int, Callable[..., Value]]] = {
    "contains": (1, lambda text, part: _text(part) in _text(text)),
    "startsWith": (1, lambda text, part: _text(text).startswith(_text(part))),
    "endsWith": (1, lambda text, part: _text(text).endswith(_text(part))),
    "matches": (1, lambda text, pattern: re.search(_text(pattern), _text(text)) is not None),
    "size": (0, _size),
}
