"""Reads and writes the formats of the official middlewares.

Both are described, with what each implementation accepts, in the plugin's README. Reading here is
strict wherever the implementations differ: what a strict reader takes, all writers write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import pybase64
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from inngest_plugins.encryption.errors import Refusal
from inngest_plugins.encryption.keys.key import Key

from .envelope import MARKER, STRATEGY_FIELD, Envelope, decode_base64
from .plaintext import load_official

SODIUM: Final = "inngest/libsodium"

_SODIUM_OVERHEAD: Final = 40
_V0_MAGIC: Final = b"Salted__"
_V0_SALT_END: Final = 16
_BLOCK: Final = 16
_HINT: Final = (
    "It was changed after it was written, or written under another key: put that key into the key "
    "ring with Key.official"
)


def seal_sodium(key: Key, text: bytes) -> Envelope:
    """Encrypt JSON text as the TypeScript and the official Python middleware do.

    XSalsa20-Poly1305 (NaCl secretbox): base64 of nonce[24] mac[16] ciphertext.
    """
    data = pybase64.b64encode_as_string(key.boxes[0].encrypt(text))
    return {MARKER: True, STRATEGY_FIELD: SODIUM, "data": data}


def open_sodium(keys: Iterable[Key], data: str) -> Any:
    """Open what `inngest/libsodium` wrote, trying the keys in order.

    Raises:
        Refusal: no key opens it, or what it holds is not JSON.
    """
    raw = decode_base64(data)
    tried: list[str] = []
    if len(raw) >= _SODIUM_OVERHEAD:
        from nacl.exceptions import CryptoError

        for key in keys:
            tried.append(key.id)
            for box in key.boxes:
                try:
                    text = box.decrypt(raw)
                except CryptoError:
                    continue
                return _read(text, with_constants=True)
    raise _unopened(SODIUM, tried)


def open_v0(keys: Iterable[Key], data: str) -> Any:
    """Open what version 0 of the TypeScript middleware wrote, trying the keys in order.

    AES-256-CBC of crypto-js: base64 of "Salted__" salt[8] ciphertext, key and IV by
    EVP_BytesToKey with MD5. There is no authentication: a key fits when its output has
    valid padding, is UTF-8 and is JSON.

    Raises:
        Refusal: no key yields JSON.
    """
    raw = decode_base64(data)
    body = raw[_V0_SALT_END:]
    tried: list[str] = []
    if raw.startswith(_V0_MAGIC) and body and len(body) % _BLOCK == 0:
        for key in keys:
            if key.passphrase is None:
                continue
            tried.append(key.id)
            secret, iv = _bytes_to_key(key.passphrase, raw[len(_V0_MAGIC) : _V0_SALT_END])
            decryptor = Cipher(algorithms.AES256(secret), modes.CBC(iv)).decryptor()
            padding = PKCS7(8 * _BLOCK).unpadder()
            try:
                text = padding.update(decryptor.update(body)) + padding.finalize()
                return load_official(text, with_constants=False)
            except ValueError:
                continue
    raise _unopened("the V0 format of TypeScript", tried)


def _bytes_to_key(passphrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """OpenSSL's EVP_BytesToKey: MD5, one iteration, 32 bytes of key and 16 of IV."""
    derived = block = b""
    while len(derived) < 48:
        block = hashlib.md5(block + passphrase + salt, usedforsecurity=False).digest()
        derived += block
    return derived[:32], derived[32:48]


def _read(text: bytes, *, with_constants: bool) -> Any:
    try:
        return load_official(text, with_constants=with_constants)
    except ValueError:
        raise Refusal(
            "its plaintext is not JSON",
            "TypeScript writes such a value for a field that is undefined",
        ) from None


def _unopened(form: str, tried: list[str]) -> Refusal:
    if not tried:
        reason = f"it is not a whole value of {form}, or no key fits that format"
    else:
        reason = f"it does not open as {form} with any key (tried: {', '.join(tried)})"
    return Refusal(reason, _HINT, missing_key="")
