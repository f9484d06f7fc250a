"""The memoized step results of a request, by engine-side id."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inngest_plugins.core.sdk.assignments import put_memo
from inngest_plugins.core.sdk.door import MemoizedError, Output

from .attachments import is_joined


@dataclass(frozen=True, slots=True)
class MemoError:
    """The error of a step that failed for good.

    Attributes:
        message: the error's text.
        name: the class name of the error.
        stack: the traceback as text, or None.
    """

    message: str
    name: str
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class Memo:
    """What the engine memoized for a step.

    Attributes:
        data: the value, plain JSON: a step's or an invoked function's output, the event that a
            wait received, None for a sleep or a timed-out wait.
        error: set when the step failed; `data` is then None.
    """

    data: Any = None
    error: MemoError | None = None


class Memos(Mapping[str, Memo]):
    """Memoized results by hashed step id, in the engine's order; each can be replaced.

    A result that the function has consumed is no longer here: use it in `transform_input`, when
    all are. Results can be replaced but neither added nor removed: what the engine has memoized
    is the engine's to say.
    """

    __slots__ = ("_attachments", "_outputs", "_splits")

    def __init__(self, outputs: dict[str, Output]) -> None:
        self._outputs = outputs
        # The attachments of each result that was split.
        self._attachments: dict[str, dict[str, Any]] = {}
        self._splits = False

    def __getitem__(self, hashed_id: str) -> Memo:
        return memo_of(self._seen(hashed_id, self._outputs[hashed_id]))

    def __setitem__(self, hashed_id: str, memo: Memo) -> None:
        replace_memo(self._outputs[hashed_id], memo)

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def data(self) -> Iterator[tuple[str, Any]]:
        """Go through the ids of the steps that succeeded with their data.

        It makes no `Memo` of each: the cheap way to look for a few among many.
        """
        for hashed_id, output in self._outputs.items():
            if output.error is None:
                yield hashed_id, self._seen(hashed_id, output).data

    def errors(self) -> Iterator[tuple[str, MemoError]]:
        """Go through the ids of the steps that failed with their errors."""
        for hashed_id, output in self._outputs.items():
            error = output.error
            if error is not None:
                yield hashed_id, MemoError(error.message, error.name, error.stack)

    def items(self) -> ItemsView[str, Memo]:
        """Return the ids with their results, as they are now."""
        return {hashed_id: self[hashed_id] for hashed_id in self._outputs}.items()

    # ------------------------------------------------------------ attachments

    def begin_splitting(self) -> None:
        """From now on show results without their attachments: WIRE plugins have seen them."""
        self._splits = True

    def _seen(self, hashed_id: str, output: Output) -> Output:
        if self._splits and is_joined(output.data):
            self.split(hashed_id, output)
        return output

    def split(self, hashed_id: str, output: Output) -> None:
        """Take the attachments of a stored result off the SDK's own memo."""
        put_memo(output, self.value_of(hashed_id, output.data), output.error)

    def value_of(self, hashed_id: str, data: Any) -> Any:
        """Return a result without its attachments, which are kept for `attachments_of`.

        A result is split once: what is left may have the same shape, and is the user's.

        Args:
            hashed_id: engine-side id of the step.
            data: the result, as a plugin has opened it or as it is stored.
        """
        if hashed_id in self._attachments or not is_joined(data):
            return data
        self._attachments[hashed_id] = data["attachments"]
        return data["value"]

    def attachments_of(self, hashed_id: str) -> dict[str, Any] | None:
        """Return the attachments of a result, consumed or not; None before it was split."""
        output = self._outputs.get(hashed_id)
        if output is not None:
            self._seen(hashed_id, output)
        return self._attachments.get(hashed_id)


def memo_of(output: Output) -> Memo:
    """Return the SDK's own memo of a step as hooks see it."""
    error = output.error
    if error is None:
        return Memo(output.data)
    return Memo(output.data, MemoError(error.message, error.name, error.stack))


def replace_memo(output: Output, memo: Memo) -> None:
    """Put another result into the SDK's own memo of a step."""
    error = memo.error
    put_memo(
        output,
        memo.data,
        None
        if error is None
        else MemoizedError(message=error.message, name=error.name, stack=error.stack),
    )
