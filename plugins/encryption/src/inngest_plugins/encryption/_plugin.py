"""The encryption plugin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from inngest_plugins.core import Layer, Memo, MemoError, Plugin

from . import _failures
from ._cipher import Cipher, Strategy, is_encrypted
from ._context import EVENT, FAILURE_MESSAGE, FAILURE_STACK, OUTPUT, StepContexts
from ._envelope import context_of
from ._errors import ConfigurationError, EncryptionError, RejectedError
from ._keys import Key
from ._options import (
    Bind,
    Keys,
    check_choice,
    check_fallback,
    check_fields,
    check_size,
    check_switches,
    key_source,
)
from ._payloads import ALL, OpenedFields, Payloads, envelope_in
from ._providers import ProvidedKeys

if TYPE_CHECKING:
    from inngest_plugins.core import Call, Outcome, Send, Stack, Step

MAX_DECOMPRESSED: Final = 64 * 2**20
_INVOKE: Final = frozenset({"InvokeFunction"})
_FAILURES: Final = frozenset({FAILURE_MESSAGE, FAILURE_STACK})

T = TypeVar("T")


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
            bound to nothing. Everything is read whatever is written.
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
        check_switches(
            decrypt_only=decrypt_only,
            encrypt_errors=encrypt_errors,
            require_encrypted=require_encrypted,
        )
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
        self._binds_run = bind == "run"
        self._fields = check_fields(event_fields)
        self._require = require_encrypted
        self._cipher = Cipher(
            self._keys,
            strategy=strategy,
            compress=compress is not None,
            max_decompressed=max_decompressed,
        )
        self._payloads = Payloads(
            self._cipher, fields=self._fields, require_encrypted=require_encrypted
        )

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
        """Open one value, whatever it was written for; what is not encrypted comes back as it is.

        Exactly one layer is opened, at the value's root.

        Raises:
            DecryptionError: it cannot be opened.
            ConfigurationError: the key provider is async: use `adecrypt`.
        """
        if self._provided is not None:
            self._provided.prepare_read(value, may_wait=False)
        return self._payloads.open(value, None, _the_value)

    def decrypt_text(self, text: str) -> str:
        """Open the message or the stack of an error; any other text comes back as it is.

        Raises:
            DecryptionError: it cannot be opened.
            ConfigurationError: the key provider is async: use `adecrypt` on the parsed text.
        """
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

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Tell `inngest-plugins doctor` what weakens the encryption."""
        del stack
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
        """Open everything that arrived."""
        if self._provided is None:
            self._open_call(call)
            return None
        waiting = self._provided.prepare_read(
            *(event.data for event in (call.event, *call.events)),
            *((memo.data, _texts(memo.error)) for memo in call.memos.values()),
        )
        return self._after(waiting, lambda: self._open_call(call))

    def transform_step_input(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Encrypt the data of an invoke."""
        if self._decrypt_only or step.op != "InvokeFunction" or step.input is None:
            return None
        return self._after(self._prepare_write(), lambda: self._seal_invoke(call, step))

    def transform_output(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """Encrypt what a step or the function came to."""
        if self._decrypt_only:
            return None
        return self._after(self._prepare_write(), lambda: self._seal_outcome(call, outcome))

    def before_send_events(self, send: Send) -> Awaitable[None] | None:
        """Encrypt the data of events."""
        if self._decrypt_only:
            return None
        return self._after(self._prepare_write(), lambda: self._seal_events(send))

    # ------------------------------------------------------------ in

    def _open_call(self, call: Call) -> None:
        self._open_events(call)
        memos = call.memos
        if not memos:
            return
        contexts = self._contexts(call)
        payloads = self._payloads
        for hashed_id, error in memos.errors():
            opened_error = self._open_error(call, contexts, hashed_id, error)
            if opened_error is not error:
                memos[hashed_id] = Memo(error=opened_error)
        for hashed_id, data in memos.data():

            def place(hashed_id: str = hashed_id) -> str:
                return f"the result of the step with hashed id {hashed_id} of {_run(call)}: $"

            if is_encrypted(data):
                memos[hashed_id] = Memo(
                    payloads.open_envelope(data, contexts.results(hashed_id), place)
                )
                if context_of(data) == OUTPUT:
                    call.require_op(hashed_id, _INVOKE, _misplaced(place()))
                continue
            opened = payloads.open_received(data, place)
            if opened is not data:
                memos[hashed_id] = Memo(opened)
            if (ops := payloads.plaintext_ops(data)) is not None:
                call.require_op(hashed_id, ops, payloads.plaintext(place()))

    def _open_events(self, call: Call) -> None:
        cache = OpenedFields()
        event = call.event
        event.data = self._payloads.open_data(
            event.data, event.name, lambda: f"the event {event.name!r} of {_run(call)}: $", cache
        )
        for index, each in enumerate(call.events):

            def place(index: int = index, name: str = each.name) -> str:
                return f"event {index} of the batch ({name!r}) of {_run(call)}: $"

            each.data = self._payloads.open_data(each.data, each.name, place, cache)

    def _open_error(
        self, call: Call, contexts: StepContexts, hashed_id: str, error: MemoError
    ) -> MemoError:
        def place() -> str:
            return f"the error of the step with hashed id {hashed_id} of {_run(call)}: $"

        open_text = self._payloads.open_text
        message = open_text(
            error.message, contexts.errors(hashed_id, "message"), lambda: place() + ".message"
        )
        stack = open_text(
            error.stack, contexts.errors(hashed_id, "stack"), lambda: place() + ".stack"
        )
        if message is error.message and stack is error.stack:
            return error
        written_for = {context_of(envelope_in(text)) for text in (error.message, error.stack)}
        if written_for & _FAILURES:
            call.require_op(hashed_id, _INVOKE, _misplaced(place()))
        return MemoError(message=message or "", name=error.name, stack=stack)

    # ------------------------------------------------------------ out

    def _seal_outcome(self, call: Call, outcome: Outcome) -> None:
        step = outcome.step
        if outcome.error is not None:
            # This plugin's own errors hold no payload, and whoever reads them needs the text.
            if self._encrypt_errors and not isinstance(outcome.error, EncryptionError):
                outcome.error = self._sealed_error(call, step, outcome)
            return
        if not outcome.has_output:
            return
        if step is None:
            outcome.output = self._payloads.seal(
                outcome.output, OUTPUT, f"what function {call.function_id!r} returned"
            )
        else:
            context = self._contexts(call).result(step.hashed_id)
            outcome.output = self._payloads.seal(
                outcome.output,
                context,
                f"the result of step {step.id!r} of function {call.function_id!r}",
            )

    def _sealed_error(self, call: Call, step: Step | None, outcome: Outcome) -> Exception:
        error = outcome.error
        assert error is not None  # noqa: S101 - checked by the caller
        message, stack = _failures.text_of(error)
        if step is None:
            contexts = FAILURE_MESSAGE, FAILURE_STACK
        else:
            bound = self._contexts(call)
            contexts = bound.error(step.hashed_id, "message"), bound.error(step.hashed_id, "stack")
        place = f"an error of function {call.function_id!r}"
        return _failures.replaced(
            error,
            self._payloads.seal_text(message, contexts[0], place),
            None if stack is None else self._payloads.seal_text(stack, contexts[1], place),
            is_retriable=outcome.is_retriable,
        )

    def _seal_invoke(self, call: Call, step: Step) -> None:
        assert step.input is not None  # noqa: S101 - checked by the caller
        payload = step.input.get("payload")
        if not isinstance(payload, dict):
            return
        data = self._payloads.seal_data(
            payload.get("data"),
            f"invoke {step.id!r} of function {call.function_id!r}",
            of_invoke=True,
        )
        step.input = {**step.input, "payload": {**payload, "data": data}}

    def _seal_events(self, send: Send) -> None:
        for event in send.events:
            event.data = self._payloads.seal_data(event.data, f"event {event.name!r}")

    # ------------------------------------------------------------ keys

    def _contexts(self, call: Call) -> StepContexts:
        function = call.local_id
        if call.handler_kind == "on_failure":
            function += "-failure"
        return StepContexts(call.app_id, function, call.run_id, binds_run=self._binds_run)

    def _prepare_write(self) -> Awaitable[None] | None:
        return None if self._provided is None else self._provided.prepare_write()

    def _prepare_read(self, *values: Any) -> Awaitable[None] | None:
        return None if self._provided is None else self._provided.prepare_read(*values)

    @staticmethod
    def _after(
        waiting: Awaitable[None] | None, action: Callable[[], None]
    ) -> Awaitable[None] | None:
        if waiting is None:
            action()
            return None

        async def wait_and_act() -> None:
            await waiting
            action()

        return wait_and_act()


def _the_value() -> str:
    return "the value"


def _misplaced(place: str) -> RejectedError:
    return RejectedError(
        f"cannot decrypt {place}: it is what a function came to, and only a step that invoked it "
        "may be handed that. Another attempt cannot succeed"
    )


def _run(call: Call) -> str:
    return f"function {call.function_id!r}, run {call.run_id}"


def _texts(error: MemoError | None) -> tuple[str | None, ...]:
    return () if error is None else (error.message, error.stack)
