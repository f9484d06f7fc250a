"""What may be recorded: JSON values, and how large they may be."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Final, TypeAlias, cast

from inngest_plugins.core import ArgumentError, check_seconds

from ._errors import MetadataValueError

Json: TypeAlias = Any
"""None, bool, int, float, str, list or dict with string keys, all the way down."""

MAX_SAFE_INTEGER: Final = 2**53
"""Engines and browsers read JSON numbers as doubles; larger integers lose digits there."""

MAX_DEPTH: Final = 64

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
                raise ArgumentError(
                    f"Limits({field.name}={value!r}) must be a number of bytes above 0"
                )


def checked_limits(owner: str, limits: object, timeout: object) -> Limits:
    """Check the two options that `MetadataPlugin` and `MetadataClient` share.

    Args:
        owner: the class whose options they are.
        limits: a `Limits`, or None for the server's.
        timeout: seconds.

    Raises:
        ArgumentError: `limits` is not a `Limits`, or `timeout` not a positive number.
    """
    if not isinstance(limits, Limits | None):
        raise ArgumentError(
            f"{owner}(limits=...) takes Limits(...) or None, not {type(limits).__name__}"
        )
    check_seconds(f"{owner}(timeout=...)", timeout)
    return limits or Limits()


def size(value: Json) -> int:
    """Return the length of the rendered value in bytes."""
    return len(dumps(value).encode())


def document_size(document: dict[str, Json]) -> int:
    """Measure an object as the engine does: top-level keys and rendered values, in bytes."""
    return sum(len(key.encode()) + size(value) for key, value in document.items())


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
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
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
        items = cast("list[object] | tuple[object, ...]", value)
        return [normalize(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(items)]
    raise MetadataValueError(
        f"metadata {where}: {type(value).__name__} is not JSON; record str, numbers, bool, None, "
        "lists and dicts (for a Pydantic model use metadata.typed or model_dump(mode='json'))"
    )


def _object(value: dict[object, object], where: str, depth: int) -> dict[str, Json]:
    members: dict[str, Json] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise MetadataValueError(
                f"metadata {where}: object keys must be str, not {type(key).__name__}"
            )
        name = _text(key, where)
        members[name] = normalize(item, f"{where}.{name}", depth + 1)
    return members


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MetadataValueError(
            f"metadata {where}: the text has lone surrogates and cannot be sent as UTF-8"
        ) from None
    # The base value of a subclass: str() of a (str, Enum) member would be its name.
    return str.__str__(value)


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
    if type(value) is dict:
        members: dict[str, Json] = value
        return {key: copy(item) for key, item in members.items()}
    if type(value) is list:
        items: list[Json] = value
        return [copy(item) for item in items]
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
