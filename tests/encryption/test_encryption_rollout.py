"""Keys and formats change while messages are in flight, and every message stays readable."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from inngest_plugins.encryption import (
    DecryptionError,
    EncryptionPlugin,
    Key,
    KeyRing,
)

OLD, NEW = Key.generate("old"), Key.generate("new")
OFFICIAL = Key.official("what the old app used")

ROTATION = [
    EncryptionPlugin(KeyRing(OLD)),
    EncryptionPlugin(KeyRing(OLD, NEW)),
    EncryptionPlugin(KeyRing(NEW, OLD)),
    EncryptionPlugin(KeyRing(NEW)),
]
MIGRATION = [
    EncryptionPlugin([OFFICIAL], strategy="libsodium"),
    EncryptionPlugin(KeyRing(OFFICIAL, NEW), strategy="libsodium"),
    EncryptionPlugin(KeyRing(NEW, OFFICIAL)),
    EncryptionPlugin(KeyRing(NEW)),
]
VALUE = {"card": "4242"}


@pytest.mark.parametrize("stages", [ROTATION, MIGRATION], ids=["rotation", "migration"])
def test_neighbouring_stages_read_each_other(stages: list[EncryptionPlugin]) -> None:
    """Workers at any two stages that follow each other read what either writes."""
    for earlier, later in itertools.pairwise(stages):
        assert later.decrypt(earlier.encrypt(VALUE)) == VALUE
        assert earlier.decrypt(later.encrypt(VALUE)) == VALUE


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_workers_upgraded_in_any_order_lose_no_message(order: tuple[int, ...]) -> None:
    """Three workers walk through the stages one at a time; all old messages stay readable."""
    for stages in (ROTATION, MIGRATION):
        workers = [stages[0]] * 3
        written: list[Any] = [stages[0].encrypt(VALUE)]
        for stage in stages[1:-1]:
            for worker in order:
                workers[worker] = stage
                written += [each.encrypt(VALUE) for each in workers]
                for reader, message in itertools.product(workers, written):
                    assert reader.decrypt(message) == VALUE
        # Only once nothing is left under the old key may it go.
        last = [each for each in written if "new" in each.get("head", "")]
        assert last
        assert all(stages[-1].decrypt(message) == VALUE for message in last)
        with pytest.raises(DecryptionError):
            stages[-1].decrypt(written[0])


def test_rolling_out_encryption_begins_with_workers_that_only_decrypt() -> None:
    """decrypt_only reads what encrypting workers write, and accepts keys that cannot encrypt."""
    reader = EncryptionPlugin(KeyRing(OLD), decrypt_only=True)
    writer = EncryptionPlugin(KeyRing(OLD))
    assert reader.decrypt(writer.encrypt(VALUE)) == VALUE
    assert reader.decrypt({"plain": 1}) == {"plain": 1}
    EncryptionPlugin(KeyRing(OFFICIAL), decrypt_only=True)


def test_the_official_python_middleware_and_this_plugin_read_each_other() -> None:
    """Both ways, for text keys and hex keys, with the installed package."""
    import logging

    import inngest_encryption

    class Client:
        logger = logging.getLogger("official")

    for secret in ("a passphrase", b"0123456789abcdef" * 4):
        official: Any = inngest_encryption.EncryptionMiddleware(Client(), None, secret)  # type: ignore[arg-type]
        ours = EncryptionPlugin(secret, strategy="libsodium")
        for value in (VALUE, None, "", 0, [1.5, "\ud83d", "\u00e9"], 2**70):
            sealed = orjson.loads(orjson.dumps(ours.encrypt(value)))
            assert official._decrypt(sealed) == value
            assert ours.decrypt(official._encrypt(value)) == value
        assert ours.decrypt(official._encrypt({"__ENCRYPTED__": False})) == {"__ENCRYPTED__": False}


def test_a_random_key_writes_libsodium_that_the_official_python_reads() -> None:
    """A ring of random keys works with the libsodium strategy, as hex bytes do officially."""
    key = Key.generate()
    writer = EncryptionPlugin(key, strategy="libsodium")
    _, _, encoded = key.to_text().partition(":")
    import base64

    reader = EncryptionPlugin(base64.b64decode(encoded).hex().encode(), strategy="libsodium")
    assert reader.decrypt(writer.encrypt(VALUE)) == VALUE
