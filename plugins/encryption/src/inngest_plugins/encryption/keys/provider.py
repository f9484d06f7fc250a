"""The protocol of a key service."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, runtime_checkable

from .key import Key


@runtime_checkable
class KeyProvider(Protocol):
    """Delivers keys from elsewhere. Either method may be sync or async.

    Both are called often and from several threads and event loops: cache. What they return is a
    `Key` with a 32-byte secret; a `wrapped` on it travels with each message and comes back in
    `decryption_key`.
    """

    def encryption_key(self) -> Key | Awaitable[Key]:
        """Return the key to encrypt the next message with."""
        ...

    def decryption_key(
        self, key_id: str, wrapped: str | None
    ) -> Key | Awaitable[Key | None] | None:
        """Return the key that a message names, or None when it is unknown here."""
        ...
