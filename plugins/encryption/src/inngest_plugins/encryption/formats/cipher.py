"""Encrypts values in the chosen format, and decrypts values of every format."""

from __future__ import annotations

from typing import Any, Final, Literal

from inngest_plugins.encryption.errors import Refusal

from . import envelope as own_format
from .envelope import MARKER, STRATEGY, STRATEGY_FIELD, Envelope, KeySource, Plaintext
from .official import SODIUM, open_sodium, open_v0, seal_sodium
from .plaintext import dump

Strategy = Literal["aes-256-gcm", "libsodium"]

COMPRESSION_LEVEL: Final = 6
_ABSENT: Final = object()


class Cipher:
    """Writes one format and reads every format.

    Args:
        keys: where keys come from.
        strategy: what to write.
        compress: whether to compress before encrypting.
        max_decompressed: bytes that a compressed value may expand to.
    """

    __slots__ = ("_compression", "_is_sodium", "_keys", "_max_size")

    def __init__(
        self, keys: KeySource, *, strategy: Strategy, compress: bool, max_decompressed: int
    ) -> None:
        self._keys = keys
        self._is_sodium = strategy == "libsodium"
        self._compression = COMPRESSION_LEVEL if compress else None
        self._max_size = max_decompressed

    def seal(self, value: Any, context: str) -> Envelope:
        """Encrypt a value.

        Raises:
            NotJsonError: it has no faithful JSON form.
        """
        if self._is_sodium:
            return seal_sodium(self._keys.primary, dump(value)[0])
        return own_format.seal(self._keys.primary, dump(value), context, self._compression)

    def open(self, envelope: Envelope, contexts: tuple[str, ...] | None) -> Any:
        """Decrypt a value that `is_encrypted`.

        Args:
            envelope: the value.
            contexts: what it may have been written for, or None for anything.

        Raises:
            Refusal: it cannot be opened, or not here.
        """
        strategy = envelope.get(STRATEGY_FIELD, _ABSENT)
        if strategy == STRATEGY:
            plaintext = own_format.unseal(envelope, self._keys, contexts)
            return own_format.read(plaintext, self._max_size)
        if strategy == SODIUM:
            return open_sodium(self._keys.official(), envelope["data"])
        if (type(strategy) is not str and strategy is not _ABSENT) or envelope[MARKER] is not True:
            raise Refusal("the envelope is damaged", "Another attempt cannot succeed")
        if strategy is _ABSENT:
            return open_v0(self._keys.official(), envelope["data"])
        raise Refusal(
            f"its strategy {str(strategy)[:40]!r} is unknown here",
            "If a newer release writes it, upgrade this worker; the engine will try again",
            is_retriable=True,
        )

    def unseal(self, envelope: Envelope, contexts: tuple[str, ...] | None) -> Plaintext | None:
        """Decrypt a value of this plugin's own format without parsing it; None for other formats.

        Raises:
            Refusal: it cannot be opened, or not here.
        """
        if envelope.get(STRATEGY_FIELD) != STRATEGY:
            return None
        return own_format.unseal(envelope, self._keys, contexts)

    def read(self, plaintext: Plaintext) -> Any:
        """Parse what `unseal` returned.

        Raises:
            Refusal: it is too large, or not JSON.
        """
        return own_format.read(plaintext, self._max_size)


def is_encrypted(value: Any) -> bool:
    """Return whether a value claims to be encrypted, so that it must be opened or refused.

    True for everything that the official middlewares take for encrypted, for any other strategy
    with a name (a newer release), and for everything that names this plugin's strategy or has its
    fields, however damaged the rest is. False for a dict that merely has such a key.
    """
    if type(value) is not dict:
        return False
    strategy = value.get(STRATEGY_FIELD, _ABSENT)
    if strategy == STRATEGY:
        return True
    if (
        value.get(MARKER) is True
        and type(value.get("data")) is str
        and (strategy is _ABSENT or type(strategy) is str)
    ):
        return True
    return strategy is not _ABSENT and MARKER in value and "head" in value
