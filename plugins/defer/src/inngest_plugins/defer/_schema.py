"""The data of a deferral: written as JSON, and read for the deferred function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar, cast

from inngest_plugins.core import TypedJson, TypedJsonError

from ._errors import DeferDataError

DataT = TypeVar("DataT")

RESERVED: Final = ("_inngest", "_inngest_plugins")
"""Keys of the data that the engine and the plugins of an app add."""


class DataSchema(Generic[DataT]):
    """Converts the data of one deferred function to JSON and back.

    Args:
        schema: a Pydantic model, a dataclass, a TypedDict or another type whose JSON is an
            object; None for a dict of anything.
        name: the function, for errors.
    """

    __slots__ = ("_json", "_name")

    def __init__(self, schema: Any, name: str) -> None:
        self._json: TypedJson[DataT] = TypedJson(dict[str, Any] if schema is None else schema)
        self._name = name

    def write(self, data: object, *, place: str, mask_keys: bool) -> dict[str, Any]:
        """Return data as a JSON object that `read` takes.

        Args:
            data: the user's data: of the schema's type, or convertible to it by Pydantic.
            place: where, for errors.
            mask_keys: whether the keys of dicts are payload that must not stand in a message.

        Raises:
            DeferDataError: it does not fit; names the places, and never a value.
        """
        try:
            written = self._json.write(data, mask_keys=mask_keys)
        except TypedJsonError as err:
            raise DeferDataError(
                f"{place}: the data does not fit the schema of {self._name}: {err}"
            ) from None
        if not isinstance(written, dict):
            raise DeferDataError(
                f"{place}: the data of a deferral is a JSON object, and the schema of "
                f"{self._name} writes another value"
            )
        for key in RESERVED:
            if key in written:
                raise DeferDataError(f"{place}: the key {key!r} is the engine's: take another")
        return cast("dict[str, Any]", written)

    def read(self, data: Mapping[str, Any], *, mask_keys: bool) -> DataT:
        """Return the data that the deferred function gets.

        Raises:
            DeferDataError: the deferred data does not fit the schema.
        """
        plain = {key: value for key, value in data.items() if key not in RESERVED}
        try:
            return self._json.read(plain, mask_keys=mask_keys)
        except TypedJsonError as err:
            raise DeferDataError(
                f"the deferred data does not fit the schema of {self._name}: {err}"
            ) from None
