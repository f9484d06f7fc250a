"""Contexts: the place that a ciphertext is written for, and bound to.

The envelope's head has the context in the clear (the engine knows all of it), and the ciphertext
authenticates it. A reader compares it with the place of the value. So it refuses a ciphertext that
was moved to another step, function, app or purpose, and the error names both contexts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from inngest_plugins.core import Call

EVENT: Final = "event"
"""A field of an event's data, or all of it. Events cross apps: nothing else is bound."""

OUTPUT: Final = "output"
"""What a function returned. It reaches other apps as the result of their invoke."""

FAILURE_MESSAGE: Final = "failure.message"
FAILURE_STACK: Final = "failure.stack"
"""The error that ended a function. It reaches other apps, too, and failure handlers."""


class StepContexts:
    """The contexts of one run's steps.

    Args:
        app_id: the client's app id.
        function_id: the function's local id; of the failure handler, with `-failure` behind it.
        run_id: the run.
        binds_run: whether what is written names the run, and what does not is refused.
    """

    __slots__ = ("_binds_run", "_errors", "_results", "_run")

    def __init__(self, app_id: str, function_id: str, run_id: str, *, binds_run: bool) -> None:
        place = f"{quote(app_id, safe='')}/{quote(function_id, safe='')}"
        self._results = f"step/{place}/"
        self._errors = f"error/{place}/"
        self._run = "/" + quote(run_id, safe="")
        self._binds_run = binds_run

    def result(self, hashed_id: str) -> str:
        """Return the context to write a step's result with."""
        bound = f"{self._results}{hashed_id}"
        return bound + self._run if self._binds_run else bound

    def results(self, hashed_id: str) -> tuple[str, ...]:
        """Return the contexts that a memoized result may carry.

        A function's output is among them, because the result of an invoke is just that, and the
        request does not say which steps are invokes.
        """
        bound = f"{self._results}{hashed_id}"
        if self._binds_run:
            return bound + self._run, OUTPUT
        return bound, OUTPUT, bound + self._run

    def error(self, hashed_id: str, part: str) -> str:
        """Return the context to write the `"message"` or `"stack"` of a step's error with."""
        bound = f"{self._errors}{hashed_id}.{part}"
        return bound + self._run if self._binds_run else bound

    def errors(self, hashed_id: str, part: str) -> tuple[str, ...]:
        """Return the contexts that part of a memoized error may carry."""
        bound = f"{self._errors}{hashed_id}.{part}"
        failure = f"failure.{part}"
        if self._binds_run:
            return bound + self._run, failure
        return bound, failure, bound + self._run


def contexts_of(call: Call, *, binds_run: bool) -> StepContexts:
    """Return the contexts of the steps of a call's run."""
    function = call.local_id
    if call.handler_kind == "on_failure":
        function += "-failure"
    return StepContexts(call.app_id, function, call.run_id, binds_run=binds_run)
