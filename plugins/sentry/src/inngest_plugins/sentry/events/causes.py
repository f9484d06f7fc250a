"""The errors that an exception was raised from, and so reports once more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_IS_SUPPRESSED: Any = BaseException.__dict__["__suppress_context__"]
"""Read the real attributes: an exception's class may define these names anew."""


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and each error behind it by `raise ... from` or `from None`.

    These are the same failure in the user's words. An error that only happened while another was
    handled is a new failure.
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
