"""Wrong options of the validation plugin: found at once, in words that say what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest

from inngest_plugins.validation import EventType, SchemaError, SchemaRegistry, ValidationPlugin


class Order(pydantic.BaseModel):
    id: str


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": Order}, "not the class Order: write"),
        ({"events": [Order]}, "EventType objects, not the class Order: write"),
        ({"events": ["shop/order.placed"]}, "EventType objects, not str: write"),
        ({"events": EventType("shop/order.placed", Order)}, "not one EventType: write"),
        ({"registry": [EventType("a", Order)]}, "registry is a SchemaRegistry, not list"),
        ({"outputs": Order}, "outputs is a mapping such as"),
        ({"steps": [("fulfil", "charge")]}, "steps is a mapping such as"),
        ({"steps": {"charge": Order}}, "the key 'charge' must be the ids of a function and"),
        ({"outputs": {3: int}}, "outputs: the key 3 must be the id of a function"),
        ({"steps": {("fulfil", 3): int}}, "must be the ids of a function and of a step"),
        ({"steps": {("charge",): Order}}, "must be the ids of a function and of a step"),
    ],
)
def test_what_holds_no_schemas_is_refused(options: dict[str, Any], message: str) -> None:
    """A contract that would never be checked, or fail later in the library, is an error now."""
    with pytest.raises(SchemaError) as caught:
        ValidationPlugin(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("make", [ValidationPlugin, SchemaRegistry])
def test_an_unknown_engine_is_refused(make: Any) -> None:
    """Not only when the first JSON Schema is compiled."""
    with pytest.raises(ValueError, match=r"engine is one of 'auto', .*, not 'rust'"):
        make(engine="rust")


def test_a_missing_folder_is_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path that fails from another working directory shows where it was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SchemaError) as caught:
        SchemaRegistry("schemas")
    assert str(tmp_path.resolve() / "schemas") in str(caught.value)


@pytest.mark.parametrize("option", ["incoming", "outgoing", "require_schema", "coerce"])
@pytest.mark.parametrize("value", ["false", "", 0, 1, None])
def test_a_switch_takes_true_or_false_only(option: str, value: object) -> None:
    """The text of an environment variable, which would count as True, is named and refused."""
    given: dict[str, Any] = {option: value}
    with pytest.raises(TypeError, match=f"{option} is True or False, not {type(value).__name__}"):
        ValidationPlugin(**given)
