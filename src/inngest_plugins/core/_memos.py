"""The memoized step results of a request, by engine-side id."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ._sdk import MemoizedError, Output


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

    __slots__ = ("_outputs",)

    def __init__(self, outputs: dict[str, Output]) -> None:
        self._outputs = outputs

    def __getitem__(self, hashed_id: str) -> Memo:
        return _memo(self._outputs[hashed_id])

    def __setitem__(self, hashed_id: str, memo: Memo) -> None:
        output = self._outputs[hashed_id]
        # Past the model's own setattr, which has nothing to validate and is felt with many memos.
        object.__setattr__(output, "data", memo.data)
        error = memo.error
        if error is not None:
            output.error = MemoizedError(message=error.message, name=error.name, stack=error.stack)
        elif output.error is not None:
            output.error = None

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
                yield hashed_id, output.data

    def errors(self) -> Iterator[tuple[str, MemoError]]:
        """Go through the ids of the steps that failed with their errors."""
        for hashed_id, output in self._outputs.items():
            error = output.error
            if error is not None:
                yield hashed_id, MemoError(error.message, error.name, error.stack)

    def items(self) -> ItemsView[str, Memo]:
        """Return the ids with their results, as they are now."""
        return {hashed: _memo(output) for hashed, output in self._outputs.items()}.items()


def _memo(output: Output) -> Memo:
    error = output.error
    if error is None:
        return Memo(output.data)
    return Memo(output.data, MemoError(error.message, error.name, error.stack))
