"""Wrong options of the encryption plugin: found at once, by errors that help and show no secret."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from inngest_plugins.encryption import ConfigurationError, EncryptionPlugin, Key, KeyRing


def _any(value: object) -> Any:
    """Hide a value's type from type checkers."""
    return value


SECRET = base64.b64encode(bytes(range(200, 232))).decode()
URL_SAFE = SECRET.rstrip("=").replace("/", "_").replace("+", "-")


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        URL_SAFE,
        f"{SECRET}:2026-11",
        f"{URL_SAFE}:2026-11",
        f"2026-11={SECRET}",
        f"{URL_SAFE}:official:/w==",
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
        ("fallback", 5, "fallback holds keys.*not int"),
        ("fallback", None, "fallback holds keys.*not NoneType"),
        ("event_fields", None, "event_fields is the names of fields.*not NoneType"),
        ("event_fields", "**", r"event_fields has '\*\*', and there are no patterns"),
        ("event_fields", ("card", "addr*"), r"event_fields has 'addr\*', .*write the names"),
        ("event_fields", "card,nested", "'card,nested' is the name of one field, comma"),
        ("event_fields", " card", "' card' is the name of one field, .*write several as"),
        ("event_fields", " * ", "is the name of one field"),
        ("event_fields", "", "none of them empty"),
        ("event_fields", ["card", ""], "none of them empty"),
        ("decrypt_only", "false", "decrypt_only is True or False, not str"),
        ("encrypt_errors", "no", "encrypt_errors is True or False, not str"),
        ("require_encrypted", None, "require_encrypted is True or False, not NoneType"),
        ("max_decompressed", "64M", "max_decompressed must be a positive number of bytes"),
        ("max_decompressed", True, "max_decompressed must be a positive number of bytes"),
        ("max_decompressed", 0, "max_decompressed must be a positive number of bytes"),
        ("strategy", "rot13", "strategy must be one of 'aes-256-gcm', 'libsodium', not 'rot13'"),
        pytest.param("strategy", 10**5000, "strategy must be one of", id="strategy"),
        pytest.param("bind", 10**5000, "bind must be one of 'step', 'run'", id="bind"),
        pytest.param("compress", 10**5000, "compress must be one of None, 'zlib'", id="compress"),
    ],
)
def test_an_option_of_the_wrong_kind_is_named(option: str, value: Any, message: str) -> None:
    """At construction, with what it takes."""
    with pytest.raises(ConfigurationError, match=message):
        EncryptionPlugin(KeyRing.generate(), **{option: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Key.generate(_any(3)), "a key id is a str, not int"),
        (lambda: Key.generate(""), "a key id is 1 to 64 characters"),
        (lambda: Key.official("words", id=""), "a key id is 1 to 64 characters"),
        (lambda: Key.official(_any(3)), "is a str, or 64 hex digits as bytes, not int"),
        (lambda: Key.official(_any(None)), "is a str, or 64 hex digits as bytes, not NoneType"),
        (lambda: Key.from_passphrase(_any(3), id="p"), "a passphrase is a str, not int"),
        (
            lambda: Key.from_passphrase("a" * 16, id="p", salt=_any("s" * 16)),
            "salt of key 'p' is bytes or None, not str",
        ),
        (lambda: Key.from_text(_any(5)), "an entry of a key list is a str, not int"),
        (lambda: Key(_any(10**5000), _any("x")), "a key id is a str, not int"),
        (lambda: Key.from_passphrase("x", id=_any(10**5000)), "a key id is a str, not int"),
        (lambda: Key.from_passphrase("a" * 16, id="\ud800"), "a key id is 1 to 64 characters"),
        (
            lambda: Key("a", bytes(32), wrapped=_any(b"wrapped")),
            "the wrapped secret of key 'a' is a str, not bytes",
        ),
        (lambda: Key.from_passphrase("\ud800" + "a" * 16, id="p"), "'p' has half of a surrogate"),
    ],
)
def test_a_key_of_the_wrong_kind_is_told(make: Callable[[], Key], message: str) -> None:
    """No id is not an empty one, and what is no text fails here, not inside a library."""
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Key(_any(bytes(range(200, 232))), _any("2026-11")),
        lambda: Key(SECRET, _any("2026-11")),
        lambda: Key(URL_SAFE, _any("2026-11")),
        lambda: Key.generate(SECRET),
        lambda: Key.official("words", id=SECRET),
        lambda: Key.from_passphrase("short", id=SECRET),
        lambda: Key.from_passphrase("short", id=URL_SAFE),
        lambda: KeyRing.from_env(f"2026-11:{SECRET}"),
        lambda: KeyRing.from_env(SECRET),
        lambda: KeyRing.from_file(f"2026-11:{SECRET}"),
        lambda: KeyRing.from_file(f"2026-11:{SECRET},2026-05:{SECRET}"),
    ],
)
def test_a_secret_in_the_place_of_a_name_is_not_repeated(make: Callable[[], object]) -> None:
    """The arguments swapped, or the keys in place of the variable or file that holds them."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    told = str(caught.value)
    assert SECRET[:20] not in told
    assert URL_SAFE[:20] not in told
    assert r"\xc8" not in told


def test_there_may_be_no_limit_of_what_expands() -> None:
    """A number that no memory can hold is taken for what it means."""
    for limit in (2**63, 10**5000):
        plugin = EncryptionPlugin(KeyRing.generate(), compress="zlib", max_decompressed=limit)
        assert plugin.decrypt(plugin.encrypt("x" * 1000)) == "x" * 1000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KeyRing.from_env(_any(5)), "the name of an environment variable .*, not int"),
        (lambda: KeyRing.from_env(_any(None)), "the name of an environment .*, not NoneType"),
        (lambda: KeyRing.from_env("\ud800"), r"no environment variable has the name '\\+ud800'"),
        (
            lambda: KeyRing.from_env("SHOP_KEYS", official=_any(5)),
            "environment variable with an official key is a str, not int",
        ),
        (lambda: KeyRing.from_file(_any(5)), "path of a key file is a str or a .*, not int"),
        (lambda: KeyRing.from_file(_any(b"keys")), "path of a key file .*, not bytes"),
        (lambda: KeyRing.from_file("a\x00b"), r"a\\u0000b cannot be read: no file has such"),
        (lambda: KeyRing.from_file("\ud800"), r"\\ud800 cannot be read: no file has such"),
        (lambda: KeyRing.generate().with_primary(_any("k:x")), "made of Key objects, not str"),
        (lambda: KeyRing.generate().with_fallback(_any(5)), "made of Key objects, not int"),
    ],
)
def test_what_names_no_keys_is_told(
    make: Callable[[], KeyRing], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number in the place of a variable or a path, and texts that can name neither."""
    monkeypatch.setenv("SHOP_KEYS", Key.generate("a").to_text())
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_an_empty_variable_is_not_called_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees the variable in their settings looks at its value, not for its name."""
    monkeypatch.delenv("SHOP_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="SHOP_KEYS is not set"):
        KeyRing.from_env("SHOP_KEYS")
    monkeypatch.setenv("SHOP_KEYS", " ")
    with pytest.raises(ConfigurationError, match="SHOP_KEYS is empty"):
        KeyRing.from_env("SHOP_KEYS")


def test_one_key_may_be_the_fallback() -> None:
    """A single key needs no list around it."""
    old = Key.generate("old")
    options: dict[str, Any] = {"fallback": old}
    plugin = EncryptionPlugin(KeyRing.generate(), **options)
    assert plugin.decrypt(EncryptionPlugin(KeyRing(old)).encrypt(1)) == 1
