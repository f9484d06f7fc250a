"""Event names and patterns of them, such as `shop/*`."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache

#: Events of the engine itself, which it makes and vouches for.
ENGINE_PREFIX = "inngest/"
INVOKED = "inngest/function.invoked"
FAILED = "inngest/function.failed"


def is_pattern(name: str) -> bool:
    """Whether a name has a wildcard. Only `*` is one, as in the engine's own triggers."""
    return "*" in name


def matches_name(pattern: str, name: str) -> bool:
    """Whether an event's name is the one, or of the pattern, given. `*` also matches `/`."""
    if pattern == name:
        return True
    return is_pattern(pattern) and _compiled(pattern).fullmatch(name) is not None


def specificity(pattern: str) -> tuple[int, int]:
    """A sorting key that puts the narrower of two patterns first."""
    return -len(pattern.partition("*")[0]), -len(pattern)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # fnmatch knows ? and [] too, which are ordinary characters in an event's name.
    return re.compile(translate(pattern.replace("[", "[[]").replace("?", "[?]")))
