"""`Key`: one named key, random or official."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from inngest_plugins.core import ArgumentError
from inngest_plugins.encryption.errors import ConfigurationError

from .passphrase import box_keys, trimmed
from .subkeys import Subkeys

if TYPE_CHECKING:
    from nacl.secret import SecretBox

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET_SIZE: Final = 32
_LONGEST_SHOWN: Final = 32  # of an id in an error; 32 random bytes take more in any notation
MIN_PASSPHRASE: Final = 12
"""Characters of a passphrase. An attacker tries all shorter ones in hours, even with scrypt."""
_SCRYPT_COST: Final = 2**17
_OFFICIAL: Final = "official"


class Key:
    """A named key.

    There are two kinds. A key with a 32-byte secret encrypts in this plugin's own format. An
    *official* key (`Key.official`) is what the official middlewares are configured with; it reads
    what they wrote, and writes with `strategy="libsodium"`.

    A repr never shows key material, and a key refuses to be pickled.

    Args:
        id: names the key in every envelope and in errors: 1 to 64 of `A-Z a-z 0-9 . _ -`.
        secret: 32 random bytes.
        wrapped: for key services, the secret as the service encrypted it; it travels with each
            message.

    Attributes:
        id: as given.
        wrapped: as given.
        derived: the keys derived from the secret; None for an official key.

    Raises:
        ConfigurationError: for an unusable id or secret.
    """

    __slots__ = ("_boxes", "_passphrase", "_raw", "_secret", "derived", "id", "wrapped")

    id: str
    wrapped: str | None
    _secret: bytes | None
    _passphrase: bytes | None
    _boxes: tuple[SecretBox, ...] | None
    _raw: tuple[bytes, ...]
    derived: Subkeys | None

    def __init__(self, id: str, secret: bytes, *, wrapped: str | None = None) -> None:  # noqa: A002
        self._set(id, secret=secret, wrapped=wrapped)
        given: object = secret
        if not isinstance(given, bytes) or len(given) != _SECRET_SIZE:
            raise ConfigurationError(
                f"{_named(id)} needs a secret of 32 random bytes. Make one with Key.generate() or "
                "`inngest-plugins keys new`; a passphrase goes through Key.from_passphrase (own "
                "format) or Key.official (official formats)"
            )
        if wrapped is not None:
            check_text(f"the wrapped secret of {_named(id)}", wrapped)
        self._raw = (secret,)
        self.derived = Subkeys(secret)

    def _set(
        self,
        id: str,  # noqa: A002
        *,
        secret: bytes | None = None,
        passphrase: bytes | None = None,
        wrapped: str | None = None,
    ) -> None:
        _check_id(id)
        self.id = id
        self.wrapped = wrapped
        self._secret = secret
        self._passphrase = passphrase
        self._boxes = None
        self.derived = None

    @classmethod
    def generate(cls, id: str | None = None) -> Key:  # noqa: A002
        """Make a random key; without an id, it gets a random one.

        Raises:
            ConfigurationError: for an unusable id.
        """
        return cls(f"k-{secrets.token_hex(4)}" if id is None else id, secrets.token_bytes(32))

    @classmethod
    def from_passphrase(cls, passphrase: str, *, id: str, salt: bytes | None = None) -> Key:  # noqa: A002
        """Stretch a passphrase into a key: scrypt, N=2**17, r=8, p=1 (some 0.5 s and 128 MB).

        A random key is better in every way; this is for when only a passphrase can be had.

        Args:
            passphrase: the text, unchanged: 12 characters or more.
            id: the key's id.
            salt: at least 16 bytes that all workers share; by default derived from the id, which
                is enough to tell your keys apart, not to keep two companies with the same id and
                the same passphrase apart.

        Raises:
            ConfigurationError: for a short passphrase or a short salt, or one that is neither
                text nor bytes.
        """
        _check_id(id)
        named = _named(id)
        check_text("a passphrase", passphrase)
        if not passphrase.strip():
            raise ConfigurationError(f"the passphrase of {named} is blank")
        given: object = salt
        if not isinstance(given, bytes | None):
            raise ConfigurationError(
                f"the salt of {named} is bytes or None, not {type(given).__name__}"
            )
        if salt is None:
            salt = hashlib.sha256(f"inngest-plugins passphrase {id}".encode()).digest()
        if len(salt) < 16:
            raise ConfigurationError(f"the salt of {named} needs at least 16 bytes")
        if len(passphrase.strip()) < MIN_PASSPHRASE:
            raise ConfigurationError(
                f"the passphrase of {named} has fewer than {MIN_PASSPHRASE} characters, which "
                "can be guessed from any ciphertext: take a longer one, or a random key from "
                "`inngest-plugins keys new`"
            )
        try:
            text = passphrase.encode("utf-8")
        except UnicodeEncodeError:
            # The error holds the whole passphrase.
            raise ConfigurationError(
                f"the passphrase of {named} has half of a surrogate pair: no UTF-8"
            ) from None
        stretched = Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=8, p=1)
        return cls(id, stretched.derive(text))

    @classmethod
    def official(cls, secret: str | bytes, *, id: str | None = None) -> Key:  # noqa: A002
        """Take a key as the official encryption middlewares take it.

        Args:
            secret: the text that TypeScript and Python are configured with, or the bytes that the
                official Python middleware takes: 64 hex digits of a 32-byte key.
            id: for errors; by default the start of a hash of the derived key.

        Raises:
            ConfigurationError: for a blank text, bytes that are not 64 hex digits, or neither.
        """
        given: object = secret
        if not isinstance(given, str | bytes):
            raise ConfigurationError(
                "an official encryption key is a str, or 64 hex digits as bytes, not "
                f"{type(given).__name__}"
            )
        passphrase: bytes | None = None
        if isinstance(secret, str):
            if not trimmed(secret):
                raise ConfigurationError("an official encryption key is blank")
            raw = box_keys(secret)
            passphrase = trimmed(secret).encode("utf-8", "surrogatepass")
        else:
            try:
                raw = (bytes.fromhex(secret.decode("ascii")),)
            except ValueError:
                raw = ()
            if len(secret) != 64 or not raw:
                raise ConfigurationError(
                    "an official encryption key given as bytes is 64 hex digits, as the official "
                    "Python middleware takes it; give a passphrase as str"
                )
        digest = hashlib.sha256(b"inngest-plugins key id" + raw[0]).hexdigest()
        key = object.__new__(cls)
        key._set(
            f"official-{digest[:8]}" if id is None else id,
            passphrase=passphrase,
        )
        key._raw = raw
        return key

    @classmethod
    def from_text(cls, text: str) -> Key:
        """Read one entry of a key list: `<id>:<base64>`, or `<id>:official:<base64 of the text>`.

        Raises:
            ConfigurationError: it is neither. The message does not repeat the secret.
        """
        check_text("an entry of a key list", text)
        key_id, named, rest = text.strip().partition(":")
        is_id = bool(named and _ID.fullmatch(key_id))
        if _is_shown(key_id) and is_id:
            shown = f"key {key_id!r}"
        else:
            shown = "an entry that begins with no short id" if named else "an entry without ':'"
        kind, colon, encoded = rest.partition(":")
        if colon and kind != _OFFICIAL:
            raise ConfigurationError(f"{shown}: expected <id>:<base64>, found a second ':'")
        raw = _decoded(encoded if colon else rest) if is_id else None
        swapped = not colon and len(key_id) > _LONGEST_SHOWN and len(raw or b"") != _SECRET_SIZE
        if raw is None or swapped:
            raise ConfigurationError(
                f"{shown}: expected <id>:<base64 of 32 bytes>, as `inngest-plugins keys new` "
                "prints it"
            )
        if not colon:
            return cls(key_id, raw)
        try:
            return cls.official(raw.decode("utf-8"), id=key_id)
        except UnicodeDecodeError:
            raise ConfigurationError(f"{shown}: the official key is not UTF-8") from None

    def to_text(self) -> str:
        """Return the entry that `from_text` reads. It is the secret: keep it like one.

        Raises:
            ConfigurationError: the key was given as hex bytes or comes from a key service.
        """
        if self.wrapped is not None:
            raise ConfigurationError(f"key {self.id!r} belongs to a key service")
        if self._secret is not None:
            return f"{self.id}:{base64.b64encode(self._secret).decode()}"
        if self._passphrase is None:
            raise ConfigurationError(f"key {self.id!r} was given as hex bytes")
        return f"{self.id}:{_OFFICIAL}:{base64.b64encode(self._passphrase).decode()}"

    @property
    def is_official(self) -> bool:
        """Whether this is a key of the official middlewares."""
        return self.derived is None

    @property
    def subkeys(self) -> Subkeys:
        """The derived keys, with which this plugin's own format encrypts.

        Raises:
            ConfigurationError: this is an official key.
        """
        if self.derived is None:
            raise ConfigurationError(
                f"key {self.id!r} is a key of the official middlewares, and the aes-256-gcm "
                "format needs 32 random bytes. Put a key from `inngest-plugins keys new` first; "
                'or write with strategy="libsodium"; or stretch the passphrase with '
                "Key.from_passphrase"
            )
        return self.derived

    @property
    def boxes(self) -> tuple[SecretBox, ...]:
        """The secretboxes that open the libsodium format; the first also writes."""
        if self._boxes is None:
            # Loads libsodium, which only the official formats need.
            from nacl.secret import SecretBox

            self._boxes = tuple(map(SecretBox, self._raw))
        return self._boxes

    @property
    def passphrase(self) -> bytes | None:
        """The text from which the V0 format derives its keys, or None when there is no text."""
        return self._passphrase

    def same_as(self, other: Key) -> bool:
        """Return whether both hold the same secret under the same id."""
        return self.id == other.id and self._raw == other._raw

    def __repr__(self) -> str:
        return f"<Key {self.id!r}{' official' if self.is_official else ''}>"

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Key:
        return self

    def __reduce__(self) -> NoReturn:
        raise ArgumentError("keys are not pickled: load the KeyRing in each process")


def _decoded(text: str) -> bytes | None:
    text = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_shown(key_id: str) -> bool:
    """Return whether an error may show this: what is longer may be the secret in its place."""
    return len(key_id) <= _LONGEST_SHOWN


def _named(key_id: str) -> str:
    return f"key {key_id!r}" if _is_shown(key_id) else "a key with a long id"


def _check_id(key_id: str) -> None:
    check_text("a key id", key_id)
    if not _ID.fullmatch(key_id):
        shown = repr(key_id) if _is_shown(key_id) else f"one of {len(key_id)} characters"
        raise ConfigurationError(
            f"a key id is 1 to 64 characters of A-Z a-z 0-9 . _ -, and {shown} is not"
        )


def check_text(what: str, value: object) -> None:
    """Refuse what is no text.

    Raises:
        ConfigurationError: says what it should be.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} is a str, not {type(value).__name__}")
