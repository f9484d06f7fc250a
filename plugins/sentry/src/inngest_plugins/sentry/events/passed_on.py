"""What an exception passes on: the errors that it was raised from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_IS_SUPPRESSED: Any = BaseException.__dict__["__suppress_context__"]
"""How these are read whatever the exception's class makes of the names."""


def passed_on_by(error: BaseException) -> Iterator[BaseException]:
    """Go through an error and what was raised `from` it or `from None` while it was handled.

    That is the same failure in the user's words. An error that only happened while another was
    handled is a new one.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        cause = _CAUSE.__get__(current)
        if cause is not None:
            current = cause
        else:
            current = _CONTEXT.__get__(current) if _IS_SUPPRESSED.__get__(current) else None
