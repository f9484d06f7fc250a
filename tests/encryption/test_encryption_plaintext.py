"""No value changes on its way through JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import math
import struct
import traceback
import uuid
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import orjson
import pytest

from inngest_plugins.encryption import (
    DecryptionError,
    EncryptionPlugin,
    KeyRing,
    NotSerializableError,
)

plain = EncryptionPlugin(KeyRing.generate())
packed = EncryptionPlugin(KeyRing.generate(), compress="zlib")
sodium = EncryptionPlugin("passphrase", strategy="libsodium")

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=[]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=25,
)


class Colour(enum.Enum):
    RED = "red"


class Size(str, enum.Enum):
    BIG = "big"


class Level(enum.IntEnum):
    HIGH = 3


class Money(float):
    pass


class Opaque:
    pass


@dataclasses.dataclass
class Point:
    x: int


class Pair(NamedTuple):
    left: int
    right: int


def exactly_same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(exactly_same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(exactly_same, left, right))
    return bool(left == right)


@pytest.mark.parametrize("plugin", [plain, packed, sodium])
@hypothesis.given(value=json_values)
@hypothesis.settings(max_examples=300, deadline=None)
def test_every_json_value_comes_back_identical(plugin: EncryptionPlugin, value: Any) -> None:
    """Types, float bits, key order, big integers and lone surrogates survive, in every format."""
    sealed = orjson.loads(orjson.dumps(plugin.encrypt(value)))
    assert exactly_same(plugin.decrypt(sealed), value)


@hypothesis.given(value=json_values, bits=st.integers(0, 2**52 - 1), sign=st.booleans())
@hypothesis.settings(max_examples=300, deadline=None)
def test_every_non_finite_float_is_refused(value: Any, bits: int, sign: bool) -> None:
    """Each of the 2**53 NaN and infinity patterns is an error wherever it stands."""
    odd = struct.unpack("<d", struct.pack("<Q", (sign << 63) | (0x7FF << 52) | bits))[0]
    assert not math.isfinite(odd)
    for spot in (odd, [value, odd], {"a": value, "b": {"c": odd}}, [odd, odd, value]):
        with pytest.raises(NotSerializableError, match="NaN or infinite"):
            plain.encrypt(spot)


@pytest.mark.parametrize("float_like", ["gABCDEF\xf0\x7f", "ggggggggg", "\x7f" * 40, "g" * 40])
def test_texts_that_look_like_floats_to_the_proof_are_still_written(float_like: str) -> None:
    """A false alarm of the NaN search costs time, never correctness."""
    for value in (float_like, [float_like, None, -1, 2**31], {float_like: float_like}):
        assert plain.decrypt(plain.encrypt(value)) == value


def test_an_integer_with_the_bytes_of_a_nan_is_still_an_integer() -> None:
    """A false alarm on an integer takes the exact path and comes back equal."""
    values = [-1, -(2**31), 2**31 - 1, *(n << 15 for n in range(200)), 0x7FF8_6767_6767_6767_67]
    assert plain.decrypt(plain.encrypt(values)) == values


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"x", "bytes"),
        (bytearray(b"x"), "bytearray"),
        (memoryview(b"x"), "memoryview"),
        ({1, 2}, "set"),
        (frozenset(), "frozenset"),
        (1j, "complex"),
        (..., "ellipsis"),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), "datetime.datetime"),
        (datetime.date(2026, 1, 1), "datetime.date"),
        (datetime.time(1), "datetime.time"),
        (datetime.timedelta(1), "datetime.timedelta"),
        (decimal.Decimal("1.5"), "decimal.Decimal"),
        (uuid.UUID(int=7), "uuid.UUID"),
        (Point(1), "Point"),
        (Opaque(), "Opaque"),
        (Colour.RED, "Colour"),
        (orjson.Fragment(b"1"), "Fragment"),
        (Exception("x"), "Exception"),
        (int, "type"),
        ({1: "a"}, "key of type int"),
        ({None: 1}, "key of type NoneType"),
        ({(1, 2): 1}, "key of type tuple"),
        ({1.5: 1}, "key of type float"),
        ({True: 1}, "key of type bool"),
        ({uuid.UUID(int=7): 1}, "key of type uuid.UUID"),
        (float("nan"), "NaN"),
        (float("inf"), "infinite"),
        pytest.param(10**5000, "14000 bits", id="huge integer"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_path(value: Any, kind: str) -> None:
    """The error names the type and the path, and repeats nothing of the value."""
    with pytest.raises(NotSerializableError) as caught:
        plain.encrypt({"order": {"odd key": [0, value]}})
    assert '$.order["odd key"][1]' in str(caught.value)
    assert kind in str(caught.value)


@pytest.mark.parametrize("key", ["ann@example.com", "4242 4242", "a" * 41, "é", "\x1b[2J"])
def test_keys_that_read_as_data_do_not_stand_in_the_path(key: str) -> None:
    """The error leaves in the clear, and dicts are often keyed by what must not."""
    with pytest.raises(NotSerializableError) as caught:
        plain.encrypt({"by": {"other": 1, key: {"at": b"x"}}})
    assert "at $.by[key 2].at there is" in str(caught.value)
    assert key not in str(caught.value)


class Loud(dict[str, Any]):
    """A dict that raises a payload when it is read."""

    def items(self) -> Any:
        raise LookupError("card 4242-4242")


def _refuse_class(self: Any) -> Any:
    raise asyncio.CancelledError("card 4242-4242")


LoudText: Any = type("LoudText", (str,), {"__class__": property(_refuse_class)})


@pytest.mark.parametrize("value", [Loud(a=1), {"a": [LoudText("x")], "b": float("nan")}])
def test_a_value_that_raises_when_it_is_read_is_refused_without_its_words(value: Any) -> None:
    """What a subclass of dict or str raises stands in no message and no chain."""
    with pytest.raises(NotSerializableError) as caught:
        plain.encrypt(value)
    assert "card 4242" not in "".join(traceback.format_exception(caught.value))


def test_subclasses_are_written_as_what_they_subclass() -> None:
    """Values that plain `json` writes and that compare equal afterwards are kept working."""
    value = {
        "size": Size.BIG,
        "level": Level.HIGH,
        "price": Money(1.5),
        "ordered": OrderedDict(a=1),
        "default": defaultdict(int, b=2),
        Size.BIG: 1,
    }
    assert plain.decrypt(plain.encrypt(value)) == value
    assert plain.decrypt(plain.encrypt((1, Pair(2, 3)))) == [1, [2, 3]]


def test_deep_nesting_round_trips_up_to_a_named_limit() -> None:
    """500 levels come back; more, and cycles, are an error rather than a crash."""
    value: Any = 0
    for _ in range(499):
        value = [value]
    assert plain.decrypt(plain.encrypt(value)) == value
    with pytest.raises(NotSerializableError, match="deeper than 500"):
        plain.encrypt([[value]])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotSerializableError, match="containing itself"):
        plain.encrypt(loop)


def test_the_value_itself_is_left_alone() -> None:
    """Encrypting changes nothing of what it is given."""
    value = {"a": [1, {"b": 2}]}
    plain.encrypt(value)
    assert value == {"a": [1, {"b": 2}]}


def test_compression_pays_and_is_bounded() -> None:
    """Repetitive payloads shrink; what expands beyond the bound is refused; small ones stay."""
    value = ["the same line"] * 10_000
    assert len(packed.encrypt(value)["data"]) < len(plain.encrypt(value)["data"]) / 50
    assert packed.encrypt("short")["head"].startswith("1j:")
    assert packed.encrypt(value)["head"].startswith("1z:")
    assert packed.encrypt([*value, 2**70])["head"].startswith("1Z:")
    ring = KeyRing.generate()
    writer = EncryptionPlugin(ring, compress="zlib")
    reader = EncryptionPlugin(ring, max_decompressed=50_000)
    assert reader.decrypt(writer.encrypt(["x"] * 10_000)) == ["x"] * 10_000
    with pytest.raises(DecryptionError, match="expands beyond 50000 bytes"):
        reader.decrypt(writer.encrypt("x" * 60_000))
