"""Values as JSON: checked, copied and measured when they are recorded."""

from __future__ import annotations

import json
import math
from typing import Any, Final, TypeAlias

from ._errors import MetadataValueError

Json: TypeAlias = Any
"""None, bool, int, float, str, list or dict with string keys, all the way down."""

MAX_SAFE_INTEGER: Final = 2**53
"""Engines and browsers read JSON numbers as doubles; integers beyond this lose digits there."""

MAX_DEPTH: Final = 64


def dumps(value: Json) -> str:
    """Render a value the way it goes over the wire: no spaces, no escapes beyond the needed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def size(value: Json) -> int:
    """Return the length of the rendered value in bytes."""
    return len(dumps(value).encode())


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
    kind = type(value)
    if kind is str:
        try:
            value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            raise MetadataValueError(
                f"metadata {where}: the text has lone surrogates and cannot be sent as UTF-8"
            ) from None
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        return _integer(value, where)  # type: ignore[arg-type]
    if kind is float:
        return _number(value, where)  # type: ignore[arg-type]
    return _container(value, where, depth)


def _container(value: object, where: str, depth: int) -> Json:
    if depth >= MAX_DEPTH:
        raise MetadataValueError(f"metadata {where}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        copy: dict[str, Json] = {}
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(key, str):
                raise MetadataValueError(
                    f"metadata {where}: object keys must be str, not {type(key).__name__}"  # pyright: ignore[reportUnknownArgumentType]
                )
            copy[str(key)] = normalize(item, f"{where}.{key}", depth + 1)  # pyright: ignore[reportUnknownArgumentType]
        return copy
    if isinstance(value, list | tuple):
        return [
            normalize(item, f"{where}[{index}]", depth + 1)
            for index, item in enumerate(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        ]
    if isinstance(value, str | int | float):
        # Subclasses such as StrEnum members or numpy's float64 are JSON by their base value;
        # str() of a (str, Enum) member would be its name.
        if isinstance(value, str):
            return normalize(str.__str__(value), where, depth)
        return normalize(int(value) if isinstance(value, int) else float(value), where, depth)
    raise MetadataValueError(
        f"metadata {where}: {type(value).__name__} is not JSON; record str, numbers, bool, None, "
        "lists and dicts (for a Pydantic model use metadata.typed or model_dump(mode='json'))"
    )


def number(value: object, where: str) -> int | float:
    """Return a finite JSON number.

    Raises:
        MetadataValueError: it is no number (bool is none either), or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetadataValueError(
            f"metadata {where}: increments need a number, not {type(value).__name__}"
        )
    normal: int | float = normalize(value, where)
    return normal


def copy(value: Json) -> Json:
    """Return a deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [copy(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
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
