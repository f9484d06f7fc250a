"""What a step or the function came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._sdk import is_retriable

if TYPE_CHECKING:
    from ._call import Call
    from ._step import Step


class Outcome:
    """The value or the error that a step or the function produced in this request.

    Attributes:
        step: the step that ended, or None when the function itself did.
        output: the value, after the client's serializer. Assignable.
        error: what will be sent to the engine as the error. Assignable: an error set on a step
            that succeeded makes the step fail with it, and None on one that failed makes it
            succeed with `output`.
        raised: the exception as user code (or a plugin that failed the run) raised it, untouched
            by other plugins: what error capture and tracing report.
        has_output: whether there is a value.
    """

    __slots__ = ("_call", "_error", "_output", "attachments", "has_output", "raised", "step")

    def __init__(
        self,
        call: Call,
        *,
        step: Step | None,
        output: Any,
        has_output: bool,
        error: Exception | None,
    ) -> None:
        self._call = call
        self.step = step
        self._output = output
        self.has_output = has_output
        self._error = error
        self.raised: BaseException | None = error
        self.attachments: dict[str, Any] | None = None

    @property
    def output(self) -> Any:
        """The value; None when there is none."""
        return self._output

    @output.setter
    def output(self, value: Any) -> None:
        self._output = value
        self.has_output = True

    @property
    def error(self) -> Exception | None:
        """What will be sent to the engine as the error."""
        return self._error

    @error.setter
    def error(self, value: Exception | None) -> None:
        self._error = value

    @property
    def is_retriable(self) -> bool:
        """Whether the error, if there is one, allows another attempt."""
        return self._error is None or is_retriable(self._error)

    @property
    def will_retry(self) -> bool:
        """Whether the engine will try again after this outcome."""
        return self._error is not None and self.is_retriable and not self._call.is_final_attempt

    def attach(self, key: str, value: Any) -> None:
        """Keep a value beside the step's result, hidden from the function and other plugins.

        It is stored with the memoized result, inside of encryption, and comes back on every later
        replay as `call.attachment(hashed_id, key)`.

        Args:
            key: by convention the plugin's name.
            value: any JSON value.

        Raises:
            ValueError: the function ended, not a step; its output is not replayed.
        """
        if self.step is None:
            raise ValueError("only the outcome of a step is memoized and can carry attachments")
        if self.attachments is None:
            self.attachments = {}
        self.attachments[key] = value

    def __repr__(self) -> str:
        what = "function" if self.step is None else f"step {self.step.id!r}"
        how = "output" if self._error is None else type(self._error).__name__
        return f"<Outcome of {what}: {how}>"
