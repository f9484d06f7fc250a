"""Wrong options of the encryption plugin: found at once, in words that help and tell no secret."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from inngest_plugins.encryption import ConfigurationError, EncryptionPlugin, Key, KeyRing

SECRET = base64.b64encode(bytes(range(200, 232))).decode()


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        SECRET.replace("+", "-").replace("/", "_").rstrip("="),
        f"{SECRET}:2026-11",
        f"{SECRET.rstrip('=').replace('/', '_').replace('+', '-')}:2026-11",
        f"2026-11={SECRET}",
        f"{SECRET.replace('+', '-').replace('/', '_').rstrip('=')}:official:/w==",
        f"{SECRET}:{SECRET}",
        f"2026-11:{SECRET[:20]}",
        f"2026-11:base64:{SECRET}",
    ],
)
def test_a_malformed_key_list_is_not_repeated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A bare key, or id and key swapped, is told without a piece of the key."""
    monkeypatch.setenv("SHOP_KEYS", text)
    with pytest.raises(ConfigurationError, match="SHOP_KEYS") as caught:
        KeyRing.from_env("SHOP_KEYS")
    pieces = {SECRET[start : start + 8] for start in range(36)}
    assert not [piece for piece in pieces if piece in str(caught.value)]


def test_a_key_that_stands_twice_in_a_ring_is_named() -> None:
    """Also when it is one and the same object."""
    key = Key.generate("2026-11")
    with pytest.raises(ConfigurationError, match="two keys with the id '2026-11'"):
        KeyRing(key, key)
    with pytest.raises(ConfigurationError, match="two keys with the id '2026-11'"):
        EncryptionPlugin(key, fallback=[key])


def test_a_ring_is_made_of_keys() -> None:
    """A text is no key, and is not repeated."""
    text: Any = f"2026-11:{SECRET}"
    with pytest.raises(ConfigurationError, match="Key objects, not str") as caught:
        KeyRing(text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("fallback", "a text", "fallback holds keys.*not str"),
        ("event_fields", None, "event_fields is the names of fields.*not NoneType"),
        ("decrypt_only", "false", "decrypt_only is True or False, not str"),
        ("encrypt_errors", "no", "encrypt_errors is True or False, not str"),
        ("require_encrypted", None, "require_encrypted is True or False, not NoneType"),
        ("max_decompressed", "64M", "max_decompressed must be a positive number of bytes"),
        ("max_decompressed", 0, "max_decompressed must be a positive number of bytes"),
    ],
)
def test_an_option_of_the_wrong_kind_is_named(option: str, value: Any, message: str) -> None:
    """At construction, with what it takes."""
    with pytest.raises(ConfigurationError, match=message):
        EncryptionPlugin(KeyRing.generate(), **{option: value})


def test_one_key_may_be_the_fallback() -> None:
    """A single key needs no list around it."""
    old = Key.generate("old")
    options: dict[str, Any] = {"fallback": old}
    plugin = EncryptionPlugin(KeyRing.generate(), **options)
    assert plugin.decrypt(EncryptionPlugin(KeyRing(old)).encrypt(1)) == 1
