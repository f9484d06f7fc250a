"""Decrypts what arrives with a request: events, memoized results and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from inngest_plugins.core import CallKey, Memo, MemoError
from inngest_plugins.encryption.errors import RejectedError, rejected
from inngest_plugins.encryption.formats.cipher import is_encrypted
from inngest_plugins.encryption.formats.envelope import context_of

from .contexts import FAILURE_MESSAGE, FAILURE_STACK, OUTPUT, StepContexts, contexts_of
from .payloads import OpenedFields, Payloads, envelope_in

if TYPE_CHECKING:
    from inngest_plugins.core import Call, Step

_CONTEXTS: Final = CallKey[StepContexts]("encryption.contexts")
_INVOKE: Final = frozenset({"InvokeFunction"})
_FAILURES: Final = frozenset({FAILURE_MESSAGE, FAILURE_STACK})


class Incoming:
    """Decrypts what the engine sends with a request.

    Args:
        payloads: decrypts single payloads.
    """

    __slots__ = ("_payloads",)

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    def open_events(self, call: Call) -> None:
        """Open the events of a request.

        Raises:
            DecryptionError: something cannot be opened, or is not encrypted and must be.
        """
        cache = OpenedFields()
        event = call.event
        event.data = self._payloads.open_data(
            event.data, event.name, lambda: f"the event {event.name!r} of {_run(call)}: $", cache
        )
        for index, each in enumerate(call.events):

            def place(index: int = index, name: str = each.name) -> str:
                return f"event {index} of the batch ({name!r}) of {_run(call)}: $"

            each.data = self._payloads.open_data(each.data, each.name, place, cache)

    def open_memo(self, call: Call, step: Step) -> None:
        """Open the memoized result of a step that the function has reached.

        Raises:
            DecryptionError: it cannot be opened, or is not encrypted and must be.
        """
        memo = step.memo
        if memo is None:
            return
        contexts = call.get(_CONTEXTS)
        if contexts is None:
            contexts = call[_CONTEXTS] = contexts_of(call, binds_run=self._payloads.binds_run)
        if memo.error is not None:
            error = self._open_error(call, contexts, step, memo.error)
            if error is not memo.error:
                step.memo = Memo(error=error)
            return
        data = self._open_result(call, contexts, step, memo.data)
        if data is not memo.data:
            step.memo = Memo(data)

    def _open_result(self, call: Call, contexts: StepContexts, step: Step, data: Any) -> Any:
        def place() -> str:
            return f"the result of the step with hashed id {step.hashed_id} of {_run(call)}: $"

        payloads = self._payloads
        if is_encrypted(data):
            opened = payloads.open_envelope(data, contexts.results(step.hashed_id), place)
            if context_of(data) == OUTPUT and step.op not in _INVOKE:
                raise _misplaced(place())
            return opened
        opened = payloads.open_received(data, place)
        if (ops := payloads.plaintext_ops(data)) is not None and step.op not in ops:
            raise payloads.plaintext(place())
        return opened

    def _open_error(
        self, call: Call, contexts: StepContexts, step: Step, error: MemoError
    ) -> MemoError:
        hashed_id = step.hashed_id

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
        if written_for & _FAILURES and step.op not in _INVOKE:
            raise _misplaced(place())
        return MemoError(message=message or "", name=error.name, stack=stack)


def _misplaced(place: str) -> RejectedError:
    return rejected(
        f"cannot decrypt {place}: it is the result of a function, which only a step that "
        "invoked it may receive. Another attempt cannot succeed"
    )


def _run(call: Call) -> str:
    return f"function {call.function_id!r}, run {call.run_id}"
