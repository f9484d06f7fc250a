"""Channels: their parameters are checked and escaped, their definitions too."""

from __future__ import annotations

import enum
import threading
import uuid
from typing import Any, Literal

import pydantic
import pytest
from tests.realtime.realtime_rig import ORDER, OrderChannel

from inngest_plugins.realtime import (
    Channel,
    ChannelDefinitionError,
    ChannelParameterError,
    ChannelTopic,
    Topic,
)

ID = uuid.UUID(int=1)


class Region(str, enum.Enum):
    EU = "eu"


class Shelf(enum.IntEnum):
    LOW = 1


class Stock(Channel, name="{region}:{shelf}"):
    """Parameters that are members of enums."""

    region: Region
    shelf: Shelf


class Typed(Channel, name="{tenant}:order:{order_id}"):
    """Parameters with types."""

    tenant: Literal["eu", "us"]
    order_id: pydantic.PositiveInt

    log = Topic(str)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("o1", "order:o1"),
        (42, "order:42"),
        (ID, f"order:{ID}"),
        ("a:b", "order:a%3Ab"),
        ("{x}", "order:%7Bx%7D"),
        ("../%&?#", "order:..%2F%25%26%3F%23"),
        ("ä ", "order:%C3%A4%20"),
        ("a\nb", "order:a%0Ab"),
    ],
)
def test_values_are_escaped(value: Any, name: str) -> None:
    """No value makes the name of another channel."""
    assert OrderChannel(order_id=value).name == name


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "missing: 'order_id'"),
        ({"order": 1}, "unknown: 'order'"),
        ({"order_id": 1, "more": 2}, "unknown: 'more'"),
        ({"order_id": ""}, "is empty"),
        ({"order_id": None}, "not NoneType"),
        ({"order_id": True}, "not bool"),
        ({"order_id": 1.5}, "not float"),
        ({"order_id": b"x"}, "not bytes"),
        ({"order_id": "\ud800"}, "cannot be written"),
        ({"order_id": 10**5000}, "cannot be written"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], text: str) -> None:
    """Missing, unknown, empty, or of a type whose text nobody can foresee."""
    with pytest.raises(ChannelParameterError, match=text):
        OrderChannel(**parameters)


def test_members_of_enums_are_their_values() -> None:
    """On every version of Python: `str()` of some is their name."""
    assert Stock(region=Region.EU, shelf=Shelf.LOW).name == "eu:1"
    assert Stock(region="eu", shelf=1).name == "eu:1"
    assert OrderChannel(order_id=Region.EU).name == "order:eu"


def test_parameters_with_types() -> None:
    """An annotation is what Pydantic makes of it; no value is shown."""
    assert Typed(tenant="eu", order_id="7").name == "eu:order:7"
    for wrong in ({"tenant": "s3cr3t", "order_id": 1}, {"tenant": "eu", "order_id": -1}):
        with pytest.raises(ChannelParameterError) as caught:
            Typed(**wrong)
        assert "s3cr3t" not in str(caught.value)


def test_equal_channels_and_topics() -> None:
    """They are what they name."""
    assert OrderChannel(order_id="o1") == ORDER
    assert OrderChannel(order_id="o1").log == ORDER.log
    assert ORDER.log != ORDER.progress
    assert ORDER.log != "log"
    assert len({ORDER.log, OrderChannel(order_id="o1").log, ORDER.progress}) == 2
    assert isinstance(ORDER.log, ChannelTopic)
    assert isinstance(OrderChannel.log, Topic)
    assert "order:o1" in repr(ORDER)
    assert "order:o1" in repr(ORDER.log)


@pytest.mark.parametrize("name", ["", "{", "{}", "{0}", "{a.b}", "{a!r}", "{a:>3}", "{a}{a}"])
def test_names_that_cannot_be(name: str) -> None:
    """A parameter is a Python name in braces, once."""
    with pytest.raises(ChannelDefinitionError):
        type("Wrong", (Channel,), {}, name=name)


def test_definitions() -> None:
    """What a channel cannot be is refused where it is defined."""
    with pytest.raises(ChannelDefinitionError, match="no type that Pydantic knows"):
        Topic(threading.Lock)
    with pytest.raises(ChannelDefinitionError, match=r"Topic\(name=...\) is a text, not int"):
        Topic(str, name=5)  # type: ignore[arg-type]
    with pytest.raises(ChannelDefinitionError, match="plaintext"):
        Topic(str, plaintext="yes")  # type: ignore[arg-type]
    with pytest.raises(ChannelDefinitionError, match="the attribute 'name'"):
        type("Wrong", (Channel,), {"name": Topic(str)}, name="x")
    two = {"a": Topic(str, name="same"), "b": Topic(int, name="same")}
    with pytest.raises(ChannelDefinitionError, match="two topics named 'same'"):
        type("Wrong", (Channel,), two, name="x")
    with pytest.raises(ChannelDefinitionError, match="has no name"):
        Channel()
    with pytest.raises(ChannelDefinitionError, match="annotation"):
        type("Wrong", (Channel,), {"__annotations__": {"a": "Unknown"}}, name="{a}")
    named = type("Named", (Channel,), {"line": Topic(str, name="name")}, name="x")
    assert named().topics() == ["name"]
