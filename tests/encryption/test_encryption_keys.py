"""Keys, rings, and what they must never show."""

from __future__ import annotations

import base64
import copy
import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.encryption import (
    ConfigurationError,
    DecryptionError,
    EncryptionPlugin,
    Key,
    KeyRing,
)
from inngest_plugins.encryption.keys.subkeys import Subkeys

SECRET = bytes(range(32))


def test_reprs_copies_and_pickles_hold_no_key_material() -> None:
    """A key shows its id only, is its own copy, and refuses to be pickled."""
    key = Key("k1", SECRET)
    official = Key.official("hunter2-hunter2")
    ring = KeyRing(key, official)
    plugin = EncryptionPlugin(ring)
    for shown in (repr(key), repr(official), repr(ring), str(ring), repr(plugin), repr([key])):
        for secret in ("hunter2", SECRET.hex(), base64.b64encode(SECRET).decode(), repr(SECRET)):
            assert secret not in shown
    assert "k1" in repr(ring)
    assert copy.copy(key) is key
    assert copy.deepcopy({"ring": ring})["ring"] is ring
    assert copy.deepcopy(key) is key
    assert copy.copy(ring) is ring
    for thing in (key, ring):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 31, b"x" * 33, "x" * 32, None])
def test_only_32_bytes_are_a_secret(secret: Any) -> None:
    """The error says how to make a key and does not repeat the secret."""
    with pytest.raises(ConfigurationError, match="32 random bytes") as caught:
        Key("k", secret)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("key_id", ["", "a:b", "a b", "\u00e9", "x" * 65, "a/b", "a,b"])
def test_ids_are_plain(key_id: str) -> None:
    """An id can stand in a head, an environment variable and an error."""
    with pytest.raises(ConfigurationError, match="key id"):
        Key(key_id, SECRET)


def test_a_ring_needs_distinct_keys() -> None:
    """No keys, or an id given twice, is an error at start."""
    with pytest.raises(ConfigurationError, match="at least one"):
        KeyRing()
    with pytest.raises(ConfigurationError, match="two keys with the id 'a'"):
        KeyRing(Key.generate("a"), Key.generate("b"), Key.generate("a"))


def test_rings_are_changed_by_making_new_ones() -> None:
    """with_primary, with_fallback and without leave the ring as it was."""
    first, second = Key.generate("1"), Key.generate("2")
    ring = KeyRing(first)
    assert ring.with_primary(second).ids == ("2", "1")
    assert ring.with_fallback(second).ids == ("1", "2")
    assert ring.with_fallback(second).with_primary(second).ids == ("2", "1")
    assert ring.with_fallback(second).without("1").ids == ("2",)
    assert ring.ids == ("1",)
    assert len(ring) == 1


def test_from_env_reads_what_keys_new_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries by comma or white space, an official key from a variable of its own."""
    first, second = Key.generate("1"), Key.generate("2")
    legacy = Key.official("p,a ss", id="legacy")
    monkeypatch.setenv("SHOP_KEYS", f" {first.to_text()},\n{second.to_text()}  {legacy.to_text()} ")
    monkeypatch.setenv("SHOP_OFFICIAL", "the old one")
    ring = KeyRing.from_env("SHOP_KEYS", official="SHOP_OFFICIAL")
    assert ring.ids[:3] == ("1", "2", "legacy")
    assert len(ring) == 4
    assert ring.primary.same_as(first)
    reader = EncryptionPlugin(ring)
    for key in ("the old one", "p,a ss"):
        assert reader.decrypt(EncryptionPlugin(key, strategy="libsodium").encrypt(1)) == 1
    monkeypatch.delenv("SHOP_OFFICIAL")
    assert len(KeyRing.from_env("SHOP_KEYS", official="SHOP_OFFICIAL")) == 3


@pytest.mark.parametrize(
    "text",
    ["", "  ", "justtext", "id:", "id:!!!!", "id:c2hvcnQ=", "id:x:y", "id:official:/w==", ","],
)
def test_a_wrong_variable_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The message tells the variable and the form, and repeats no secret."""
    monkeypatch.setenv("SHOP_KEYS", text)
    with pytest.raises(ConfigurationError, match="environment variable SHOP_KEYS") as caught:
        KeyRing.from_env("SHOP_KEYS")
    assert "c2hvcnQ" not in str(caught.value)


def test_url_safe_and_unpadded_base64_is_read() -> None:
    """Keys made by other tools are taken in either alphabet."""
    secret = b"\xff\xfe" * 16
    text = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    assert Key.from_text(f"k:{text}").same_as(Key("k", secret))


def test_from_file_follows_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed file is read again, at once for an unknown key; a broken one changes nothing."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    old, new = Key.generate("old"), Key.generate("new")
    path = tmp_path / "keys"
    path.write_text(f"# the keys\n{old.to_text()}  # in use\n")
    ring = KeyRing.from_file(path)
    plugin = EncryptionPlugin(ring)
    message = plugin.encrypt(1)
    kept = ring.primary
    path.write_text(f"{new.to_text()}\n{old.to_text()}\n")
    os.utime(path, ns=(1, 1))
    assert ring.primary.id == "old"
    newer = EncryptionPlugin(KeyRing(new)).encrypt(2)
    assert plugin.decrypt(newer) == 2
    assert ring.primary.id == "new"
    assert ring.find("old") is kept
    assert [key.id for key in ring] == ["new", "old"]

    path.write_text("broken")
    now[0] += 5
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        now[0] += 5
        assert plugin.decrypt(message) == 1
    path.unlink()
    for _ in range(3):
        now[0] += 5
        assert plugin.decrypt(message) == 1
    assert len(caplog.records) == 2
    path.write_text(f"{new.to_text()}\n")
    now[0] += 5
    with pytest.raises(DecryptionError):
        plugin.decrypt(message)


def test_a_key_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As editors on Windows write it; also when the file is read again."""
    path = tmp_path / "keys"
    path.write_text(Key.generate("one").to_text(), encoding="utf-8-sig")
    ring = KeyRing.from_file(path)
    assert ring.ids == ("one",)
    path.write_text(Key.generate("other").to_text(), encoding="utf-8-sig")
    assert ring.find("other") is not None


def test_an_unreadable_file_is_an_error_at_start(tmp_path: Path) -> None:
    """Missing, binary and empty files name the path."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_text("# nothing\n")
    for name in ("missing", "binary", "empty"):
        with pytest.raises(ConfigurationError, match=name):
            KeyRing.from_file(tmp_path / name)


def test_a_passphrase_is_stretched_explicitly() -> None:
    """The same text, id and salt give the same key; anything else another; a plain str none."""
    first = Key.from_passphrase("correct horse", id="p")
    assert first.same_as(Key.from_passphrase("correct horse", id="p"))
    assert not first.same_as(Key.from_passphrase("correct horse", id="p", salt=b"s" * 16))
    with pytest.raises(ConfigurationError, match="blank"):
        Key.from_passphrase("  ", id="p")
    with pytest.raises(ConfigurationError, match="16 bytes"):
        Key.from_passphrase("x", id="p", salt=b"short")
    for short in ("x", "hunter2", " " * 9 + "hunter2" + " " * 9):
        with pytest.raises(ConfigurationError, match=r"'p' has fewer than 12 characters") as caught:
            Key.from_passphrase(short, id="p")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("keys", ["text", b"text", ["text"], [Key.official("x"), "text"]])
def test_a_text_is_no_key_for_our_own_format(keys: Any) -> None:
    """The error shows every way out."""
    with pytest.raises(ConfigurationError) as caught:
        EncryptionPlugin(keys)
    for way_out in ("from_env", "from_passphrase", "libsodium", "Key.official"):
        assert way_out in str(caught.value)


def test_an_official_key_cannot_encrypt_our_own_format() -> None:
    """Noticed at start, not in the first run."""
    with pytest.raises(ConfigurationError, match="key of the official middlewares"):
        EncryptionPlugin(KeyRing(Key.official("x"), Key.generate()))
    EncryptionPlugin(KeyRing(Key.generate(), Key.official("x")))


@pytest.mark.parametrize("secret", ["", "  ", "\ufeff\u00a0", b"", b"zz" * 32, b"00" * 31, b"\xff"])
def test_unusable_official_keys_are_refused(secret: Any) -> None:
    """Blank texts, and bytes that are not 64 hex digits."""
    with pytest.raises(ConfigurationError):
        Key.official(secret)


def test_exporting_a_key_is_explicit() -> None:
    """to_text and from_text are inverse; what has no text says so."""
    for key in (Key.generate(), Key.official("  pass:phrase, \u00e9 ")):
        assert Key.from_text(key.to_text()).same_as(key) or key.is_official
    with pytest.raises(ConfigurationError, match="hex bytes"):
        Key.official(b"00" * 32).to_text()
    with pytest.raises(ConfigurationError, match="key service"):
        Key("k", SECRET, wrapped="w").to_text()


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "rot13"},
        {"bind": "app"},
        {"compress": "lzma"},
        {"strategy": "libsodium", "compress": "zlib"},
        {"strategy": "libsodium", "bind": "run"},
        {"max_decompressed": 0},
        {"event_fields": ("",)},
        {"event_fields": (1,)},
        {"keys": 7},
        {"keys": [7]},
        {"keys": []},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    """Every option that cannot work is an error while the app starts."""
    with pytest.raises(ConfigurationError):
        EncryptionPlugin(options.pop("keys", KeyRing.generate()), **options)


def test_derived_keys_change_before_nonces_can_repeat() -> None:
    """A subkey serves its number of messages, then a new salt is drawn; old ones stay readable."""
    subkeys = Subkeys(SECRET, limit=3)
    salts = [subkeys.to_write().salt for _ in range(7)]
    assert salts[0] == salts[1] == salts[2]
    assert salts[3] == salts[4] == salts[5]
    assert len({salts[0], salts[3], salts[6]}) == 3
    nonce = b"n" * 12
    sealed = subkeys.to_write().aes.encrypt(nonce, b"x", None)
    assert Subkeys(SECRET).to_read(salts[6]).decrypt(nonce, sealed, None) == b"x"


def test_derived_keys_in_memory_are_bounded() -> None:
    """Reading messages of many writers does not grow without end."""
    subkeys = Subkeys(SECRET)
    for number in range(1100):
        subkeys.to_read(number.to_bytes(16, "big"))
    assert len(subkeys._reading) == 1024
    assert subkeys.to_read((1099).to_bytes(16, "big")) is subkeys.to_read(
        (1099).to_bytes(16, "big")
    )


def test_the_fifth_fallback_key_is_found_without_trying_the_others() -> None:
    """Our format goes straight to the right key: no other key is touched."""
    keys = [Key.generate(str(number)) for number in range(6)]
    message = EncryptionPlugin(keys[5]).encrypt({"a": 1})
    ring = KeyRing(*keys)
    assert EncryptionPlugin(ring).decrypt(message) == {"a": 1}
    assert [len(key.subkeys._reading) for key in keys] == [0, 0, 0, 0, 0, 1]


def test_the_doctor_is_told_what_weakens_the_encryption() -> None:
    """decrypt_only, readable errors and no fields are findings; the defaults are none."""
    ring = KeyRing.generate()
    stack: Any = None
    assert list(EncryptionPlugin(ring).diagnose(stack)) == []
    assert "decrypt_only" in next(iter(EncryptionPlugin(ring, decrypt_only=True).diagnose(stack)))
    findings = list(EncryptionPlugin(ring, encrypt_errors=False, event_fields=()).diagnose(stack))
    assert len(findings) == 2
    weak = [Key.official("x", id="weak"), Key.official("long enough to stay", id="strong")]
    (finding,) = EncryptionPlugin(weak, strategy="libsodium").diagnose(stack)
    assert "'weak' is a text of 1 bytes, which can be guessed" in finding
    findings = list(EncryptionPlugin(ring, event_fields=("card", "user.email")).diagnose(stack))
    assert len(findings) == 1
    assert "'user.email': that is a top-level field of this very name" in findings[0]


def test_event_fields_may_be_one_name_several_or_all() -> None:
    """A lone text is one field's name, not its letters."""
    ring = KeyRing.generate()
    assert EncryptionPlugin(ring, event_fields="card")._fields == ("card",)
    assert EncryptionPlugin(ring, event_fields=["a", "b", "a"])._fields == ("a", "b")
    assert EncryptionPlugin(ring, event_fields=["a", "*"])._fields == "*"


def test_libsodium_is_loaded_for_the_official_formats_only() -> None:
    """An app that never meets an official value imports no PyNaCl."""
    program = """
import sys
from inngest_plugins.encryption import EncryptionPlugin, Key
plugin = EncryptionPlugin(Key("k", bytes(32)))
assert plugin.decrypt(plugin.encrypt({"a": 1})) == {"a": 1}
assert "nacl" not in sys.modules
official = EncryptionPlugin(Key.official("long enough to stay"), strategy="libsodium")
assert official.decrypt(official.encrypt(1)) == 1
assert "nacl" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
