"""The plugin: its options, its hooks, and what it offers to other code."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from inngest_plugins.core import ArgumentError, Layer, Plugin, check_switch

from .errors import ConfigurationError, DecryptionError
from .formats.cipher import Cipher, Strategy
from .keys.key import MIN_PASSPHRASE, Key
from .options import (
    Bind,
    Keys,
    check_choice,
    check_fallback,
    check_fields,
    check_size,
    key_source,
)
from .payloads.contexts import EVENT
from .payloads.incoming import Incoming
from .payloads.open_sealed import SealedValues
from .payloads.outgoing import Outgoing
from .payloads.payloads import ALL, Payloads
from .payloads.provided_keys import ProvidedKeys

if TYPE_CHECKING:
    from inngest_plugins.core import Call, MemoError, Outcome, SealedPlace, Send, Stack, Step

MAX_DECOMPRESSED: Final = 64 * 2**20


class EncryptionPlugin(Plugin):
    """End-to-end encryption: the engine and its dashboards hold ciphertext only.

    Encrypts step results, function results, fields of events (sent, and in invokes, also those
    planned in parallel), and the messages and stacks of errors. Decrypts wherever the engine may
    put such a value back. Handlers see plaintext everywhere, and never ciphertext: what cannot be
    opened fails the request with a `DecryptionError`.

    One object serves all clients, functions and runs of a process.

    Args:
        keys: a `KeyRing`, `Key` or `KeyProvider`. With `strategy="libsodium"` also what the
            official middlewares take (str, or hex bytes), or a list of those, the encrypting
            first.
        strategy: what to write. `"aes-256-gcm"`: this plugin's format, bound to its place.
            `"libsodium"`: what the official TypeScript and Python middlewares read, which is
            bound to nothing. It reads every format with either.
        event_fields: the fields of an event's data to encrypt, or `"*"` for all of the data.
            Names, times and ids of events stay readable, and so does every other field: server
            side expressions can only use those.
        decrypt_only: read and encrypt nothing: the first stage of a rollout.
        encrypt_errors: encrypt the messages and stacks of errors. Class names and retry
            behaviour stay as they are.
        bind: `"step"` binds step results to app, function and step; `"run"` also to the run,
            which refuses results that were copied into a new run ("rerun from step").
        compress: `"zlib"` to compress before encrypting. The length of what is sent then depends
            on its content: not for payloads in which an attacker can place text.
        require_encrypted: refuse plaintext where ciphertext must be: for apps that have finished
            migrating.
        max_decompressed: bytes that a compressed payload may expand to.
        fallback: keys that only read, beside those of a provider or ring.

    Raises:
        ConfigurationError: for keys or options that cannot work.

    Example:
        ```python
        client = inngest.Inngest(
            app_id="shop",
            middleware=[EncryptionPlugin(KeyRing.from_env("SHOP_KEYS"))],
        )
        ```
    """

    layer = Layer.WIRE
    fail_open = False
    secret_payloads = True

    def __init__(
        self,
        keys: Keys,
        *,
        strategy: Strategy = "aes-256-gcm",
        event_fields: str | Iterable[str] = ("encrypted",),
        decrypt_only: bool = False,
        encrypt_errors: bool = True,
        bind: Bind = "step",
        compress: Literal["zlib"] | None = None,
        require_encrypted: bool = False,
        max_decompressed: int = MAX_DECOMPRESSED,
        fallback: Iterable[Key] = (),
    ) -> None:
        check_choice("strategy", strategy, ("aes-256-gcm", "libsodium"))
        check_choice("bind", bind, ("step", "run"))
        check_choice("compress", compress, (None, "zlib"))
        if strategy == "libsodium" and compress is not None:
            raise ConfigurationError("the libsodium format has no compression")
        if strategy == "libsodium" and bind == "run":
            raise ConfigurationError("the libsodium format is bound to nothing, nor to the run")
        check_switch("decrypt_only", decrypt_only, error=ConfigurationError)
        check_switch("encrypt_errors", encrypt_errors, error=ConfigurationError)
        check_switch("require_encrypted", require_encrypted, error=ConfigurationError)
        check_size("max_decompressed", max_decompressed)
        self._keys = key_source(keys, check_fallback(fallback), strategy)
        if isinstance(self._keys, ProvidedKeys):
            if strategy == "libsodium":
                raise ConfigurationError("the libsodium format cannot carry provided keys")
            self._provided: ProvidedKeys | None = self._keys
        else:
            self._provided = None
            if strategy != "libsodium" and not decrypt_only:
                _ = self._keys.primary.subkeys
        self._decrypt_only = decrypt_only
        self._encrypt_errors = encrypt_errors
        self._fields = check_fields(event_fields)
        self.sealed_fields = () if decrypt_only else self._fields
        self.seals_outputs = not decrypt_only
        cipher = Cipher(
            self._keys,
            strategy=strategy,
            compress=compress is not None,
            max_decompressed=min(max_decompressed, sys.maxsize),
        )
        self._payloads = Payloads(
            cipher,
            fields=self._fields,
            require_encrypted=require_encrypted,
            binds_run=bind == "run",
        )
        self._incoming = Incoming(self._payloads)
        self._outgoing = Outgoing(self._payloads, encrypt_errors=encrypt_errors)
        self._sealed = SealedValues(self._payloads)

    # ------------------------------------------------------------ for everyone

    def encrypt(self, value: Any) -> dict[str, Any]:
        """Encrypt one value as a field of an event, such as for an event sent by other means.

        Raises:
            NotSerializableError: the value has no faithful JSON form.
            ConfigurationError: the key provider is async: use `aencrypt`.
        """
        if self._provided is not None:
            self._provided.prepare_write(may_wait=False)
        return self._payloads.seal(value, EVENT, "the value")

    def decrypt(self, value: Any) -> Any:
        """Open one value in any context; return a value that is not encrypted unchanged.

        Exactly one layer is opened, at the value's root.

        Raises:
            DecryptionError: it cannot be opened.
            ConfigurationError: the key provider is async: use `adecrypt`.
        """
        if self._provided is not None:
            self._provided.prepare_read(value, may_wait=False)
        return self._payloads.open(value, None, _the_value)

    def decrypt_text(self, text: str) -> str:
        """Open the message or the stack of an error; return any other text unchanged.

        Raises:
            DecryptionError: it cannot be opened.
            ConfigurationError: the key provider is async: use `adecrypt` on the parsed text.
            ArgumentError: it is no text.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(
                f"EncryptionPlugin.decrypt_text(...) takes the text of an error, not a "
                f"{type(text).__name__}: use decrypt(...) for other values"
            )
        if self._provided is not None:
            self._provided.prepare_read(text, may_wait=False)
        return self._payloads.open_text(text, None, lambda: "the text") or ""

    async def aencrypt(self, value: Any) -> dict[str, Any]:
        """`encrypt`, waiting for the key provider."""
        waiting = self._prepare_write()
        if waiting is not None:
            await waiting
        return self._payloads.seal(value, EVENT, "the value")

    async def adecrypt(self, value: Any) -> Any:
        """`decrypt`, waiting for the key provider."""
        waiting = self._prepare_read(value)
        if waiting is not None:
            await waiting
        return self._payloads.open(value, None, _the_value)

    def open_sealed(self, value: Any, place: SealedPlace) -> Any:
        """Open a stored value for a tool on this machine, such as the embedded engine's reports.

        With an async key provider only under keys that it has delivered before.

        Raises:
            DecryptionError: it cannot be opened, or was written for another place.
            ConfigurationError: the key provider is async and has not delivered the key.
            KeyServiceError: the key provider failed.
        """
        try:
            return self._sealed.open(value, place)
        except DecryptionError as error:
            if self._provided is None or error.missing_key is None:
                raise
        self._provided.prepare_read(value, may_wait=False)
        return self._sealed.open(value, place)

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Report to `inngest-plugins doctor` what weakens the encryption."""
        del stack
        for key in () if isinstance(self._keys, ProvidedKeys) else self._keys:
            if key.passphrase is not None and len(key.passphrase) < MIN_PASSPHRASE:
                yield (
                    f"key {key.id!r} is a text of {len(key.passphrase)} bytes, which can be "
                    "guessed: replace it (it still reads what it wrote as the last of the ring)"
                )
        if self._decrypt_only:
            yield "decrypt_only=True: payloads leave in the clear"
        elif not self._encrypt_errors:
            yield "encrypt_errors=False: messages and stacks of errors leave in the clear"
        if self._fields != ALL and not self._fields:
            yield "event_fields is empty: the data of events leaves in the clear"
        for field in self._fields:
            if "." in field:
                yield (
                    f"event_fields has {field!r}: that is a top-level field of this very name; a "
                    "field inside another is encrypted by naming the outermost"
                )

    # ------------------------------------------------------------ hooks

    def transform_input(self, call: Call) -> Awaitable[None] | None:
        """Open the events that arrived, and get the keys of the memoized results."""
        if self._provided is None:
            self._incoming.open_events(call)
            return None
        waiting = self._provided.prepare_read(
            *(event.data for event in (call.event, *call.events)),
            *((memo.data, _texts(memo.error)) for memo in call.memos.values()),
        )
        return _after(waiting, lambda: self._incoming.open_events(call))

    def transform_memo(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Open a stored result when the function reaches its step, or has it delivered."""
        memo = step.memo
        if self._provided is None or memo is None:
            self._incoming.open_memo(call, step)
            return None
        waiting = self._provided.prepare_read(memo.data, _texts(memo.error))
        return _after(waiting, lambda: self._incoming.open_memo(call, step))

    def transform_step_input(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Encrypt the data of an invoke, and the input of a deferred function."""
        if self._decrypt_only or step.op not in ("InvokeFunction", "DeferAdd"):
            return None
        outgoing = self._outgoing
        seal = outgoing.seal_invoke if step.op == "InvokeFunction" else outgoing.seal_deferred
        return _after(self._prepare_write(), lambda: seal(call, step))

    def transform_output(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """Encrypt the result or the error of a step or the function."""
        if self._decrypt_only:
            return None
        try:
            waiting = self._prepare_write()
        except Exception as err:
            self._outgoing.fail(outcome, err)
            return None
        if waiting is None:
            self._outgoing.seal_outcome(call, outcome)
            return None
        return self._seal_outcome_after(waiting, call, outcome)

    def before_send_events(self, send: Send) -> Awaitable[None] | None:
        """Encrypt the data of events."""
        if self._decrypt_only:
            return None
        return _after(self._prepare_write(), lambda: self._outgoing.seal_events(send))

    async def _seal_outcome_after(
        self, waiting: Awaitable[None], call: Call, outcome: Outcome
    ) -> None:
        try:
            await waiting
        except Exception as err:
            self._outgoing.fail(outcome, err)
        else:
            self._outgoing.seal_outcome(call, outcome)

    def _prepare_write(self) -> Awaitable[None] | None:
        return None if self._provided is None else self._provided.prepare_write()

    def _prepare_read(self, *values: Any) -> Awaitable[None] | None:
        return None if self._provided is None else self._provided.prepare_read(*values)


def _after(waiting: Awaitable[None] | None, action: Callable[[], None]) -> Awaitable[None] | None:
    if waiting is None:
        action()
        return None

    async def wait_and_act() -> None:
        await waiting
        action()

    return wait_and_act()


def _the_value() -> str:
    return "the value"


def _texts(error: MemoError | None) -> tuple[str | None, ...]:
    return () if error is None else (error.message, error.stack)
