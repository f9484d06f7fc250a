"""What may be recorded: keys, kinds, JSON values, and how large they may be.

A key is a plain name, or a path into nested values in the notation of RFC 9535 (JSONPath). Only
what names exactly one place is read: `$`, then member names (`.name`, `['any name']`,
`["any name"]`) and array indexes (`[0]`). A key that does not start with `$` is the name itself,
dots included.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast

from ._errors import MetadataKeyError, MetadataValueError

Json: TypeAlias = Any
"""None, bool, int, float, str, list or dict with string keys, all the way down."""

MAX_SAFE_INTEGER: Final = 2**53
"""Engines and browsers read JSON numbers as doubles; larger integers lose digits there."""

MAX_DEPTH: Final = 64
DEFAULT_KIND: Final = "default"
_PREFIX: Final = "userland."
_RUN_ID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_CONTAINERS: Final = (dict, list)

dumps: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode
"""Render a value as it goes over the wire: no spaces, only the necessary escapes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes. The defaults are those of the Inngest server.

    Attributes:
        scope_bytes: one kind of metadata of one scope (the run, or one step): the sum over its
            top-level keys of the key's and the rendered value's length (server:
            `MaxMetadataSpanSize`).
        run_bytes: all scopes and kinds of a run together (server: `MaxRunMetadataSize`). The
            server also counts what later updates have replaced, so it may refuse earlier.
        key_bytes: a top-level key.
        kind_bytes: a kind, with its `userland.` prefix (server: `MaxKindLength`).
    """

    scope_bytes: int = 64 * 1024
    run_bytes: int = 1024 * 1024
    key_bytes: int = 256
    kind_bytes: int = 128

    def __post_init__(self) -> None:
        """Refuse what is no size; the plugin fails open, so that it would otherwise not show."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ValueError(
                    f"Limits({field.name}={value!r}) must be a number of bytes above 0"
                )


def checked_limits(owner: str, limits: object, timeout: object) -> Limits:
    """Check the two options that `MetadataPlugin` and `MetadataClient` share.

    Args:
        owner: the class whose options they are.
        limits: a `Limits`, or None for the server's.
        timeout: seconds.

    Raises:
        TypeError: `limits` is not a `Limits`.
        ValueError: `timeout` is not a positive number.
    """
    if not isinstance(limits, Limits | None):
        raise TypeError(
            f"{owner}(limits=...) takes Limits(...) or None, not {type(limits).__name__}"
        )
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < cast("float", timeout) < math.inf:
        raise ValueError(f"{owner}(timeout={timeout!r}) must be a number of seconds above 0")
    return limits or Limits()


def wire_kind(kind: str, limit: int) -> str:
    """Return a kind as the engine knows it: `userland.` and the name.

    Raises:
        MetadataKeyError: the kind is empty, no str, belongs to Inngest (`inngest.*`) or is too
            long.
    """
    # Before the cache, which cannot hold what has no hash.
    _check_type(kind, "kind")
    return _wire_kind(kind, limit)


@lru_cache(maxsize=256)
def _wire_kind(kind: str, limit: int) -> str:
    _check_text(kind, "kind")
    name = kind.removeprefix(_PREFIX)
    if not name:
        raise MetadataKeyError("a metadata kind must not be empty")
    if name.startswith("inngest."):
        raise MetadataKeyError(
            f"metadata kind {kind!r}: kinds that start with 'inngest.' are Inngest's own"
        )
    wire = _PREFIX + name
    if len(wire.encode()) > limit:
        raise MetadataKeyError(
            f"metadata kind {kind[:40]!r}...: {len(wire.encode())} bytes with its prefix, "
            f"the limit is {limit}"
        )
    return wire


def shown_kind(wire: str) -> str:
    """Return a kind as the user writes it."""
    return wire.removeprefix(_PREFIX)


def check_run_id(run_id: str) -> str:
    """Return a run id that is safe in a URL.

    Raises:
        MetadataKeyError: it is not a ULID.
    """
    _check_type(run_id, "run id")
    if _RUN_ID.fullmatch(run_id) is None:
        raise MetadataKeyError(
            "metadata: a run id is a ULID, 26 characters of Crockford's base 32; "
            f"this one has {len(run_id)} characters"
        )
    return run_id


def size(value: Json) -> int:
    """Return the length of the rendered value in bytes."""
    return len(dumps(value).encode())


def document_size(document: dict[str, Json]) -> int:
    """Measure an object as the engine does: top-level keys and rendered values, in bytes."""
    return sum(len(key.encode()) + size(value) for key, value in document.items())


def is_plain(value: object) -> bool:
    """Return whether a value is JSON as it stands and needs neither check nor copy."""
    kind = type(value)
    if kind is int:
        return -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER  # type: ignore[operator]
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is str:
        return value.isascii()  # type: ignore[attr-defined, no-any-return]
    return value is None or kind is bool


def normalize(value: object, where: str, depth: int = 0) -> Json:
    """Return a private copy of a value as plain JSON. Tuples become lists.

    Args:
        value: what user code passed.
        where: the key that it belongs to, for the message.
        depth: how many containers are around it.

    Raises:
        MetadataValueError: the value is not JSON: another type, a non-string object key, NaN or an
            infinity, an integer beyond 2**53, or nested deeper than 64 levels.
    """
    if is_plain(value):
        return value
    if isinstance(value, str):
        # The base value of a subclass: str() of a (str, Enum) member would be its name.
        return _text(str.__str__(value), where)
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise MetadataValueError(
                f"metadata {where}: an integer beyond 2**53 loses digits in JSON; "
                "record it as a string"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MetadataValueError(f"metadata {where}: NaN and infinities are not JSON")
        return float(value)
    if depth >= MAX_DEPTH:
        raise MetadataValueError(f"metadata {where}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return _object(cast("dict[object, object]", value), where, depth)
    if isinstance(value, (list, tuple)):
        return array(cast("list[object] | tuple[object, ...]", value), where, depth)
    raise MetadataValueError(
        f"metadata {where}: {type(value).__name__} is not JSON; record str, numbers, bool, None, "
        "lists and dicts (for a Pydantic model use metadata.typed or model_dump(mode='json'))"
    )


def array(items: Sequence[object], where: str, depth: int = 0) -> list[Json]:
    """Return a private copy of several values as a plain JSON array; see `normalize`."""
    return [
        item if is_plain(item) else normalize(item, f"{where}[{index}]", depth + 1)
        for index, item in enumerate(items)
    ]


def _object(value: dict[object, object], where: str, depth: int) -> dict[str, Json]:
    members: dict[str, Json] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise MetadataValueError(
                f"metadata {where}: object keys must be str, not {type(key).__name__}"
            )
        name = _text(str.__str__(key), where)
        members[name] = item if is_plain(item) else normalize(item, f"{where}.{name}", depth + 1)
    return members


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MetadataValueError(
            f"metadata {where}: the text has lone surrogates and cannot be sent as UTF-8"
        ) from None
    return value


def number(value: object, where: str) -> int | float:
    """Return a finite JSON number.

    Raises:
        MetadataValueError: it is not a number (nor is a bool), or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetadataValueError(
            f"metadata {where}: increments need a number, not {type(value).__name__}"
        )
    normal: int | float = normalize(value, where)
    return normal


def copy(value: Json) -> Json:
    """Return a deep copy of a JSON value."""
    kind = type(value)
    if kind is dict:
        members: dict[str, Json] = value
        return {
            key: copy(item) if type(item) in _CONTAINERS else item for key, item in members.items()
        }
    if kind is list:
        items: list[Json] = value
        return [copy(item) if type(item) in _CONTAINERS else item for item in items]
    return value


def same(a: Json, b: Json) -> bool:
    """Compare two JSON values. Unlike Python's ``==``, True is not 1; and 1.0 is 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(item, b[key]) for key, item in a.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType, reportUnknownMemberType]
    return bool(a == b)


# ---------------------------------------------------------------- keys

Path: TypeAlias = tuple[str | int, ...]
"""Member names and array indexes, outermost first; the first is always a name."""

_SEGMENT = re.compile(
    r"""\.(?P<name>[^\s.\[\]'"$*@?,:()]+)"""
    r"""|\[(?P<index>0|[1-9][0-9]{0,8})\]"""
    r"""|\['(?P<single>(?:[^'\\]|\\['\\])*)'\]"""
    r"""|\["(?P<double>(?:[^"\\]|\\["\\])*)"\]"""
)
_ESCAPE = re.compile(r"\\(.)")


def parse(key: str) -> Path:
    """Read a key.

    Args:
        key: `"progress"`, `"$.progress.done"`, `"$['odd name'].items[0]"`.

    Returns:
        The path; `("progress",)` for a plain name.

    Raises:
        MetadataKeyError: the key is empty, not a str, or not such a path.
    """
    # Before the cache, which cannot hold what has no hash.
    _check_type(key, "key")
    return _parse(key)


@lru_cache(maxsize=4096)
def _parse(key: str) -> Path:
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


def _check_type(key: object, what: str) -> None:
    if not isinstance(key, str):
        raise MetadataKeyError(f"a metadata {what} is a str, not {type(key).__name__}")


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


def _check_text(key: str, what: str = "key") -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise MetadataKeyError(
            f"a metadata {what} has lone surrogates, which UTF-8 cannot carry"
        ) from None


@lru_cache(maxsize=4096)
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
