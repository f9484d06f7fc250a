"""Expressions: the common forms of CEL, lenient about what is missing, clear about the rest."""

from __future__ import annotations

import pytest

from inngest_plugins.local.functions.expressions import (
    Expression,
    ExpressionError,
    parse_expression,
)

SCOPE = {
    "event": {
        "name": "shop/order",
        "data": {
            "id": "A1",
            "n": 3,
            "f": 1.5,
            "l": ["a", 1],
            "none": None,
            "t": True,
            "m": {"k": 1},
            "big": 9007199254740992,
        },
    },
    "async": {"data": {"id": "A1", "n": 3.0, "one": 1}},
}


@pytest.mark.parametrize(
    "source",
    [
        "event.data.id == async.data.id",
        "event.data.n == async.data.n",
        "event.data.n == 3.0 && event.data.f < 2",
        "event.data.n >= 3 && event.data.n <= 3 && event.data.n > 2",
        "event.data.id != 'B' || false",
        '!(event.data.id == "B")',
        "'a' in event.data.l && 1 in event.data.l && !('z' in event.data.l)",
        "'k' in event.data.m",
        "event.data['id'] == 'A1' && event.data.l[0] == 'a' && event.data.l[9] == null",
        "event.data.missing.deeper == null",
        "has(event.data.id) && !has(event.data.missing)",
        "size(event.data.l) == 2 && event.data.id.size() == 2",
        "event.data.id.startsWith('A') && event.data.id.endsWith('1')",
        "event.data.id.contains('A') && event.data.id.matches('^A[0-9]$')",
        "event.data.n + 1.0 == 4 && event.data.n - 1.0 == 2 && event.data.n * 2.0 == 6",
        "7 / 2 == 3 && -7 / 2 == -3 && 7 % 4 == 3 && -7 % 4 == -3 && 7.0 / 2.0 == 3.5",
        "1 + 1 == 2 && event.data.l[async.data.one] == 1",
        "event.data.missing != null ? false : event.data.missing == null",
        "event.data.missing != 1 && !(event.data.missing == async.data.missing)",
        "event.data.missing < 1 && !(event.data.missing > 1) && event.data.n >= async.data.missing",
        "event.data.missing + 'x' == 'x' && 1 + event.data.missing == 1",
        "event.data.none + 'x' == 'x' && 'x' + event.data.none == 'x'",
        "event.data.none < 1 && -1 < event.data.none && event.data.none < 'a'",
        "has(event.data.none) && size(event.data.missing) == 0",
        "string(event.data.missing) + 'x' == 'x'",
        "event.data.big == 9007199254740993 && string(event.data.f) == '1.5'",
        "(event.data.id || false) == 'A1' && (event.data.l && event.data.t)",
        "event.data.missing || event.data.t",
        "event.data.t ? true : false",
        "event.data.n > 5 ? false : true",
        "'a' + 'b' == 'ab' && [1] + [2] == [1, 2]",
        "string(event.data.n) == '3' && int('4') == 4 && double(1) == 1.0",
        "string(true) == 'true'",
        "'it\\'s' == \"it's\" && 'a\\nb' != 'anb'",
        "event.data.none == null && event.data.none != 1",
        "event.data.n.size() == 1 || true",
        "event.data.missing.size() == 0",
        "!(1 == true) && !(1 == '1')",
        "[] == []",
    ],
)
def test_true_forms(source: str) -> None:
    """Each supported form is true when it should be."""
    assert parse_expression(source).matches(SCOPE) is True


@pytest.mark.parametrize(
    "source",
    [
        "event.data.none > 1",
        "event.data.id < 3",
        "event.data.missing == 'x'",
        "event.data.n == 'x'",
        "false && event.data.n.size() == 1",
        "event.data.missing.contains('x')",
        "event.data.missing && event.data.t ? true : false",
        "event.data.id in event.data.id",
    ],
)
def test_false_forms(source: str) -> None:
    """Comparing what cannot be compared is false, not an error."""
    assert parse_expression(source).matches(SCOPE) is False


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the end"),
        ("(((", "the end"),
        ("event.data.id ==", "the end"),
        ("event.data.", "expected a name"),
        ("event.data.id 3", "cannot go on"),
        ("foo.bar == 1", "unknown name 'foo'"),
        ("frob(1)", "no function frob"),
        ("event.data.id.frob()", "no method frob"),
        ("event.data.id.lowerAscii()", "no method lowerAscii"),
        ("size(1, 2)", "takes 1 argument"),
        ("event.data.id.size(1)", "takes 0 argument"),
        ("event.data.id = 1", "unexpected '='"),
        ("(1", r"expected '\)'"),
        ("(" * 5000 + "1", "nested too deeply"),
    ],
)
def test_what_is_not_supported_is_an_error_at_once(source: str, message: str) -> None:
    """A form outside the supported ones is refused when it is read, with the place."""
    with pytest.raises(ExpressionError, match=message):
        Expression(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("event.data.id", "must be true or false"),
        ("!event.data.n", "TypeError"),
        ("event.data.id - 1 == 2", "TypeError"),
        ("event.data.n + 1 == 4", "TypeError"),
        ("event.data.n % 2 == 1", "TypeError"),
        ("event.data.missing", "must be true or false"),
        ("event.data.id + 1 == 2", "TypeError"),
        ("size(1) == 1", "TypeError"),
        ("event.data.n.contains('x')", "TypeError"),
        ("1 / 0 == 1", "ZeroDivisionError"),
        ("event.data.id.matches('(')", "cannot be evaluated: (error|PatternError)"),
        ("event.data.n.contains('x') || false", "TypeError"),
    ],
)
def test_what_has_no_truth_value_is_an_error(source: str, message: str) -> None:
    """An expression that cannot be computed says so instead of counting as true or false."""
    with pytest.raises(ExpressionError, match=message):
        parse_expression(source).matches(SCOPE)
