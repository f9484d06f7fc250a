"""What every kind of schema is turned into, once: a parser that accepts or rejects a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class CompiledSchema(ABC, Generic[T_co]):
    """A schema, compiled. Immutable, shared by all calls and threads."""

    coerces: bool
    """Whether a parsed value can differ from the checked one (a JSON Schema only checks)."""

    @abstractmethod
    def parse(self, value: object, *, mask_keys: bool = False) -> T_co:
        """Check a JSON value and return it as the schema's type.

        Args:
            value: A JSON value, as Python objects.
            mask_keys: Show property names that the schema does not name as `*`.

        Raises:
            Rejection: The value breaks the schema.
        """

    @abstractmethod
    def dump(self, parsed: object) -> Any:
        """The JSON form of a parsed object, or of one the user built.

        Raises:
            Rejection: The object cannot be written as JSON.
        """

    @abstractmethod
    def json_schema(self) -> dict[str, Any] | bool:
        """The schema as JSON Schema, self-contained but for its own `$defs`."""
