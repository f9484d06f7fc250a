"""Dates as engines write them, on every supported Python."""

from __future__ import annotations

import pytest

from inngest_plugins.core import parse_timestamp


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-29T00:00:00Z", 1795910400),
        ("2026-11-29T00:00:00.5Z", 1795910400.5),
        ("2026-11-29T00:00:00.123Z", 1795910400.123),
        ("2026-11-29T00:00:00.123456789Z", 1795910400.123456),
        ("2026-11-29T01:00:00.25+01:00", 1795910400.25),
        ("2026-11-29T00:00:00", 1795910400),
    ],
)
def test_any_number_of_digits_and_any_offset_is_read(text: str, seconds: float) -> None:
    """Go writes as many digits as there are, up to nine, and Z or an offset."""
    assert parse_timestamp(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2026-13-29T00:00:00Z"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """As `datetime.fromisoformat` does."""
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)
