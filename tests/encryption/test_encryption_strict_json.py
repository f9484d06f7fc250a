"""The fast writer against the standard library, with everything that fast writers get wrong."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import struct
import uuid
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import orjson
import ormsgpack
import pytest

from inngest_plugins.encryption import EncryptionPlugin, KeyRing, NotSerializableError
from inngest_plugins.encryption.formats import envelope

plain = EncryptionPlugin(KeyRing.generate())
sodium = EncryptionPlugin("passphrase", strategy="libsodium")


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Colour(enum.Enum):
    RED = "red"
    NONE = None


class Size(str, enum.Enum):
    BIG = "big"


class Level(enum.IntEnum):
    HIGH = 3


class Bits(enum.Flag):
    ONE = 1


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Point:
    x: int


class Scalar:
    """Quacks like a numpy scalar: converts itself to anything, and is none of it."""

    dtype = "float64"
    __array_interface__ = {"version": 3}

    def __float__(self) -> float:
        return 1.5

    def __int__(self) -> int:
        return 1

    __index__ = __int__

    def __str__(self) -> str:
        return "1.5"


odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [
        float("nan"),
        float("-inf"),
        1e400,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        -1,
        "\ud800",
        "\udfff tail",
        "\x00\x7f\x80\xff\u2028",
        "\x7f\U0001f389" + "x" * 198,
        Text("text"),
        Whole(7),
        Whole(2**70),
        Real(2.5),
        Real("nan"),
        Colour.RED,
        Colour.NONE,
        Size.BIG,
        Level.HIGH,
        Bits.ONE,
        uuid.UUID(int=7),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.date(2026, 1, 1),
        decimal.Decimal("1.5"),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        {1},
        1j,
        Point(1),
        Scalar(),
        orjson.Fragment(b"null"),
        ormsgpack.Ext(1, b"x"),
        collections.OrderedDict(a=1),
        collections.Counter(a=1),
        collections.UserDict(a=1),
        range(3),
        Pair(1, float("nan")),
        Pair(1, "x"),
        (),
    ]
)
values: st.SearchStrategy[Any] = st.recursive(
    odd_values
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", Text("b"), Size.BIG, True, None, 1, 1.5, "\ud800"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=8,
)


def by_the_standard_library(value: Any) -> str | None:
    """Return strict JSON, or None for what has none."""

    def has_only_text_keys(item: Any) -> bool:
        if isinstance(item, dict):
            return all(isinstance(key, str) for key in item) and all(
                map(has_only_text_keys, item.values())
            )
        return not isinstance(item, (list, tuple)) or all(map(has_only_text_keys, item))

    try:
        return json.dumps(value, allow_nan=False) if has_only_text_keys(value) else None
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize("plugin", [plain, sodium], ids=["own", "libsodium"])
@hypothesis.given(value=values)
@hypothesis.settings(max_examples=1500, deadline=None)
def test_what_is_written_is_what_strict_json_is_and_the_rest_is_refused(
    plugin: EncryptionPlugin, value: Any
) -> None:
    """No value comes back as another, and exactly what strict `json` refuses is refused."""
    expected = by_the_standard_library(value)
    if expected is None:
        with pytest.raises(NotSerializableError):
            plugin.encrypt(value)
    else:
        back = plugin.decrypt(orjson.loads(orjson.dumps(plugin.encrypt(value))))
        # A repr spells types, float bits, key order and surrogates; == does not.
        assert repr(back) == repr(json.loads(expected))


@pytest.mark.parametrize("filler", [[-1] * 3000, [0.1] * 3000, ["x"] * 3000, []])
@pytest.mark.parametrize("bits", [0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0 << 48, (0x7FF0 << 48) + 1])
@pytest.mark.parametrize("at_end", [True, False])
def test_one_nan_is_found_in_any_crowd(filler: list[Any], bits: int, at_end: bool) -> None:
    """Beside many bytes that could start a NaN, and where there are none."""
    (odd,) = struct.unpack("<d", struct.pack("<Q", bits))
    value = [*filler, odd] if at_end else [odd, *filler]
    with pytest.raises(NotSerializableError, match="NaN or infinite"):
        plain.encrypt(value)
    assert plain.decrypt(plain.encrypt(filler)) == filler


@pytest.mark.parametrize(
    "value",
    [
        "\x7f\U0001f389" + "x" * 198,
        0xCB7FF8CB7FF8 << 15,
        0xCB7FF8CB7FF8,
        struct.unpack(">d", b"\x40\xcb\x7f\xf8\xcb\xff\xf0\x7f")[0],
        [-1] * 203,
    ],
    ids=["text", "long integer", "integer", "float", "list"],
)
def test_what_looks_like_a_nan_to_the_proof_is_still_written(value: Any) -> None:
    """A false alarm costs time, never correctness."""
    for spot in (value, [value, None, value], {"a": value}):
        assert plain.decrypt(plain.encrypt(spot)) == spot


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("size", [65_534, 65_535, 65_536, 300_001])
def test_large_values_are_the_same_with_any_release_of_cryptography(
    monkeypatch: pytest.MonkeyPatch, in_place: bool, size: int
) -> None:
    """Whether it writes into given memory or not, what is read is what was written."""
    if in_place and not envelope._HAS_ENCRYPT_INTO:
        pytest.skip("this release of cryptography has no encrypt_into")
    monkeypatch.setattr(envelope, "_HAS_ENCRYPT_INTO", in_place)
    value = "x" * (size - 2)
    sealed = plain.encrypt(value)
    assert plain.decrypt(sealed) == value
    assert len(envelope.decode_base64(sealed["data"])) == 44 + size
