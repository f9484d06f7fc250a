"""The common forms of the expressions in triggers, waits, cancellations and batches.

Inngest uses CEL (https://github.com/google/cel-spec) and is lenient about it
(``pkg/expressions/unknown.go`` of the server): an attribute that an event does not have is
unknown, which equals ``null`` and nothing else; values of different types are simply not equal;
``&&`` and ``||`` take any value for true or false, as JavaScript does. The numbers of an event
are doubles, and doubles and integers do not mix in arithmetic. The CEL libraries on PyPI are
strict about all that or do not install on every supported Python, so this module evaluates the
common forms itself: literals, lists, ``event.`` and ``async.`` paths, indexing, comparison,
``&& || !``, arithmetic, ``in``, the ternary operator, ``has()``, ``size()``,
``string() int() double()``, and the string methods ``contains``, ``startsWith``, ``endsWith``,
``matches``, ``size``. Anything else is a clear error when the expression is first seen.
"""

from __future__ import annotations

import functools
import operator
import re
import typing
from collections.abc import Callable, Mapping

Value = typing.Any
_Node = Callable[[Mapping[str, Value]], Value]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+\.\d+(?:[eE][+-]?\d+)?|\d+)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<op>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]])
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_ROOTS = ("event", "async")


class _Unknown:
    """The value of what an event does not have."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: typing.Final = _Unknown()


class ExpressionError(ValueError):
    """An expression that cannot be understood or has no truth value."""


class Expression:
    """A parsed expression.

    Args:
        source: The text.

    Raises:
        ExpressionError: The text uses something outside the supported forms.
    """

    __slots__ = ("_node", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self._node = _Parser(source).parse()
        except RecursionError:
            raise ExpressionError(f"expression {source[:80]!r}... is nested too deeply") from None

    def matches(self, variables: Mapping[str, Value]) -> bool:
        """Whether the expression is true.

        Args:
            variables: ``{"event": ..., "async": ...}``.

        Raises:
            ExpressionError: It is neither true nor false, or cannot be computed.
        """
        value = self.value(variables)
        if not isinstance(value, bool):
            raise ExpressionError(
                f"expression {self.source!r} must be true or false, it gives a "
                f"{type(value).__name__}"
            )
        return value

    def value(self, variables: Mapping[str, Value]) -> Value:
        """The expression's value, for keys; `UNKNOWN` when the event does not have it.

        Raises:
            ExpressionError: It cannot be computed.
        """
        try:
            return self._node(variables)
        except (TypeError, ArithmeticError, ValueError, RecursionError, re.error) as error:
            raise ExpressionError(
                f"expression {self.source!r} cannot be evaluated: {type(error).__name__}"
            ) from None


@functools.lru_cache(maxsize=1024)
def parse_expression(source: str) -> Expression:
    """Parse an expression; results are cached.

    Raises:
        ExpressionError: The text uses something outside the supported forms.
    """
    return Expression(source)


class _Parser:
    """Recursive descent; every rule returns a closure that computes its value."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = list(self._tokenize(source))
        self._at = 0

    def parse(self) -> _Node:
        node = self._ternary()
        if self._peek() != ("end", ""):
            raise self._error()
        return node

    def _tokenize(self, source: str) -> typing.Iterator[tuple[str, str]]:
        position, end = 0, len(source.rstrip())
        while position < end:
            match = _TOKEN.match(source, position)
            if match is None or match.lastgroup is None:
                raise ExpressionError(
                    f"expression {source!r}: unexpected {source[position:].lstrip()[:1]!r}"
                )
            yield match.lastgroup, match.group(match.lastgroup)
            position = match.end()

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _accept(self, *texts: str) -> str | None:
        kind, text = self._peek()
        if kind in ("op", "name") and text in texts:
            self._at += 1
            return text
        return None

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"expected {text!r}")

    def _error(self, wanted: str = "cannot go on") -> ExpressionError:
        kind, text = self._peek()
        found = "the end" if kind == "end" else repr(text)
        return ExpressionError(f"expression {self._source!r}: {wanted} at {found}")

    def _ternary(self) -> _Node:
        condition = self._or()
        if not self._accept("?"):
            return condition
        yes = self._ternary()
        self._expect(":")
        no = self._ternary()
        return lambda scope: yes(scope) if condition(scope) is True else no(scope)

    def _or(self) -> _Node:
        left = self._and()
        while self._accept("||"):
            left = _either(left, self._and(), decided_by=True)
        return left

    def _and(self) -> _Node:
        left = self._relation()
        while self._accept("&&"):
            left = _either(left, self._relation(), decided_by=False)
        return left

    def _relation(self) -> _Node:
        left = self._sum()
        while symbol := self._accept("==", "!=", "<=", ">=", "<", ">", "in"):
            left = _binary(_RELATIONS[symbol], left, self._sum())
        return left

    def _sum(self) -> _Node:
        left = self._product()
        while symbol := self._accept("+", "-"):
            left = _binary(_ARITHMETIC[symbol], left, self._product())
        return left

    def _product(self) -> _Node:
        left = self._unary()
        while symbol := self._accept("*", "/", "%"):
            left = _binary(_ARITHMETIC[symbol], left, self._unary())
        return left

    def _unary(self) -> _Node:
        if self._accept("!"):
            inner = self._unary()
            return lambda scope: _negate(inner(scope))
        if self._accept("-"):
            inner = self._unary()
            return lambda scope: -inner(scope)
        return self._postfix()

    def _postfix(self) -> _Node:
        node = self._primary()
        while True:
            if self._accept("."):
                kind, name = self._next()
                if kind != "name":
                    self._at -= 1
                    raise self._error("expected a name")
                called = self._accept("(")
                node = self._method(node, name) if called else _attribute(node, name)
            elif self._accept("["):
                index = self._ternary()
                self._expect("]")
                node = _item(node, index)
            else:
                return node

    def _method(self, target: _Node, name: str) -> _Node:
        method = _METHODS.get(name)
        if method is None:
            raise ExpressionError(f"expression {self._source!r}: no method {name}()")
        arity, call = method
        arguments = self._arguments(name, arity)

        def evaluate(scope: Mapping[str, Value]) -> Value:
            value = target(scope)
            if value is UNKNOWN:
                return 0 if name == "size" else False
            return call(value, *(argument(scope) for argument in arguments))

        return evaluate

    def _primary(self) -> _Node:
        kind, text = self._next()
        if kind == "number":
            number = float(text) if any(c in text for c in ".eE") else int(text)
            return lambda _: number
        if kind == "string":
            string = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text[1:-1])
            return lambda _: string
        if kind == "name":
            return self._name(text)
        if text == "(":
            node = self._ternary()
            self._expect(")")
            return node
        if text == "[":
            items = self._arguments("[", None, "]")
            return lambda scope: [item(scope) for item in items]
        self._at -= 1
        raise self._error()

    def _name(self, name: str) -> _Node:
        constants: dict[str, Value] = {"true": True, "false": False, "null": None}
        if name in constants:
            constant = constants[name]
            return lambda _: constant
        if self._accept("("):
            if name == "has":
                (argument,) = self._arguments(name, 1)
                return lambda scope: argument(scope) is not UNKNOWN
            function = _FUNCTIONS.get(name)
            if function is None:
                raise ExpressionError(f"expression {self._source!r}: no function {name}()")
            (argument,) = self._arguments(name, 1)
            return lambda scope: _known(function, argument(scope))
        if name not in _ROOTS:
            raise ExpressionError(
                f"expression {self._source!r}: unknown name {name!r}, use event or async"
            )
        return lambda scope: scope.get(name)

    def _arguments(self, name: str, arity: int | None, close: str = ")") -> list[_Node]:
        arguments: list[_Node] = []
        if not self._accept(close):
            arguments.append(self._ternary())
            while self._accept(","):
                arguments.append(self._ternary())
            self._expect(close)
        if arity is not None and len(arguments) != arity:
            raise ExpressionError(
                f"expression {self._source!r}: {name}() takes {arity} argument(s)"
            )
        return arguments


def _either(left: _Node, right: _Node, *, decided_by: bool) -> _Node:
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


def _known(function: Callable[[Value], Value], value: Value) -> Value:
    if value is not UNKNOWN:
        return function(value)
    return 0 if function is _size else UNKNOWN


def _binary(apply: Callable[[Value, Value], Value], left: _Node, right: _Node) -> _Node:
    return lambda scope: apply(left(scope), right(scope))


def _from_event(value: Value) -> Value:
    return float(value) if type(value) is int else value


def _attribute(target: _Node, name: str) -> _Node:
    def evaluate(scope: Mapping[str, Value]) -> Value:
        value = target(scope)
        return _from_event(value.get(name, UNKNOWN)) if isinstance(value, dict) else UNKNOWN

    return evaluate


def _item(target: _Node, index: _Node) -> _Node:
    def evaluate(scope: Mapping[str, Value]) -> Value:
        value, key = target(scope), index(scope)
        if isinstance(value, dict):
            return _from_event(value.get(key, UNKNOWN))
        if isinstance(value, list) and _is_number(key) and 0 <= key < len(value):
            return _from_event(value[int(key)])
        return UNKNOWN

    return evaluate


def _negate(value: Value) -> bool:
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
    """What ``null`` is beside a value."""
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


_RELATIONS: dict[str, Callable[[Value, Value], bool]] = {
    "==": _same,
    "!=": lambda left, right: not _same(left, right),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": _contained,
}
_ARITHMETIC: dict[str, Callable[[Value, Value], Value]] = {
    "+": _add,
    "-": _numeric(operator.sub),
    "*": _numeric(operator.mul),
    "/": _numeric(_divide),
    "%": _numeric(_modulo),
}
_FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "size": _size,
    "string": _string,
    "int": int,
    "double": float,
}
_METHODS: dict[str, tuple[int, Callable[..., Value]]] = {
    "contains": (1, lambda text, part: _text(part) in _text(text)),
    "startsWith": (1, lambda text, part: _text(text).startswith(_text(part))),
    "endsWith": (1, lambda text, part: _text(text).endswith(_text(part))),
    "matches": (1, lambda text, pattern: re.search(_text(pattern), _text(text)) is not None),
    "size": (0, _size),
}
