"""Derives the keys that encrypt from a `Key`, so that random nonces never run out.

AES-GCM fails badly when a nonce repeats under one key, and 96 random bits allow 2**32 messages at
the most (NIST SP 800-38D, 8.3). An app that runs for years under one configured key gets there.
So no message is encrypted under the configured key. Each worker derives a key of its own from it
with HKDF-SHA256 (RFC 5869) and a random 128-bit salt, uses it for at most 2**20 messages with a
random nonce each, and takes a new salt then. The salt travels with each message.

The chance that a nonce repeats is then below 2**-57 for each derived key, and the chance that two
workers draw the same salt below 2**-64 after 2**32 salts: 2**52 messages for one configured key.
Nonces are random, not counted, on purpose: a process that is forked or restored from a memory
snapshot shares its derived key with its twin, and still neither repeats the other's nonces.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SALT_SIZE: Final = 16
MESSAGES_PER_SUBKEY: Final = 2**20
_INFO: Final = b"inngest-plugins/aes-256-gcm/1"
_CACHED: Final = 1024


class WritingKey:
    """A derived key that may still encrypt."""

    __slots__ = ("aes", "salt", "used")

    def __init__(self, salt: bytes, aes: AESGCM) -> None:
        self.salt = salt
        self.aes = aes
        self.used = itertools.count(1)


class Subkeys:
    """The keys derived from one secret: one to write with, and those that messages came with.

    Args:
        secret: 32 random bytes.
        limit: messages for each derived key.
    """

    __slots__ = ("_limit", "_lock", "_reading", "_secret", "_writing")

    def __init__(self, secret: bytes, *, limit: int = MESSAGES_PER_SUBKEY) -> None:
        self._secret = secret
        self._limit = limit
        self._writing: WritingKey | None = None
        self._reading: dict[bytes, AESGCM] = {}
        self._lock = threading.Lock()

    def to_write(self) -> WritingKey:
        """Return the key for one more message."""
        key = self._writing
        if key is None or next(key.used) > self._limit:
            salt = os.urandom(SALT_SIZE)
            key = self._writing = WritingKey(salt, self._derive(salt))
            next(key.used)
        return key

    def to_read(self, salt: bytes) -> AESGCM:
        """Return the key that a message with this salt was encrypted under."""
        return self._reading.get(salt) or self._derive_to_read(salt)

    def _derive_to_read(self, salt: bytes) -> AESGCM:
        aes = self._derive(salt)
        with self._lock:
            if len(self._reading) >= _CACHED:
                del self._reading[next(iter(self._reading))]
            self._reading[salt] = aes
        return aes

    def _derive(self, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(SHA256(), 32, salt, _INFO).derive(self._secret))
