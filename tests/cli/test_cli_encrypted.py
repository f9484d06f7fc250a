"""How encrypted payloads look in a timeline: the engine holds ciphertext, which says nothing."""

from __future__ import annotations

import pytest

from inngest_plugins.local._wording import message_text, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"__ENCRYPTED__": True, "data": "x"}, "(encrypted)"),
        ({"__ENCRYPTED__": "no"}, '{"__ENCRYPTED__": "no"}'),
        ("plain é", '"plain é"'),
        (None, "null"),
    ],
)
def test_values(value: object, text: str) -> None:
    """An envelope is told by its mark, anything else is shown as JSON."""
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ('{"__ENCRYPTED__":true,"data":"x"}', "(encrypted)"),
        ("two  \n\n  lines\n", "two\n  lines"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_messages(message: str, text: str) -> None:
    """An encrypted message is told as such, any other keeps its lines."""
    assert message_text(message) == text
