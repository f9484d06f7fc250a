"""The errors that an exception was raised from, and so reports once more."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_IS_SUPPRESSED: Any = BaseException.__dict__["__suppress_context__"]
"""Read the real attributes: an exception's class may define these names anew."""

_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)
"""None on Python 3.10, which has no exception groups."""


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and each error behind it by `raise ... from` or `from None`.

    These are the same failure in the user's words, as is a group of one error, which is what a task
    group makes of it. An error that only happened while another was handled is a new failure.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        members = members_of(current)
        if len(members) == 1:
            current = members[0]
            continue
        cause = _CAUSE.__get__(current)
        if cause is not None:
            current = cause
        else:
            current = _CONTEXT.__get__(current) if _IS_SUPPRESSED.__get__(current) else None


def parts_of(error: BaseException) -> Iterator[tuple[BaseException, ...]]:
    """Yield what has failed together: the error with its causes, or each member of a group so."""
    pending, seen = [error], set[int]()
    while pending:
        causes = tuple(causes_of(pending.pop(0)))
        groups = [cause for cause in causes if len(members_of(cause)) > 1 and id(cause) not in seen]
        seen.update(map(id, groups))
        if not groups:
            yield causes
        pending += [member for group in groups for member in members_of(group)]


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return what an exception group holds; nothing for other errors."""
    if _GROUP is None or not issubclass(type(error), _GROUP):
        return ()
    members: tuple[BaseException, ...] = _GROUP.__dict__["exceptions"].__get__(error)
    return members
