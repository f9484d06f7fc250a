"""Fetches the keys that a request needs from a key provider, and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from inspect import isawaitable
from typing import Any, Final, TypeVar

from inngest_plugins.core import class_name
from inngest_plugins.encryption.errors import (
    ConfigurationError,
    DecryptionError,
    KeyServiceError,
    own,
)
from inngest_plugins.encryption.formats.envelope import STRATEGY, STRATEGY_FIELD
from inngest_plugins.encryption.keys.key import Key
from inngest_plugins.encryption.keys.provider import KeyProvider

from .payloads import envelope_in

_REMEMBERED: Final = 1024

T = TypeVar("T")


class ProvidedKeys:
    """Keeps the keys that a provider has delivered, as the cipher never waits.

    Args:
        provider: the provider.
        fallback: keys to read with that do not come from the provider.
    """

    def __init__(self, provider: KeyProvider, fallback: Iterable[Key] = ()) -> None:
        self._provider = provider
        self._fallback = {key.id: key for key in fallback}
        self._known: dict[str, Key] = {}
        self._primary: Key | None = None
        self._lock = threading.Lock()

    @property
    def primary(self) -> Key:
        """The key that was delivered last to encrypt with."""
        if self._primary is None:
            raise ConfigurationError("no key has been fetched from the key provider yet")
        return self._primary

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys delivered so far."""
        known = (*self._known, *self._fallback)
        has = f"what {class_name(self._provider)} has"
        return (*known, f"and {has}") if known else (has,)

    def find(self, key_id: str) -> Key | None:
        """Return the key of this id, if it was delivered."""
        return self._known.get(key_id) or self._fallback.get(key_id)

    def official(self) -> Iterator[Key]:
        """Return the fallback keys."""
        return iter(self._fallback.values())

    def prepare_write(self, *, may_wait: bool = True) -> Awaitable[None] | None:
        """Fetch the key to encrypt with; returns what to await, if anything.

        Raises:
            KeyServiceError: the provider failed.
            ConfigurationError: there is something to await, and `may_wait` is false.
        """
        return self._fetch(self._provider.encryption_key, self._set_primary, may_wait=may_wait)

    def prepare_read(self, *values: Any, may_wait: bool = True) -> Awaitable[None] | None:
        """Fetch every key that the envelopes somewhere in these values name.

        Raises:
            KeyServiceError: the provider failed.
            ConfigurationError: there is something to await, and `may_wait` is false.
        """
        pending: list[Awaitable[None]] = []
        for key_id, wrapped in {ref for value in values for ref in _references(value)}:
            if key_id in self._fallback:
                continue

            def ask(key_id: str = key_id, wrapped: str | None = wrapped) -> Any:
                return self._provider.decryption_key(key_id, wrapped)

            def keep(key: Key | None, key_id: str = key_id) -> None:
                if key is None:
                    return
                self._check(key, "decryption_key(...)", "a Key or None")
                if key.id == key_id:
                    self._remember(key)

            waiting = self._fetch(ask, keep, may_wait=may_wait)
            if waiting is not None:
                pending.append(waiting)
        return _one_by_one(pending) if pending else None

    def _set_primary(self, key: Key) -> None:
        self._check(key, "encryption_key()", "a Key")
        self._remember(key)
        self._primary = key

    def _check(self, answer: object, method: str, allowed: str) -> None:
        if not isinstance(answer, Key):
            raise own(
                KeyServiceError(
                    f"the key provider {class_name(self._provider)} returned "
                    f"{class_name(answer)} from {method}: return {allowed}"
                )
            )

    def _remember(self, key: Key) -> None:
        with self._lock:
            old = self._known.pop(key.id, None)
            self._known[key.id] = old if old is not None and old.same_as(key) else key
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]

    def _fetch(
        self, ask: Callable[[], T | Awaitable[T]], keep: Callable[[T], None], *, may_wait: bool
    ) -> Awaitable[None] | None:
        try:
            answer = ask()
        except DecryptionError:
            raise
        except Exception as err:
            raise self._failure(err) from err
        if isawaitable(answer):
            if may_wait:
                return self._finish(answer, keep)
            close = getattr(answer, "close", None)
            if close is not None:
                close()
            raise ConfigurationError(
                "the key provider is async: use `await plugin.aencrypt(...)` or `adecrypt`"
            )
        keep(answer)
        return None

    async def _finish(self, answer: Awaitable[T], keep: Callable[[T], None]) -> None:
        try:
            key = await answer
        except DecryptionError:
            raise
        except Exception as err:
            raise self._failure(err) from err
        keep(key)

    def _failure(self, err: Exception) -> KeyServiceError:
        return own(
            KeyServiceError(
                f"the key provider {class_name(self._provider)} failed with {class_name(err)}. "
                "The engine will try again; check that the service can be reached and the worker "
                "may use the key"
            )
        )


async def _one_by_one(pending: list[Awaitable[None]]) -> None:
    for waiting in pending:
        await waiting


def _references(value: Any) -> Iterator[tuple[str, str | None]]:
    """Yield the key id and wrapped key of each envelope somewhere in a value."""
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            head, wrapped = item.get("head"), item.get("wrapped")
            if item.get(STRATEGY_FIELD) == STRATEGY and isinstance(head, str):
                key_id = head.partition(":")[2].partition(":")[0]
                yield key_id, wrapped if isinstance(wrapped, str) else None
            else:
                pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        elif isinstance(item, str) and item.startswith("{") and STRATEGY in item:
            pending.append(envelope_in(item))
