"""Values as JSON: what is taken, what is refused, and that nobody else can change it."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inngest_plugins.metadata import MetadataValueError
from inngest_plugins.metadata._values import copy, dumps, normalize, number, same, size

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4
        )
    ),
    max_leaves=12,
)


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (math.nan, "NaN"),
        (math.inf, "NaN and infinities"),
        (2**53 + 1, r"2\*\*53"),
        (Point(1), "Point is not JSON"),
        ({1: 2}, "object keys must be str, not int"),
        (b"bytes", "bytes is not JSON"),
        ({1, 2}, "set is not JSON"),
        ("\ud800", "surrogates"),
        ({"\ud800": 1}, "surrogates"),
    ],
)
def test_what_is_not_json_is_refused(value: object, part: str) -> None:
    """A value that JSON cannot carry exactly raises, naming the key and not the value."""
    with pytest.raises(MetadataValueError, match=part) as refusal:
        normalize(value, "my-key")
    assert "my-key" in str(refusal.value)


def test_the_message_names_the_nested_place() -> None:
    """The place inside of the value is part of the message."""
    with pytest.raises(MetadataValueError, match=r"row\.items\[1\]\.price"):
        normalize({"items": [1, {"price": math.nan}]}, "row")


def test_nesting_has_a_limit() -> None:
    """A value that is nested too deeply, or within itself, is refused and not followed forever."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(MetadataValueError, match="deeper than 64"):
        normalize(loop, "loop")


def test_subclasses_count_by_their_base_value() -> None:
    """Members of str and int enumerations are recorded as their values, tuples as lists."""
    assert normalize({"c": Colour.RED, "l": Level.HIGH, "t": (1, 2)}, "k") == {
        "c": "red",
        "l": 3,
        "t": [1, 2],
    }


@settings(deadline=None)
@given(values)
def test_normalized_values_are_private_copies(value: Any) -> None:
    """A normalized value and its copy are equal to the original and share no container with it."""
    for twin in (normalize(value, "k"), copy(value)):
        assert same(twin, value)
        if isinstance(value, (dict, list)):
            assert twin is not value


@settings(deadline=None)
@given(values)
def test_sizes_are_measured_as_sent(value: Any) -> None:
    """The size of a value is the number of bytes that its rendering takes."""
    assert size(value) == len(dumps(value).encode())


def test_true_is_not_one_but_a_float_is_its_integer() -> None:
    """JSON equality tells booleans from numbers, and does not tell 1 from 1.0."""
    assert not same(True, 1)
    assert not same([0], [False])
    assert same(1, 1.0)
    assert same({"a": [1]}, {"a": [1.0]})
    assert not same({"a": 1}, {"b": 1})


@pytest.mark.parametrize("value", [True, "1", None, [1]])
def test_only_numbers_are_numbers(value: object) -> None:
    """Increments take no booleans, texts or containers."""
    with pytest.raises(MetadataValueError, match="need a number"):
        number(value, "n")
