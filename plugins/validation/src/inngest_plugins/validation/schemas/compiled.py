"""`CompiledSchema`: what every kind of schema is compiled to; it accepts or rejects a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, Literal, TypeVar, get_args

Secrets = Literal["refuse", "encrypted"]
"""What to do with `SecretStr` and other secrets when a value is written as JSON."""

T_co = TypeVar("T_co", covariant=True)


def check_secrets(secrets: object) -> None:
    """Refuse a policy for secrets that there is not.

    Raises:
        ValueError: names the policies.
    """
    if secrets not in get_args(Secrets):
        msg = f'secrets is "refuse" or "encrypted", not {secrets!r}'
        raise ValueError(msg)


class CompiledSchema(ABC, Generic[T_co]):
    """A schema, compiled. Immutable, shared by all calls and threads."""

    coerces: bool
    """Whether a parsed value can differ from the checked one (a JSON Schema only checks)."""

    secrets: Secrets = "refuse"
    """Whether `dump` writes secrets in full."""

    secret_fields: tuple[tuple[str | int, ...], ...] = ()
    """The places of secrets in the JSON form."""

    def lossy_fields(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        """The places whose value no JSON form carries, each with the reason."""
        return ()

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
    def dump(self, parsed: object, *, mask_keys: bool = False) -> Any:
        """The JSON form of a parsed object, or of one the user built.

        What is read from it is equal to the object.

        Raises:
            Rejection: There is no such form.
        """

    @abstractmethod
    def json_schema(self) -> dict[str, Any] | bool:
        """The schema as JSON Schema, self-contained but for its own `$defs`."""
