"""A changed, moved or forged ciphertext is never taken for a value."""

from __future__ import annotations

import base64
import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import inngest
import pytest

from inngest_plugins.encryption import (
    DecryptionError,
    EncryptionPlugin,
    Key,
    KeyRing,
    RejectedError,
)

VALUE = {"card": "4242 4242", "lines": [1, None, 2.5]}
RING = KeyRing(Key.generate("2026-11"))
plugin = EncryptionPlugin(RING)
other = EncryptionPlugin(KeyRing(Key.generate("2026-11")))
ENVELOPE = plugin.encrypt(VALUE)


def refused(envelope: Any) -> bool:
    try:
        plugin.decrypt(envelope)
    except DecryptionError:
        return True
    return False


def test_every_byte_flipped_is_refused() -> None:
    """Each byte of the envelope's JSON, flipped in each bit that leaves it JSON, is an error."""
    text = json.dumps(ENVELOPE, separators=(",", ":")).encode()
    tried = 0
    for position in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[position] ^= 1 << bit
            try:
                changed = json.loads(flipped.decode())
            except ValueError:
                continue
            if changed == ENVELOPE:
                continue
            tried += 1
            assert refused(changed), flipped
    assert tried > 1000


def test_every_byte_of_the_binary_flipped_is_refused() -> None:
    """Salt, nonce, ciphertext and tag are all authenticated."""
    raw = base64.b64decode(ENVELOPE["data"])
    for position in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            assert refused({**ENVELOPE, "data": base64.b64encode(flipped).decode()})


def test_every_length_but_its_own_is_refused() -> None:
    """Truncated and extended data is an error, down to nothing."""
    raw = base64.b64decode(ENVELOPE["data"])
    for length in range(len(raw)):
        assert refused({**ENVELOPE, "data": base64.b64encode(raw[:length]).decode()})
    for extra in (b"\0", b"\0" * 16, raw):
        assert refused({**ENVELOPE, "data": base64.b64encode(raw + extra).decode()})


@pytest.mark.parametrize("field", list(ENVELOPE))
def test_a_field_dropped_retyped_or_renamed_is_refused(field: str) -> None:
    """The envelope is exactly its fields."""
    without = {key: value for key, value in ENVELOPE.items() if key != field}
    assert refused(without)
    assert refused({**without, field + "x": ENVELOPE[field]})
    wrongs: list[Any] = [None, 1, True, False, [], {}, "", [ENVELOPE[field]], b"x"]
    for wrong in wrongs:
        if wrong is not ENVELOPE[field]:
            assert refused({**ENVELOPE, field: wrong}), (field, wrong)


def test_fields_swapped_or_added_are_refused() -> None:
    """No two fields can trade places, and none can be added."""
    fields = list(ENVELOPE)
    for first in fields:
        for second in fields:
            if first != second:
                swapped = {**ENVELOPE, first: ENVELOPE[second], second: ENVELOPE[first]}
                assert refused(swapped), (first, second)
    extras: list[dict[str, Any]] = [
        {"extra": 1},
        {"wrapped": "AAAA"},
        {"wrapped": 1},
        {"_inngest": {}},
    ]
    for extra in extras:
        assert refused({**ENVELOPE, **extra})


@pytest.mark.parametrize("tail", ["\ud800", "\u00e9", "\x00", " "])
def test_a_head_with_more_in_it_is_refused(tail: str) -> None:
    """Also where the addition has no UTF-8 form."""
    assert refused({**ENVELOPE, "head": ENVELOPE["head"] + tail})


def test_a_duplicated_field_is_refused() -> None:
    """In JSON with a field given twice, the later one counts and is checked."""
    for field in ENVELOPE:
        text = json.dumps(ENVELOPE)[:-1] + f', "{field}": "AAAA"}}'
        assert refused(json.loads(text))


def test_parts_of_two_envelopes_do_not_mix() -> None:
    """Head of one and data of another is an error, also under the same key."""
    second = EncryptionPlugin(RING, compress="zlib").encrypt(["x" * 600])
    assert refused({**ENVELOPE, "data": second["data"]})
    assert refused({**ENVELOPE, "head": second["head"]})


@pytest.mark.parametrize(
    "spelling",
    [
        lambda data: data + "\n",
        lambda data: " " + data,
        lambda data: data[:8] + "\n" + data[8:],
        lambda data: data[:8] + "*" + data[8:],
        lambda data: data.rstrip("="),
        lambda data: data + "=",
        lambda data: data.replace("A", "-"),
        lambda data: data + data,
        lambda data: data + "\u00e9",
    ],
)
def test_only_canonical_base64_is_read(spelling: Any) -> None:
    """Another spelling of the same bytes is not the value that was written."""
    envelope = plugin.encrypt("A" * 31)
    changed = spelling(envelope["data"])
    if changed != envelope["data"]:
        assert refused({**envelope, "data": changed})


@pytest.mark.parametrize("size", [30, 31, 32])
def test_unused_bits_before_the_padding_must_be_zero(size: int) -> None:
    """base64 leaves two or four bits unused; decoders ignore them, this reader does not."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for writer in (plugin, EncryptionPlugin("k", strategy="libsodium")):
        envelope = writer.encrypt("x" * size)
        data = envelope["data"]
        last = len(data.rstrip("=")) - 1
        for letter in alphabet:
            if letter != data[last]:
                with pytest.raises(DecryptionError):
                    writer.decrypt({**envelope, "data": data[:last] + letter + data[last + 1 :]})


@hypothesis.given(
    st.dictionaries(
        st.sampled_from(["__ENCRYPTED__", "__STRATEGY__", "head", "data", "wrapped", "x"]),
        st.one_of(
            st.sampled_from([True, *[v for v in ENVELOPE.values() if v is not True]]),
            st.text(max_size=60),
            st.none(),
            st.integers(),
        ),
    )
)
@hypothesis.settings(max_examples=1000, deadline=None)
def test_random_envelopes_are_refused_or_returned_unchanged(envelope: dict[str, Any]) -> None:
    """Nothing an attacker puts together opens to a value that was not written."""
    try:
        got = plugin.decrypt(envelope)
    except DecryptionError:
        return
    assert got is envelope or got == VALUE


def test_the_wrong_key_under_the_right_name_is_refused_for_good() -> None:
    """A failed authentication names the key and is not retriable."""
    with pytest.raises(RejectedError, match=r"authenticate \(tried: 2026-11\)") as caught:
        other.decrypt(ENVELOPE)
    assert isinstance(caught.value, inngest.NonRetriableError)


def test_an_unknown_key_is_retriable() -> None:
    """Another worker may be ahead in a rollout; the error says what to deploy."""
    newer = EncryptionPlugin(KeyRing(Key.generate("2027-01"))).encrypt(VALUE)
    with pytest.raises(DecryptionError) as caught:
        plugin.decrypt(newer)
    assert not isinstance(caught.value, inngest.NonRetriableError)
    for part in ("'2027-01'", "tried: 2026-11", "Deploy that key"):
        assert part in str(caught.value)


@pytest.mark.parametrize("strategy", ["inngest-plugins/xchacha20", "INNGEST/LIBSODIUM", ""])
def test_an_unknown_strategy_or_version_is_retriable_and_no_value(strategy: str) -> None:
    """A newer release may have written it: ciphertext must not reach a handler meanwhile."""
    for envelope in (
        {**ENVELOPE, "__STRATEGY__": strategy},
        {**ENVELOPE, "head": "2" + ENVELOPE["head"][1:]},
    ):
        with pytest.raises(DecryptionError) as caught:
            plugin.decrypt(envelope)
        assert not isinstance(caught.value, RejectedError)


def test_errors_show_no_secret_and_no_value() -> None:
    """Neither key material nor plaintext nor ciphertext is in an error."""
    for envelope in (
        {**ENVELOPE, "head": ENVELOPE["head"] + "x"},
        {**ENVELOPE, "data": ENVELOPE["data"][:-8]},
    ):
        with pytest.raises(DecryptionError) as caught:
            plugin.decrypt(envelope)
        text = str(caught.value) + repr(caught.value)
        assert "4242 4242" not in text
        assert ENVELOPE["data"][:20] not in text
        assert caught.value.__cause__ is None
