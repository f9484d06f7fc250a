"""Encrypts what leaves in an answer: results, errors, the data of invokes and events.

Sealing an outcome never raises. A failure becomes the outcome, with a message that this plugin
wrote and no stack, so that it cannot hold a payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import inngest

from inngest_plugins.core import class_name
from inngest_plugins.encryption.errors import own_text

from . import sealed_errors
from .contexts import FAILURE_MESSAGE, FAILURE_STACK, OUTPUT, contexts_of

if TYPE_CHECKING:
    from inngest_plugins.core import Call, Outcome, Send, Step

    from .payloads import Payloads


class Outgoing:
    """Encrypts what a request gives to the engine.

    Args:
        payloads: encrypts single payloads.
        encrypt_errors: whether messages and stacks of errors are encrypted.
    """

    __slots__ = ("_encrypt_errors", "_payloads")

    def __init__(self, payloads: Payloads, *, encrypt_errors: bool) -> None:
        self._payloads = payloads
        self._encrypt_errors = encrypt_errors

    def seal_outcome(self, call: Call, outcome: Outcome) -> None:
        """Encrypt the result or the error of a step or the function."""
        try:
            if outcome.error is not None:
                if self._encrypt_errors:
                    outcome.error = self._sealed_error(call, outcome, outcome.error)
            elif outcome.has_output:
                self._seal_output(call, outcome)
        except Exception as err:
            self.fail(outcome, err)

    def fail(self, outcome: Outcome, error: Exception) -> None:
        """Replace an outcome that cannot be encrypted by an error with this plugin's own text."""
        text = own_text(error) or f"encrypting failed with {class_name(error)}"
        outcome.raised = error
        outcome.has_output = False
        outcome.error = sealed_errors.replaced(
            error, text, None, is_retriable=not issubclass(type(error), inngest.NonRetriableError)
        )

    def seal_invoke(self, call: Call, step: Step) -> None:
        """Encrypt the data of an invoke."""
        payload = None if step.input is None else step.input.get("payload")
        if step.input is None or not isinstance(payload, dict):
            return
        data = self._payloads.seal_data(
            payload.get("data"),
            f"invoke {step.id!r} of function {call.function_id!r}",
            of_invoke=True,
        )
        step.input = {**step.input, "payload": {**payload, "data": data}}

    def seal_deferred(self, call: Call, step: Step) -> None:
        """Encrypt the input of a deferred function."""
        if step.input is None:
            return
        data = self._payloads.seal_data(
            step.input.get("input"),
            f"deferral {step.id!r} of function {call.function_id!r}",
            of_invoke=True,
        )
        step.input = {**step.input, "input": data}

    def seal_events(self, send: Send) -> None:
        """Encrypt the data of events."""
        for event in send.events:
            event.data = self._payloads.seal_data(event.data, f"event {event.name!r}")

    def _seal_output(self, call: Call, outcome: Outcome) -> None:
        step = outcome.step
        if step is None:
            context, place = OUTPUT, f"what function {call.function_id!r} returned"
        else:
            context = contexts_of(call, binds_run=self._payloads.binds_run).result(step.hashed_id)
            place = f"the result of step {step.id!r} of function {call.function_id!r}"
        outcome.output = self._payloads.seal(outcome.output, context, place)

    def _sealed_error(self, call: Call, outcome: Outcome, error: Exception) -> Exception:
        message, stack = sealed_errors.text_of(error)
        if outcome.step is None:
            contexts = FAILURE_MESSAGE, FAILURE_STACK
        else:
            hashed_id = outcome.step.hashed_id
            bound = contexts_of(call, binds_run=self._payloads.binds_run)
            contexts = bound.error(hashed_id, "message"), bound.error(hashed_id, "stack")
        place = f"an error of function {call.function_id!r}"
        # The message of this plugin's own errors holds no payload, and whoever reads it needs it.
        # The stack may: it shows what the error happened during.
        clear = own_text(error)
        return sealed_errors.replaced(
            error,
            self._payloads.seal_text(message, contexts[0], place) if clear is None else clear,
            None if stack is None else self._payloads.seal_text(stack, contexts[1], place),
            is_retriable=outcome.is_retriable,
        )
