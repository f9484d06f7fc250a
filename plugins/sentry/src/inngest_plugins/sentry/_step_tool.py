"""Which of the SDK's tools raised an `inngest.StepError`?

The engine hands the error of a failed step back as the same class for a step that ran in this app,
for an invoked function and for an AI request. Only the first was reported when it failed. The
traceback tells them apart: its last SDK frame is the tool's own method.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import inngest

_TOOLS = "inngest._internal.step_lib"


def failed_step_in(error: BaseException) -> inngest.StepError | None:
    """Return the step failure that an error merely passes on, or None when it is a new one.

    Passed on is the `StepError` itself, and what was raised `from` it or `from None` while it was
    handled: the same failure in the user's words. An error that only happened while a step
    failure was handled is a new one, and so is the failure of an invoke or of an AI request, which
    nobody has reported in this app.
    """
    for cause in _raised_from(error):
        if isinstance(cause, inngest.StepError):
            return cause if _tool_of(cause.__traceback__) in ("run", None) else None
    return None


def _raised_from(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        if current.__cause__ is not None:
            current = current.__cause__
        else:
            current = current.__context__ if current.__suppress_context__ else None


def _tool_of(traceback: TracebackType | None) -> str | None:
    tool = None
    while traceback is not None:
        frame = traceback.tb_frame
        if str(frame.f_globals.get("__name__", "")).startswith(_TOOLS):
            tool = frame.f_code.co_name
        traceback = traceback.tb_next
    return tool
