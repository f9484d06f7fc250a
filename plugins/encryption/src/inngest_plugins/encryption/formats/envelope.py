"""This plugin's own format, byte by byte.

An encrypted value is a JSON object of exactly these fields:

    "__ENCRYPTED__": true
    "__STRATEGY__":  "inngest-plugins/aes-256-gcm"
    "head":          "1" codec ":" key id ":" context
    "data":          base64( salt[16] nonce[12] ciphertext[n] tag[16] )
    "wrapped":       only with a key service: the wrapped data key, base64url

`codec` is one letter: what the plaintext is. j: JSON. J: JSON that needs an exact reader. z, Z:
the same, compressed as a zlib stream (RFC 1950). `context` is described in `_context`. The
ciphertext is AES-256-GCM under HKDF-SHA256(ikm = the key's secret, salt, info =
"inngest-plugins/aes-256-gcm/1"), 32 bytes. Its associated data is `head` in ASCII, followed, if
there is `wrapped`, by ":" and that. Base64 is canonical, with padding.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Iterable, Mapping
from os import urandom
from typing import Any, Final, Protocol

import orjson
import pybase64
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from inngest_plugins.encryption.errors import Refusal
from inngest_plugins.encryption.keys.key import Key

from .plaintext import load

MARKER: Final = "__ENCRYPTED__"
STRATEGY_FIELD: Final = "__STRATEGY__"
STRATEGY: Final = "inngest-plugins/aes-256-gcm"

_VERSION: Final = "1"
_KINDS: Final = frozenset({"1j", "1J", "1z", "1Z"})
_HEAD_PARTS: Final = 3
_FIELD_COUNT: Final = 4
_SALT: Final = 16
_NONCE_END: Final = 28
_SMALLEST: Final = 44
_COPY_BELOW: Final = 65_536
"""Bytes from which a copy costs more than what avoids it."""

_HAS_ENCRYPT_INTO: Final = hasattr(AESGCM, "encrypt_into")
"""Whether this release of cryptography can write into a buffer of the caller."""

_COMPRESS_FROM: Final = 512

_TAMPERED: Final = (
    "It was changed after it was written, or comes from someone without the key; another attempt "
    "cannot succeed"
)

_LAST_OF_ONE: Final = "AQgw"
_LAST_OF_TWO: Final = "AEIMQUYcgkosw048"

_encode: Final = pybase64.b64encode_as_string
_decode: Final = pybase64.b64decode

Envelope = dict[str, Any]
Plaintext = tuple[str, bytes]


class KeySource(Protocol):
    """Where keys come from: a `KeyRing`, or what a key provider has delivered."""

    @property
    def primary(self) -> Key:
        """The key that encrypts."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys that are known, for errors."""
        ...

    def find(self, key_id: str, /) -> Key | None:
        """Return the key of this id."""
        ...

    def official(self) -> Iterable[Key]:
        """Return the keys to try on the official formats, in order."""
        ...


def seal(key: Key, dumped: tuple[bytes, bool], context: str, compression: int | None) -> Envelope:
    """Encrypt JSON text.

    Args:
        key: with a 32-byte secret.
        dumped: the plaintext, UTF-8, and whether only an exact reader may read it. As one
            argument, so that nobody else holds the text and its memory serves the next buffer:
            at 4 MB, fresh pages from the system cost as much as the encryption.
        context: what it is for.
        compression: zlib level, or None. What does not get smaller is not compressed.
    """
    text, exact = dumped
    del dumped
    codec = "J" if exact else "j"
    if compression is not None and len(text) >= _COMPRESS_FROM:
        smaller = zlib.compress(text, compression)
        if len(smaller) < len(text):
            text = smaller
            codec = "Z" if exact else "z"
    head = f"{_VERSION}{codec}:{key.id}:{context}"
    wrapped = key.wrapped
    bound = (head if wrapped is None else f"{head}:{wrapped}").encode()
    writing = (key.derived or key.subkeys).to_write()
    nonce = urandom(12)
    if len(text) < _COPY_BELOW or not _HAS_ENCRYPT_INTO:
        raw: bytes | bytearray = writing.salt + nonce + writing.aes.encrypt(nonce, text, bound)
    else:
        raw = bytearray(_SMALLEST + len(text))
        raw[:_SALT] = writing.salt
        raw[_SALT:_NONCE_END] = nonce
        writing.aes.encrypt_into(nonce, text, bound, memoryview(raw)[_NONCE_END:])
    del text
    data = _encode(raw)
    if wrapped is None:
        return {MARKER: True, STRATEGY_FIELD: STRATEGY, "head": head, "data": data}
    return {
        MARKER: True,
        STRATEGY_FIELD: STRATEGY,
        "head": head,
        "data": data,
        "wrapped": wrapped,
    }


def unseal(
    envelope: Mapping[str, Any], keys: KeySource, contexts: tuple[str, ...] | None
) -> Plaintext:
    """Decrypt a value that claims this format, strictly.

    Args:
        envelope: the value.
        keys: where to find the key that it names.
        contexts: what it may have been written for, or None for anything.

    Returns:
        The codec and the authenticated plaintext, for `read`.

    Raises:
        Refusal: it is damaged, not for this place, or its key is unknown.
    """
    wrapped = None
    if len(envelope) != _FIELD_COUNT:
        wrapped = envelope.get("wrapped")
        if len(envelope) != _FIELD_COUNT + 1 or type(wrapped) is not str:
            raise Refusal("the envelope has missing or extra fields", _TAMPERED)
    try:
        head, data, marker = envelope["head"], envelope["data"], envelope[MARKER]
    except KeyError:
        raise Refusal("the envelope has missing or renamed fields", _TAMPERED) from None
    if type(head) is not str or type(data) is not str or marker is not True:
        raise Refusal("a field of the envelope has the wrong type", _TAMPERED)
    parts = head.split(":", 2)
    if len(parts) != _HEAD_PARTS or parts[0] not in _KINDS:
        raise _malformed(parts[0])
    kind, key_id, context = parts
    key = keys.find(key_id)
    if key is None or key.derived is None:
        raise Refusal(
            f"its key {key_id[:64]!r} is not in the key ring (tried: {', '.join(keys.ids)})",
            "Deploy that key to this worker, as one that only decrypts; the engine will try "
            "again, as another worker may be ahead in a rollout",
            is_retriable=True,
            missing_key=key_id[:64],
        )
    raw = decode_base64(data)
    if len(raw) < _SMALLEST:
        raise Refusal("it is too short to be whole", _TAMPERED)
    body = raw[_NONCE_END:] if len(raw) < _COPY_BELOW else memoryview(raw)[_NONCE_END:]
    try:
        bound = (head if wrapped is None else f"{head}:{wrapped}").encode()
        text = key.derived.to_read(raw[:_SALT]).decrypt(raw[_SALT:_NONCE_END], body, bound)
    except (InvalidTag, UnicodeEncodeError):
        raise Refusal(f"it does not authenticate (tried: {key.id})", _TAMPERED) from None
    if contexts is not None and context not in contexts:
        raise Refusal(
            f"it was written as {context!r}, and here belongs {contexts[0]!r}",
            "It was moved after it was written; another attempt cannot succeed",
        )
    return kind[1], text


def _malformed(kind: str) -> Refusal:
    """Return why a head that begins like this is not read."""
    if kind[:1].isdigit() and kind[:1] != _VERSION:
        return Refusal(
            f"it is in version {kind[:1]} of the format",
            "Upgrade inngest-plugins on this worker; the engine will try again",
            is_retriable=True,
        )
    return Refusal("the head of the envelope is malformed", _TAMPERED)


def read(plaintext: Plaintext, max_size: int) -> Any:
    """Turn what `unseal` returned into the value.

    Args:
        plaintext: the codec and the text.
        max_size: bytes that a compressed plaintext may have when expanded.

    Raises:
        Refusal: it is larger than that, or not what the codec says.
    """
    codec, text = plaintext
    try:
        if codec == "j":
            return orjson.loads(text)
        if codec in "zZ":
            text = _expanded(text, max_size)
        return load(text, exact=codec in "JZ")
    except (ValueError, RecursionError):
        raise Refusal("its plaintext is not JSON", "It was written by something else") from None


def decode_base64(data: str) -> bytes:
    """Decode standard base64 of the one canonical spelling.

    Raises:
        Refusal: it is anything else, such as with other padding, line ends, or trailing bits.
    """
    try:
        raw = _decode(data, None, True)  # noqa: FBT003 - by name, it takes twice the time
    except (binascii.Error, ValueError):
        raise Refusal("its data is not base64", _TAMPERED) from None
    # The last bits before the padding encode nothing, and decoders ignore what they are.
    if data[-1:] == "=":
        last, unused = (data[-3], _LAST_OF_ONE) if data[-2] == "=" else (data[-2], _LAST_OF_TWO)
        if last not in unused:
            raise Refusal("its data is not canonical base64", _TAMPERED)
    return raw


def _expanded(text: bytes, max_size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(text, max_size)
    except zlib.error:
        raise Refusal("its plaintext is not a zlib stream", _TAMPERED) from None
    if not stream.eof:
        raise Refusal(
            f"it expands beyond {max_size} bytes",
            "Raise max_decompressed if that is what you store",
        )
    return plain


def context_of(value: Any) -> str | None:
    """Return the context that an envelope of this plugin names; None for anything else.

    Only for envelopes that have been opened: before that, the context is not authenticated.
    """
    head = value.get("head") if type(value) is dict else None
    if type(head) is not str:
        return None
    parts = head.split(":", 2)
    return parts[2] if len(parts) == 3 else None
