"""Converts values of a type that Pydantic knows to JSON and back; errors show no value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar, cast

import pydantic
import pydantic_core

from .errors import PluginsError

T = TypeVar("T")

_SHOWN: Final = 5
"""How many problems a message lists."""

_OWN_TEXT: Final = frozenset({"value_error", "assertion_error"})
"""Errors whose text is that of a user's validator, which may quote the value."""


class TypedJsonError(PluginsError, ValueError):
    """A value does not fit its type; the message names JSON paths and reasons, and no value."""


class TypedJson(Generic[T]):
    """Converts values of one type to JSON and back.

    Args:
        type_: a Pydantic model, or any other type that Pydantic knows.

    Raises:
        Exception: Pydantic does not know it.
    """

    __slots__ = ("_adapter",)

    def __init__(self, type_: Any) -> None:
        self._adapter: pydantic.TypeAdapter[T] = pydantic.TypeAdapter(type_)

    def write(self, value: object, *, mask_keys: bool = False) -> Any:
        """Return a value as JSON that `read` takes.

        Args:
            value: of the type, or what Pydantic makes one of.
            mask_keys: whether the keys of dicts are payload that must not stand in a message.

        Raises:
            TypedJsonError: it does not fit, also once it is written.
        """
        try:
            fitting = self._adapter.validate_python(value)
            written = self._adapter.dump_json(fitting, by_alias=True, warnings="error")
            # A model may have been changed after it was made, or write what it does not read.
            self._adapter.validate_json(written)
        except pydantic.ValidationError as err:
            raise TypedJsonError(_problems(err, mask_keys=mask_keys)) from None
        except (pydantic_core.PydanticSerializationError, ValueError, TypeError, RecursionError):
            raise TypedJsonError("$: a value is not JSON, or not of the declared type") from None
        document = json.loads(written)
        # Where the type says nothing of numbers, Pydantic writes null for NaN and the infinities.
        if b"null" in written and _is_lost(
            self._adapter.dump_python(fitting, by_alias=True), document
        ):
            raise TypedJsonError("$: a value is NaN or an infinity, which JSON lacks")
        return document

    def read(self, data: Any, *, mask_keys: bool = False) -> T:
        """Return the value that JSON holds.

        Args:
            data: decoded JSON.
            mask_keys: as for `write`.

        Raises:
            TypedJsonError: it does not fit.
        """
        try:
            # As JSON, so that strict types read what JSON has no type for.
            return self._adapter.validate_json(json.dumps(data))
        except pydantic.ValidationError as err:
            raise TypedJsonError(_problems(err, mask_keys=mask_keys)) from None


def _is_lost(value: object, written: object) -> bool:
    """Return whether a number in a value stands as null in its JSON."""
    if isinstance(value, float):
        return written is None and not math.isfinite(value)
    if isinstance(value, dict) and isinstance(written, dict):
        pairs = zip(
            cast("dict[object, object]", value).values(),
            cast("dict[str, object]", written).values(),
            strict=False,
        )
        return any(_is_lost(*pair) for pair in pairs)
    if isinstance(value, (list, tuple, set, frozenset)) and isinstance(written, list):
        items = zip(cast("Iterable[object]", value), cast("list[object]", written), strict=False)
        return any(_is_lost(*pair) for pair in items)
    return False


def _problems(error: pydantic.ValidationError, *, mask_keys: bool) -> str:
    found: list[str] = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        place = "".join(
            f"[{part}]" if isinstance(part, int) else f".{'*' if mask_keys else part}"
            for part in problem["loc"]
        )
        why = problem["type"] if problem["type"] in _OWN_TEXT else problem["msg"]
        found.append(f"${place}: {why}")
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
