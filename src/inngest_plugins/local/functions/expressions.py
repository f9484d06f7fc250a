"""The common forms of the expressions in triggers, waits, cancellations and batches.

Inngest uses CEL (https://github.com/google/cel-spec) and is lenient about it
(``pkg/expressions/unknown.go`` of the server): an attribute that an event does not have is
unknown, which equals ``null`` and nothing else; values of different types are simply not equal;
``&&`` and ``||`` take any value for true or false, as JavaScript does. The numbers of an event
are doubles, and doubles and integers do not mix in arithmetic.

The CEL libraries on PyPI are strict about all that. Of the 59 verdicts in this module's tests,
cel-python 0.5.0 gives 33 and common-expression-language 0.10.0 gives 39, both with the event's
numbers as doubles. Nearly all others raise: a missing attribute is an error to them, whatever
else the expression says. So this module evaluates the common forms itself: literals, lists,
``event.`` and ``async.`` paths, indexing, comparison, ``&& || !``, arithmetic, ``in``, the ternary
operator, ``has()``, ``size()``, ``string() int() double()``, and the string methods ``contains``,
``startsWith``, ``endsWith``, ``matches``, ``size``. Anything else is a clear error when the
expression is first seen.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping

from .values import (
    ARITHMETIC,
    FUNCTIONS,
    METHODS,
    RELATIONS,
    UNKNOWN,
    Node,
    Value,
    attribute,
    binary,
    either,
    item,
    known,
    negate,
)

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

    def parse(self) -> Node:
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

    def _ternary(self) -> Node:
        condition = self._or()
        if not self._accept("?"):
            return condition
        yes = self._ternary()
        self._expect(":")
        no = self._ternary()
        return lambda scope: yes(scope) if condition(scope) is True else no(scope)

    def _or(self) -> Node:
        left = self._and()
        while self._accept("||"):
            left = either(left, self._and(), decided_by=True)
        return left

    def _and(self) -> Node:
        left = self._relation()
        while self._accept("&&"):
            left = either(left, self._relation(), decided_by=False)
        return left

    def _relation(self) -> Node:
        left = self._sum()
        while symbol := self._accept("==", "!=", "<=", ">=", "<", ">", "in"):
            left = binary(RELATIONS[symbol], left, self._sum())
        return left

    def _sum(self) -> Node:
        left = self._product()
        while symbol := self._accept("+", "-"):
            left = binary(ARITHMETIC[symbol], left, self._product())
        return left

    def _product(self) -> Node:
        left = self._unary()
        while symbol := self._accept("*", "/", "%"):
            left = binary(ARITHMETIC[symbol], left, self._unary())
        return left

    def _unary(self) -> Node:
        if self._accept("!"):
            inner = self._unary()
            return lambda scope: negate(inner(scope))
        if self._accept("-"):
            inner = self._unary()
            return lambda scope: -inner(scope)
        return self._postfix()

    def _postfix(self) -> Node:
        node = self._primary()
        while True:
            if self._accept("."):
                kind, name = self._next()
                if kind != "name":
                    self._at -= 1
                    raise self._error("expected a name")
                called = self._accept("(")
                node = self._method(node, name) if called else attribute(node, name)
            elif self._accept("["):
                index = self._ternary()
                self._expect("]")
                node = item(node, index)
            else:
                return node

    def _method(self, target: Node, name: str) -> Node:
        method = METHODS.get(name)
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

    def _primary(self) -> Node:
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

    def _name(self, name: str) -> Node:
        constants: dict[str, Value] = {"true": True, "false": False, "null": None}
        if name in constants:
            constant = constants[name]
            return lambda _: constant
        if self._accept("("):
            if name == "has":
                (argument,) = self._arguments(name, 1)
                return lambda scope: argument(scope) is not UNKNOWN
            function = FUNCTIONS.get(name)
            if function is None:
                raise ExpressionError(f"expression {self._source!r}: no function {name}()")
            (argument,) = self._arguments(name, 1)
            return lambda scope: known(function, argument(scope))
        if name not in _ROOTS:
            raise ExpressionError(
                f"expression {self._source!r}: unknown name {name!r}, use event or async"
            )
        return lambda scope: scope.get(name)

    def _arguments(self, name: str, arity: int | None, close: str = ")") -> list[Node]:
        arguments: list[Node] = []
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
