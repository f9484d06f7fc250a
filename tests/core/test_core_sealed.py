"""What tools on the machine with the keys may show."""

from __future__ import annotations

import typing

import inngest
import pytest

from inngest_plugins.core import Hooks, Layer, Plugin, SealedPlace, Stack, open_sealed

PLACE = SealedPlace("step", "app", "f", "run", "abc")


class Boxes(Plugin):
    """Seals by putting a value into a box with its name."""

    layer = Layer.WIRE

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: list[SealedPlace] = []

    def open_sealed(self, value: typing.Any, place: SealedPlace) -> typing.Any:
        """Take the value out of the box."""
        self.places.append(place)
        if isinstance(value, dict) and "locked" in value:
            raise LookupError("no key")
        return value[self.name] if isinstance(value, dict) and self.name in value else value


def test_plugins_open_from_outermost_to_innermost() -> None:
    """The outermost plugin sealed last, so it opens first; every one gets the place."""
    outer, inner = Boxes("outer"), Boxes("inner")
    stack = Stack(outer, inner, Hooks("audit"))
    assert open_sealed(stack, {"outer": {"inner": [1]}}, PLACE) == [1]
    assert outer.places == inner.places == [PLACE]


def test_what_cannot_be_opened_stays_as_it_is() -> None:
    """A plugin that fails leaves the value to be shown as it is stored."""
    sealed = {"locked": True}
    assert open_sealed(Stack(Boxes("a")), sealed, PLACE) is sealed


def test_attachments_are_not_part_of_the_value() -> None:
    """What travels beside a result or an invoke's data is taken off, behind WIRE."""
    joined = {"__inngest_plugins__": 1, "value": 3, "attachments": {"k": 1}}
    assert open_sealed(Stack(Boxes("a")), {"a": joined}, PLACE) == 3
    data = {"x": 1, "_inngest_plugins": {"k": 1}}
    place = SealedPlace("event", "app", event_name="e")
    assert open_sealed(Stack(), data, place) == {"x": 1}
    assert data == {"x": 1, "_inngest_plugins": {"k": 1}}


@pytest.mark.parametrize("value", [None, 1, "text", [1], {"a": 1}])
def test_plain_values_come_back_themselves(value: object) -> None:
    """A stack that seals nothing changes nothing."""
    client = inngest.Inngest(app_id="app", is_production=False, middleware=[Hooks("audit")])
    assert open_sealed(Stack.of(client), value, PLACE) is value
