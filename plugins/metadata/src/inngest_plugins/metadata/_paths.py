"""Keys: a plain name, or a path into nested values in the notation of RFC 9535 (JSONPath).

Of JSONPath only what names exactly one place is read: `$`, then member names (`.name`,
`['any name']`, `["any name"]`) and array indexes (`[0]`). A key that does not start with `$` is
the name itself, dots included.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from ._errors import MetadataKeyError

Path: TypeAlias = tuple[str | int, ...]
"""Member names and array indexes, outermost first; the first is always a name."""

_SEGMENT = re.compile(
    r"""\.(?P<name>[^\s.\[\]'"$*@?,:()]+)"""
    r"""|\[(?P<index>0|[1-9][0-9]{0,8})\]"""
    r"""|\['(?P<single>(?:[^'\\]|\\['\\])*)'\]"""
    r"""|\["(?P<double>(?:[^"\\]|\\["\\])*)"\]"""
)
_ESCAPE = re.compile(r"\\(.)")


@lru_cache(maxsize=4096)
def parse(key: str) -> Path:
    """Read a key.

    Args:
        key: `"progress"`, `"$.progress.done"`, `"$['odd name'].items[0]"`.

    Returns:
        The path; `("progress",)` for a plain name.

    Raises:
        MetadataKeyError: the key is empty, no text, or no such path.
    """
    _check_type(key)
    if not key.startswith("$"):
        if not key:
            raise MetadataKeyError("a metadata key must not be empty")
        _check_text(key)
        return (key,)
    segments: list[str | int] = []
    position = 1
    while position < len(key):
        match = _SEGMENT.match(key, position)
        if match is None:
            raise MetadataKeyError(
                f"metadata key {key!r}: not a path at character {position + 1}; write names as "
                "$.a.b or $['odd name'], indexes as $.a[0] (a plain key that starts with $ is "
                "written $['$key'])"
            )
        name, index, single, double = match.groups()
        if index is not None:
            segments.append(int(index))
        else:
            quoted = single if single is not None else double
            segments.append(name if quoted is None else _ESCAPE.sub(r"\1", quoted))
        position = match.end()
    if not segments or isinstance(segments[0], int):
        raise MetadataKeyError(
            f"metadata key {key!r}: metadata is an object, so a path starts with a name ($.name); "
            "to write the whole object use replace()"
        )
    if segments[0] == "":
        raise MetadataKeyError(f"metadata key {key!r}: the first name must not be empty")
    _check_text(key)
    return tuple(segments)


def _check_type(key: object) -> None:
    if not isinstance(key, str):
        raise MetadataKeyError(f"a metadata key is a str, not {type(key).__name__}")


def top_level(path: Path) -> str:
    """Return the top-level key that a path lies in."""
    for segment in path:
        return str(segment)
    raise ValueError("an empty path")


def render(path: Path) -> str:
    """Write a path so that `parse` reads it back, for messages."""
    if len(path) == 1 and isinstance(path[0], str) and not path[0].startswith("$"):
        return path[0]
    text = "$"
    for segment in path:
        if isinstance(segment, int):
            text += f"[{segment}]"
        elif _SEGMENT.fullmatch(f".{segment}"):
            text += f".{segment}"
        else:
            text += "['" + segment.replace("\\", "\\\\").replace("'", "\\'") + "']"
    return text


def _check_text(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise MetadataKeyError(
            "a metadata key has lone surrogates, which UTF-8 cannot carry"
        ) from None
