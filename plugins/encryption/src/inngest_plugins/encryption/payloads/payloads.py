"""Encrypts and decrypts the payloads in events, results and errors.

The engine wraps payloads in shapes of its own: an invoked function's event carries `_inngest`
beside the data, `inngest/function.failed` carries the original event, the batch, the result and
the error, a wait is answered with a bare event. This module knows those shapes. It never changes
what it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import orjson

from inngest_plugins.core import class_name
from inngest_plugins.encryption.errors import (
    EncryptionError,
    NotSerializableError,
    Refusal,
    RejectedError,
    own,
    rejected,
)
from inngest_plugins.encryption.formats.cipher import Cipher, is_encrypted
from inngest_plugins.encryption.formats.envelope import (
    MARKER,
    STRATEGY,
    STRATEGY_FIELD,
    Envelope,
    Plaintext,
)
from inngest_plugins.encryption.formats.plaintext import NotJsonError, path_step

from .contexts import EVENT, FAILURE_MESSAGE, FAILURE_STACK, OUTPUT

ALL: Final = "*"
ENGINE_KEY: Final = "_inngest"
"""What the engine adds to the data of an invoked function's event."""

ATTACHMENTS_KEY: Final = "_inngest_plugins"
"""What the core adds to an invoke's data for other plugins; encrypted like the payload."""

_ENGINE_EVENTS: Final = "inngest/"
_LIFE_CYCLE: Final = "inngest/function."
_INVOKED: Final = "inngest/function.invoked"
_CARRYING: Final = frozenset({_INVOKED, "inngest/deferred.schedule"})
"""Those of the engine's own events whose data is what an app of the team sent."""
_EVENT_FIELDS: Final = frozenset({"data", "id", "name", "ts", "user", "v", "meta"})
_ENVELOPE_FIELDS: Final = frozenset({MARKER, STRATEGY_FIELD, "head", "data", "wrapped"})
_EVENT_CONTEXTS: Final = (EVENT,)
_RESULT_CONTEXTS: Final = (OUTPUT,)
_TEXT_START: Final = "{"

Fields = tuple[str, ...] | Literal["*"]


_NOTHING = frozenset({"Sleep", "WaitForEvent"})
_EVENTS = frozenset({"WaitForEvent", "InvokeFunction"})
_INFERRED = frozenset({"AIGateway"})
"""What the engine itself answers with, and so in plaintext: nothing, events (a wait's, or that of
an invoked run that was cancelled), and what a model said."""


class Payloads:
    """Encrypts and decrypts payloads in their places.

    Args:
        cipher: for single values.
        fields: the fields of an event's data to encrypt, or `"*"` for the whole of it.
        require_encrypted: whether to refuse plaintext where ciphertext must be.
        binds_run: whether results are bound to their run, and have to be.

    Attributes:
        binds_run: as given.
    """

    __slots__ = ("_cipher", "_fields", "_require", "binds_run")

    def __init__(
        self, cipher: Cipher, *, fields: Fields, require_encrypted: bool, binds_run: bool
    ) -> None:
        self._cipher = cipher
        self.binds_run = binds_run
        self._fields: Fields = fields
        self._require = require_encrypted

    # ------------------------------------------------------------ out

    def seal(self, value: Any, context: str, place: str) -> Envelope:
        """Encrypt a value.

        Args:
            value: any JSON value.
            context: what it is for.
            place: what it is, for errors.

        Raises:
            NotSerializableError: it has no faithful JSON form.
        """
        try:
            return self._cipher.seal(value, context)
        except NotJsonError as err:
            problem = f"at {err.path} there is {err.problem}"
        except (KeyboardInterrupt, SystemExit, EncryptionError):
            raise
        except BaseException as err:
            # A subclass of dict or str with methods that raise; their text may be the payload.
            problem = f"a value in it raised {class_name(err)} when it was read"
        raise own(
            NotSerializableError(
                f"cannot encrypt {place}: {problem}. Convert it to plain JSON first, or give the "
                "client a serializer"
            )
        )

    def seal_text(self, text: str, context: str, place: str) -> str:
        """Encrypt a text to a text: the JSON of the envelope."""
        return orjson.dumps(self.seal(text, context, place)).decode()

    def seal_data(self, data: Any, place: str, *, of_invoke: bool = False) -> Any:
        """Return an event's data, encrypted in whole or in the chosen fields.

        Args:
            data: the data; anything but a mapping is returned unchanged.
            place: whose data, for errors.
            of_invoke: whether it is the data of an invoke.
        """
        if not isinstance(data, Mapping):
            return data
        if self._fields == ALL:
            return self.seal(dict(data), EVENT, f"the data of {place}")
        fields = (*self._fields, ATTACHMENTS_KEY) if of_invoke else self._fields
        sealed = {
            field: self.seal(data[field], EVENT, f"field {field!r} of the data of {place}")
            for field in fields
            if field in data
        }
        return {**data, **sealed} if sealed else data

    # ------------------------------------------------------------ in

    def open(self, value: Any, contexts: tuple[str, ...] | None, place: Callable[[], str]) -> Any:
        """Open a value if it is encrypted, exactly one layer.

        Raises:
            DecryptionError: it cannot be opened, or not here.
        """
        return self.open_envelope(value, contexts, place) if is_encrypted(value) else value

    def open_envelope(
        self, value: Envelope, contexts: tuple[str, ...] | None, place: Callable[[], str]
    ) -> Any:
        """Open a value that `is_encrypted`, exactly one layer.

        Args:
            value: the envelope.
            contexts: what it may have been written for, or None for anything.
            place: says where it sat, for errors.

        Raises:
            DecryptionError: it cannot be opened, or not here.
        """
        try:
            return self._cipher.open(value, contexts)
        except Refusal as refusal:
            raise refusal.at(place()) from None

    def open_received(self, data: Any, place: Callable[[], str]) -> Any:
        """Open what is encrypted in a memoized result that is not an envelope itself.

        Args:
            data: what the engine keeps: a bare event that a wait received, None for a sleep.
            place: says which step, for errors.

        Returns:
            The result; `data` itself if nothing in it was encrypted.

        Raises:
            DecryptionError: something cannot be opened, or is not encrypted and must be.
        """
        return self.open_event(data, place) if data is not None and _is_event(data) else data

    def plaintext_ops(self, data: Any) -> frozenset[str] | None:
        """Return the operations whose result may be this plaintext; None where any may.

        Args:
            data: a memoized result that is not an envelope.
        """
        if not self._require:
            return None
        if data is None:
            return _NOTHING
        return _EVENTS if _is_event(data) else _INFERRED

    def open_event(self, event: Mapping[str, Any], place: Callable[[], str]) -> Mapping[str, Any]:
        """Open what is encrypted in an event given as JSON; the event itself if nothing is."""
        data = event.get("data")
        if not isinstance(data, Mapping):
            return event
        opened = self.open_data(data, str(event.get("name")), place)
        return event if opened is data else {**event, "data": opened}

    def open_data(
        self,
        data: Mapping[str, Any],
        name: str,
        place: Callable[[], str],
        cache: OpenedFields | None = None,
    ) -> Mapping[str, Any]:
        """Open what is encrypted in an event's data.

        Args:
            data: the data.
            name: the event's name, by which it recognises the engine's own events.
            place: says which event, for errors.
            cache: opens what is the same in `event` and `events` only once.

        Returns:
            New data, or the same object if nothing in it is encrypted.
        """
        if is_encrypted(data):
            return self._open_whole(data, place, cache)
        changed: dict[str, Any] = {}
        is_life_cycle = name.startswith(_LIFE_CYCLE) and name != _INVOKED
        for field, value in data.items():
            if type(value) is not dict and type(value) is not list:
                continue
            if isinstance(value, dict) and is_encrypted(value):
                contexts = _EVENT_CONTEXTS
                if is_life_cycle and field == "result":
                    contexts = _RESULT_CONTEXTS
                changed[field] = self._open_cached(value, contexts, _inside(place, field), cache)
            elif is_life_cycle:
                opened = self._open_part(field, value, _inside(place, field))
                if opened is not value:
                    changed[field] = opened
        if self._require and (name in _CARRYING or not name.startswith(_ENGINE_EVENTS)):
            self._check_encrypted(data, place)
        return {**data, **changed} if changed else data

    def open_text(
        self, text: str | None, contexts: tuple[str, ...] | None, place: Callable[[], str]
    ) -> str | None:
        """Open an error's message or stack if it is encrypted."""
        envelope = envelope_in(text)
        if envelope is None:
            return text
        if envelope is DAMAGED:
            raise rejected(
                f"cannot decrypt {place()}: the envelope is damaged. Another attempt cannot succeed"
            )
        opened = self.open(envelope, contexts, place)
        return opened if isinstance(opened, str) else json.dumps(opened)

    def _open_whole(
        self, data: Mapping[str, Any], place: Callable[[], str], cache: OpenedFields | None
    ) -> Mapping[str, Any]:
        # The engine adds its key to the data of an invoked function's event, envelope or not.
        beside = {key: held for key, held in data.items() if key not in _ENVELOPE_FIELDS}
        envelope = {key: held for key, held in data.items() if key in _ENVELOPE_FIELDS}
        is_own = envelope.get(STRATEGY_FIELD) == STRATEGY
        if is_own and any(not _is_infrastructure(key) for key in beside):
            raise rejected(
                f"cannot decrypt {place()}: there are plaintext fields beside the encrypted data. "
                "They were added after it was written; another attempt cannot succeed"
            )
        opened = self._open_cached(envelope, _EVENT_CONTEXTS, place, cache)
        if not isinstance(opened, dict):
            raise rejected(
                f"cannot decrypt {place()}: the plaintext of the whole data is not an object. "
                "Another attempt cannot succeed"
            )
        merged: dict[str, Any] = {**beside, **opened}
        if ENGINE_KEY in beside:
            merged[ENGINE_KEY] = beside[ENGINE_KEY]
        return merged

    def _open_part(self, field: str, value: Any, place: Callable[[], str]) -> Any:
        """Open one part of `inngest/function.failed` and of similar events."""
        if isinstance(value, dict) and field == "event":
            return self.open_event(value, place)
        if isinstance(value, dict) and field in ("error", "result"):
            return self._open_error(value, place)
        if isinstance(value, list) and field == "events":
            opened = [
                self.open_event(item, _inside(place, index)) if isinstance(item, dict) else item
                for index, item in enumerate(value)
            ]
            changed = any(new is not old for new, old in zip(opened, value, strict=True))
            return opened if changed else value
        return value

    def _open_error(self, error: dict[str, Any], place: Callable[[], str]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for part, context in (("message", FAILURE_MESSAGE), ("stack", FAILURE_STACK)):
            text = error.get(part)
            if isinstance(text, str):
                opened = self.open_text(text, (context,), _inside(place, part))
                if opened is not text:
                    changed[part] = opened
        return {**error, **changed} if changed else error

    def _open_cached(
        self,
        value: Envelope,
        contexts: tuple[str, ...],
        place: Callable[[], str],
        cache: OpenedFields | None,
    ) -> Any:
        if cache is None:
            return self.open(value, contexts, place)
        try:
            plaintext = cache.get(value)
            if plaintext is None:
                plaintext = self._cipher.unseal(value, contexts)
                if plaintext is None:
                    return self._cipher.open(value, contexts)
                cache.add(value, plaintext)
            return self._cipher.read(plaintext)
        except Refusal as refusal:
            raise refusal.at(place()) from None

    def _check_encrypted(self, data: Mapping[str, Any], place: Callable[[], str]) -> None:
        if self._fields == ALL:
            if any(not _is_infrastructure(key) for key in data):
                raise self.plaintext(place())
            return
        for field in self._fields:
            if field in data and not is_encrypted(data[field]):
                raise self.plaintext(_inside(place, field)())

    @staticmethod
    def plaintext(place: str) -> RejectedError:
        """Make the error for plaintext where ciphertext must be."""
        return rejected(
            f"refused {place}: it is not encrypted, and require_encrypted=True asks for that. "
            "Whoever sent or stored it has not migrated, or replaced ciphertext by plaintext"
        )


class OpenedFields:
    """Plaintexts of one request's trigger event, which the engine sends twice.

    `ctx.event` repeats `ctx.events[0]`, and both must be separate objects: this saves the second
    decryption, not the second parse. It lives as long as the request.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[Envelope, Plaintext]] = {}

    def get(self, envelope: Envelope) -> Plaintext | None:
        """Return the plaintext of an equal envelope that was opened before."""
        data = envelope.get("data")
        known = self._known.get(data[:64]) if type(data) is str else None
        return known[1] if known is not None and known[0] == envelope else None

    def add(self, envelope: Envelope, plaintext: Plaintext) -> None:
        """Note what was opened."""
        self._known[envelope["data"][:64]] = (envelope, plaintext)


DAMAGED: Final[Envelope] = {}
"""Means a text that was an envelope and is damaged."""


def envelope_in(text: str | None) -> Envelope | None:
    """Return the envelope that an error's text is, `DAMAGED`, or None for any other text."""
    if text is None or not (STRATEGY in text or (text.startswith(_TEXT_START) and MARKER in text)):
        return None
    try:
        value = orjson.loads(text)
    except ValueError:
        return DAMAGED if _was_envelope(text) else None
    return value if is_encrypted(value) else None


def _was_envelope(text: str) -> bool:
    return text.startswith(('{"__', "{")) and f'"{STRATEGY}"' in text and text.endswith("}")


def _is_event(value: Any) -> bool:
    return (
        type(value) is dict
        and isinstance(value.get("name"), str)
        and "data" in value
        and value.keys() <= _EVENT_FIELDS
    )


def _is_infrastructure(key: str) -> bool:
    """Return whether the engine or a tracing plugin may have put this beside encrypted data."""
    return key.startswith("_")


def _inside(place: Callable[[], str], step: str | int) -> Callable[[], str]:
    return lambda: place() + path_step(step)
