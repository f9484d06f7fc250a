"""ULIDs: the number and the time in an id of the engine."""

from __future__ import annotations

import pytest

from inngest_plugins.core import ulid_time, ulid_value

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_a_ulid_has_a_number_and_a_time() -> None:
    """The example of the ULID specification, in either case."""
    assert ulid_value(ULID) == 0x01563E3AB5D3D6764C61EFB99302BD5B
    assert ulid_value(ULID.lower()) == ulid_value(ULID)
    assert ulid_time(ULID) == 1469922850259
    assert ulid_value("7" + "Z" * 25) == 2**128 - 1


@pytest.mark.parametrize(
    "text",
    ["", "short", "8" + "0" * 25, "U" * 26, "0" * 25 + "_", "0" * 25 + "\u00e9", "+" + "0" * 25],
)
def test_another_text_has_none(text: str) -> None:
    """Other lengths, other characters and more than 128 bits are no ULID."""
    assert ulid_value(text) is None
    assert ulid_time(text) is None
