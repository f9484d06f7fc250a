"""How metadata is named: keys, kinds and the ids of runs.

A key is a plain name, or a path into nested values in the notation of RFC 9535 (JSONPath). Only
what names exactly one place is read: `$`, then member names (`.name`, `['any name']`,
`["any name"]`) and array indexes (`[0]`). A key that does not start with `$` is the name itself,
dots included.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, TypeAlias

from ._errors import MetadataKeyError

Path: TypeAlias = tuple[str | int, ...]
"""Member names and array indexes, outermost first; the first is always a name."""

DEFAULT_KIND: Final = "default"
_PREFIX: Final = "userland."
_MAX_STREAM_NAME: Final = 128
_RUN_ID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SEGMENT: Final = re.compile(
    r"""\.(?P<name>[^\s.\[\]'"$*@?,:()]+)"""
    r"""|\[(?P<index>0|[1-9][0-9]{0,8})\]"""
    r"""|\['(?P<single>(?:[^'\\]|\\['\\])*)'\]"""
    r"""|\["(?P<double>(?:[^"\\]|\\["\\])*)"\]"""
)
_ESCAPE: Final = re.compile(r"\\(.)")


def parse(key: str) -> Path:
    """Read a key.

    Args:
        key: `"progress"`, `"$.progress.done"`, `"$['odd name'].items[0]"`.

    Returns:
        The path; `("progress",)` for a plain name.

    Raises:
        MetadataKeyError: the key is empty, not a str, or not such a path.
    """
    _check_text(key, "key")
    if key.startswith("$"):
        return _parse_path(key)
    if not key:
        raise MetadataKeyError("a metadata key must not be empty")
    return (key,)


@lru_cache(maxsize=4096)
def _parse_path(key: str) -> Path:
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
    return tuple(segments)


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


def check_key(key: str, limit: int) -> None:
    """Refuse a top-level key of more than `limit` bytes.

    Raises:
        MetadataKeyError: it is longer.
    """
    length = len(key.encode())
    if length > limit:
        raise MetadataKeyError(
            f"metadata key {render((key,))[:40]!r}...: {length} bytes, the limit is {limit}"
        )


def check_kind(kind: str) -> str:
    """Return a kind that has a name of its own; how long it may be depends on the engine.

    Raises:
        MetadataKeyError: the kind is empty, no str, or belongs to Inngest (`inngest.*`).
    """
    _check_text(kind, "kind")
    name = shown_kind(kind)
    if not name:
        raise MetadataKeyError("a metadata kind must not be empty")
    if name.startswith("inngest."):
        raise MetadataKeyError(
            f"metadata kind {kind!r}: kinds that start with 'inngest.' are Inngest's own"
        )
    return kind


def wire_kind(kind: str, limit: int) -> str:
    """Return a kind as the engine knows it: `userland.` and the name.

    Raises:
        MetadataKeyError: the kind is one that `check_kind` refuses, or too long.
    """
    name = shown_kind(check_kind(kind))
    length = len((_PREFIX + name).encode())
    if length > limit:
        raise MetadataKeyError(
            f"metadata kind {kind[:40]!r}...: {length} bytes with its prefix, the limit is {limit}"
        )
    return _PREFIX + name


def shown_kind(wire: str) -> str:
    """Return a kind as the user writes it."""
    return wire.removeprefix(_PREFIX)


def check_run_id(run_id: str) -> str:
    """Return a run id that is safe in a URL.

    Raises:
        MetadataKeyError: it is not a ULID.
    """
    _check_text(run_id, "run id")
    if _RUN_ID.fullmatch(run_id) is None:
        raise MetadataKeyError(
            "metadata: a run id is a ULID, 26 characters of Crockford's base 32; "
            f"this one has {len(run_id)} characters"
        )
    return run_id


def check_stream_name(name: str) -> str:
    """Return the name of a stream.

    Raises:
        MetadataKeyError: it is no str, empty or too long.
    """
    _check_text(name, "stream's name")
    length = len(name.encode())
    if not 0 < length <= _MAX_STREAM_NAME:
        raise MetadataKeyError(
            f"metadata: a stream's name has 1 to {_MAX_STREAM_NAME} bytes, not {length}"
        )
    return name


def check_step(step_id: str, index: int) -> None:
    """Refuse what names no step of any run.

    Raises:
        MetadataKeyError: the id is no str, or the index is no whole number from 0.
    """
    _check_text(step_id, "step id")
    if isinstance(index, bool) or not isinstance(index, int):
        raise MetadataKeyError(
            f"metadata: the index of step {step_id!r} is a whole number, not {type(index).__name__}"
        )
    if index < 0:
        raise MetadataKeyError(
            f"metadata: the index of step {step_id!r} counts the uses of its id from 0, so it is "
            f"not {index}"
        )


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise MetadataKeyError(f"a metadata {what} is a str, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MetadataKeyError(
            f"a metadata {what} has lone surrogates, which UTF-8 cannot carry"
        ) from None
