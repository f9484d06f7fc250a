"""Keys as names and as paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inngest_plugins.metadata import MetadataKeyError
from inngest_plugins.metadata._keys import parse, render


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("progress", ("progress",)),
        ("a.b", ("a.b",)),
        ("a[0]", ("a[0]",)),
        ("with space", ("with space",)),
        ("$.a", ("a",)),
        ("$.a.b", ("a", "b")),
        ("$.a[0].b", ("a", 0, "b")),
        ("$.a[10][2]", ("a", 10, 2)),
        ("$['odd name']", ("odd name",)),
        ('$["odd name"].x', ("odd name", "x")),
        (r"$['it\'s']", ("it's",)),
        (r'$["a\\b"]', ("a\\b",)),
        ("$['$price']", ("$price",)),
        ("$.a['']", ("a", "")),
        ("$.größe", ("größe",)),
    ],
)
def test_a_key_is_a_name_unless_it_starts_with_a_dollar(
    key: str, path: tuple[str | int, ...]
) -> None:
    """A key that starts with `$` is read as a path, any other is the name itself."""
    assert parse(key) == path


@pytest.mark.parametrize(
    "key",
    [
        "",
        "$",
        "$a",
        "$.",
        "$.a.",
        "$..a",
        "$.a[*]",
        "$.a[-1]",
        "$.a[01]",
        "$.a[1:2]",
        "$.a[?(@.b)]",
        "$[0]",
        "$['a",
        "$['']",
        "$.a b",
        "\ud800",
        "$.\ud800",
    ],
)
def test_a_malformed_key_is_refused(key: str) -> None:
    """What does not name exactly one place raises MetadataKeyError."""
    with pytest.raises(MetadataKeyError):
        parse(key)


def test_a_key_is_text() -> None:
    """A key of another type raises MetadataKeyError, which names the type."""
    key: Any = 5
    with pytest.raises(MetadataKeyError, match="a str, not int"):
        parse(key)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
paths = st.tuples(names, st.lists(names | st.integers(0, 99_999), max_size=4)).map(
    lambda parts: (parts[0], *parts[1])
)


@settings(deadline=None)
@given(paths)
def test_a_rendered_path_reads_back(path: tuple[str | int, ...]) -> None:
    """`parse` undoes `render` for every path."""
    assert parse(render(path)) == path
