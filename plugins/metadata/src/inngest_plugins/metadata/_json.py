"""Values as JSON: checked, copied and measured when they are recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

from ._errors import MetadataValueError

Json: TypeAlias = Any
"""None, bool, int, float, str, list or dict with string keys, all the way down."""

MAX_SAFE_INTEGER: Final = 2**53
"""Engines and browsers read JSON numbers as doubles; integers beyond this lose digits there."""

MAX_DEPTH: Final = 64


dumps: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode
"""Render a value the way it goes over the wire: no spaces, no escapes beyond the needed."""


def size(value: Json) -> int:
    """Return the length of the rendered value in bytes."""
    return len(dumps(value).encode())


def is_plain(value: object) -> bool:
    """Tell whether a value is JSON as it stands and needs neither check nor copy."""
    kind = type(value)
    if kind is int:
        return -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER  # type: ignore[operator]
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is str:
        return value.isascii()  # type: ignore[attr-defined, no-any-return]
    return value is None or kind is bool


def normalize(value: object, where: str, depth: int = 0) -> Json:
    """Return a private copy of a value as plain JSON.

    Args:
        value: what user code passed. Tuples become lists; nothing else is converted.
        where: the key it goes to, for the message.
        depth: how many containers stand around it.

    Raises:
        MetadataValueError: the value is no JSON: another type, a non-string object key, NaN or an
            infinity, an integer beyond 2**53, or nested deeper than 64 levels.
    """
    if is_plain(value):
        return value
    if isinstance(value, str):
        # The base value of a subclass: str() of a (str, Enum) member would be its name.
        return _text(str.__str__(value), where)
    if isinstance(value, int):
        return _integer(int(value), where)
    if isinstance(value, float):
        return _number(float(value), where)
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
    if all(map(is_plain, items)):
        return list(items)
    return [normalize(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(items)]


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
        MetadataValueError: it is no number (bool is none either), or out of range.
    """
    if type(value) is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetadataValueError(
            f"metadata {where}: increments need a number, not {type(value).__name__}"
        )
    normal: int | float = normalize(value, where)
    return normal


_CONTAINERS: Final = (dict, list)


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
    """Compare two JSON values. Other than Python's ``==``, True is not 1; and 1.0 is 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(item, b[key]) for key, item in a.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType, reportUnknownMemberType]
    return bool(a == b)


def _integer(value: int, where: str) -> int:
    if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return value
    raise MetadataValueError(
        f"metadata {where}: an integer beyond 2**53 loses digits in JSON; record it as a string"
    )


def _number(value: float, where: str) -> float:
    if math.isfinite(value):
        return value
    raise MetadataValueError(f"metadata {where}: NaN and infinities are not JSON")
