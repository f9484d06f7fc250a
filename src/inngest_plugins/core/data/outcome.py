"""The result or error of a step or of the function, as hooks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from inngest_plugins.core.base.errors import ArgumentError
from inngest_plugins.core.sdk.door import is_retriable

from .call import Call
from .step import Step

MetadataScope: TypeAlias = Literal["step_attempt", "step", "run"]
MetadataOp: TypeAlias = Literal["merge", "set", "add", "delete"]


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

    __slots__ = (
        "_call",
        "_error",
        "_output",
        "attachments",
        "has_output",
        "last_additions",
        "metadata",
        "raised",
        "step",
    )

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
        self.metadata: list[dict[str, Any]] | None = None
        self.last_additions: list[Callable[[], object]] | None = None

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
        """The error that will be sent to the engine."""
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
        """Keep a value with the step's result, hidden from the function and other plugins.

        It is stored with the memoized result, inside of encryption, and comes back on every later
        replay as `call.attachment(hashed_id, key)`.

        Args:
            key: by convention the plugin's name.
            value: any JSON value.

        Raises:
            ArgumentError: the function ended, not a step; its output is not replayed.
        """
        if self.step is None:
            raise ArgumentError("only the outcome of a step is memoized and can carry attachments")
        if self.attachments is None:
            self.attachments = {}
        self.attachments[key] = value

    def add_metadata(
        self,
        kind: str,
        values: Mapping[str, Any],
        *,
        scope: MetadataScope = "step_attempt",
        op: MetadataOp = "merge",
    ) -> None:
        """Send metadata along with the step's result, for the engine's trace view.

        It costs no request of its own, and the engine ties it to the right attempt. Values are
        not encrypted. An engine that does not know the kind or the operation ignores the entry.

        Args:
            kind: what the values are, such as "userland.progress" or "inngest.ai".
            values: any JSON object.
            scope: what they are about: the attempt, the step, or the whole run.
            op: "merge" into what the engine has of the kind, "set" in its place, "add" numbers to
                it, or "delete" these keys.

        Raises:
            ArgumentError: the function ended, not a step; its result is not an operation, so it
                cannot carry metadata. Use `call.engine.api` for that.
        """
        if self.step is None:
            raise ArgumentError("only the outcome of a step can carry metadata")
        if self.metadata is None:
            self.metadata = []
        self.metadata.append({"scope": scope, "kind": kind, "op": op, "values": dict(values)})

    def before_written(self, add: Callable[[], object]) -> None:
        """Call a function when the step's operation is written, after all hooks.

        It is the last moment for `add_metadata`, for values that later hooks may still change. By
        then the outcome is final: `error` is what the engine gets. The operation is written after
        `call.enter`'s contexts have closed, or, where a delivery takes it, as soon as
        `transform_output` has run in all plugins. An operation that is never written calls nothing.

        Args:
            add: adds the metadata. What it raises is logged and changes nothing.

        Raises:
            ArgumentError: the function ended, not a step.
        """
        if self.step is None:
            raise ArgumentError("only the outcome of a step can carry metadata")
        if self.last_additions is None:
            self.last_additions = []
        self.last_additions.append(add)

    def __repr__(self) -> str:
        what = "function" if self.step is None else f"step {self.step.id!r}"
        how = "output" if self._error is None else type(self._error).__name__
        return f"<Outcome of {what}: {how}>"
