"""A compiled schema of any kind, and what it says of a value that breaks it.

What is wrong with a value is structured and picklable, and does not hold the value itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar, get_args

import inngest

from inngest_plugins.core import ArgumentError, PluginsError

Direction = Literal["incoming", "outgoing", "output"]

#: How many violations of one value are reported; the rest is only counted.
MAX_VIOLATIONS = 20

_MAX_SEGMENT = 64
_MAX_POINTER = 512
_MAX_EXPECTED = 200


@dataclass(frozen=True)
class Violation:
    """One rule of a schema that a value broke.

    Nothing in it comes from the value, apart from the property names in `pointer`.
    """

    pointer: str
    """JSON pointer (RFC 6901) into the event's data, or into the output; "" is the whole value.
    Where a property is missing it names the missing property."""

    rule: str
    """The JSON Schema keyword or Pydantic error type that was broken: "minimum", "missing"."""

    expected: str
    """What the schema asks for at this place, in words."""

    subject: str = ""
    """The event's name, or which output it is: "output of step charge of function fulfil"."""

    index: int | None = None
    """Which event of a batch (0 is the first); None where there was only one."""


class ValidationFailed(inngest.NonRetriableError, PluginsError):  # noqa: N818 - its public name
    """A value broke its contract. Never retried: the same value would break it again.

    The message, the attributes and the exception chain hold no part of the value. It can be
    pickled, so it survives process pools and task queues.

    Attributes:
        errors: The broken rules, at most 20 for one value.
        direction: "incoming", "outgoing" or "output".
        subject: The event's name, or which output it is.
        omitted: How many further violations were found and left out of `errors`; where a value is
            so large that the engine stopped at its first violation this is 0 too.
    """

    def __init__(
        self, errors: Sequence[Violation], *, direction: Direction, omitted: int = 0
    ) -> None:
        self.errors: tuple[Violation, ...] = tuple(errors)
        self.direction: Direction = direction
        self.omitted = omitted
        subjects = list(dict.fromkeys(error.subject for error in self.errors))
        self.subject: str = ", ".join(subjects)
        super().__init__(self._text())

    def _text(self) -> str:
        total = len(self.errors) + self.omitted
        noun = "violation" if total == 1 else "violations"
        lines = [f"{self.subject} ({self.direction}) breaks its schema: {total} {noun}"]
        for error in self.errors:
            batch = "" if error.index is None else f"[{error.index}] "
            where = error.pointer or "(the whole value)"
            lines.append(f"  {batch}{where}: {error.rule}: expected {error.expected}")
        if self.omitted:
            lines.append(f"  and {self.omitted} more")
        return "\n".join(lines)

    def __reduce__(
        self,
    ) -> tuple[object, tuple[tuple[Violation, ...], Direction, int]]:
        return _restore, (self.errors, self.direction, self.omitted)


def _restore(errors: tuple[Violation, ...], direction: Direction, omitted: int) -> ValidationFailed:
    return ValidationFailed(errors, direction=direction, omitted=omitted)


class SchemaError(PluginsError, ValueError):
    """A schema is wrong, or cannot be used safely. Raised when it is registered.

    Schemas are trusted, so this message may quote the schema.
    """


class Rejection(Exception):  # noqa: N818 - a verdict between modules, never shown to a user
    """What a compiled schema raises for a bad value, before its subject is known."""

    def __init__(self, violations: Sequence[Violation], *, omitted: int = 0) -> None:
        super().__init__(f"{len(violations) + omitted} violations")
        self.violations = tuple(violations)
        self.omitted = omitted

    @classmethod
    def of(cls, rule: str, expected: str, pointer: str = "") -> Rejection:
        """A rejection for one reason."""
        return cls((Violation(pointer, rule, expected),))

    def addressed(self, subject: str, *, index: int | None = None) -> tuple[Violation, ...]:
        """Its violations with their subject and their place in a batch."""
        return tuple(
            replace(violation, subject=subject, index=index) for violation in self.violations
        )

    def below(self, prefix: str) -> Rejection:
        """The same verdict for a value at a pointer inside another value."""
        return Rejection(
            [replace(each, pointer=prefix + each.pointer) for each in self.violations],
            omitted=self.omitted,
        )

    def failure(self, subject: str, direction: Direction) -> ValidationFailed:
        """The exception users see."""
        return failure_of([(None, subject, self)], direction)


def failure_of(
    rejections: Sequence[tuple[int | None, str, Rejection]], direction: Direction
) -> ValidationFailed:
    """One exception for several values, with `MAX_VIOLATIONS` of their violations in all.

    Args:
        rejections: The place in the batch, the subject and the verdict of each bad value.
        direction: Which way they were going.
    """
    kept: list[Violation] = []
    omitted = 0
    for index, subject, rejection in rejections:
        found = rejection.addressed(subject, index=index)
        room = MAX_VIOLATIONS - len(kept)
        kept.extend(found[:room])
        omitted += rejection.omitted + max(0, len(found) - room)
    return ValidationFailed(kept, direction=direction, omitted=omitted)


def capped(violations: Collection[Violation]) -> Rejection:
    """Sort violations by place and rule, keep `MAX_VIOLATIONS`, count the rest."""
    kept = list(dict.fromkeys(violations))
    return Rejection(kept[:MAX_VIOLATIONS], omitted=max(0, len(kept) - MAX_VIOLATIONS))


def pointer_to(path: Sequence[str | int], declared: Collection[str] | None = None) -> str:
    """The JSON pointer of a path (RFC 6901 section 3), made safe to print.

    Args:
        path: Property names and array indexes from the root.
        declared: Property names the schema itself names. Where given, every other name is shown
            as `*`: names that only the payload chose can be data (an e-mail address as a key).
    """
    segments = [_segment(part, declared) for part in path]
    pointer = "".join(f"/{segment}" for segment in segments)
    return pointer if len(pointer) <= _MAX_POINTER else pointer[:_MAX_POINTER] + "..."


def _segment(part: str | int, declared: Collection[str] | None) -> str:
    if isinstance(part, int):
        return str(part)
    if declared is not None and part not in declared:
        return "*"
    if len(part) > _MAX_SEGMENT:
        part = part[:_MAX_SEGMENT] + "..."
    escaped = part.replace("~", "~0").replace("/", "~1")
    if escaped.isprintable():
        return escaped
    # Control characters in a payload's key must not be able to forge lines of a log.
    return escaped.encode("unicode_escape").decode("ascii")


def shortened(text: str) -> str:
    """Text from a schema, short enough for a message."""
    return text if len(text) <= _MAX_EXPECTED else text[: _MAX_EXPECTED - 3] + "..."


SUFFIXES = (".json", ".yaml", ".yml")

EngineName = Literal["auto", "jsonschema", "jsonschema-rs"]


def check_engine(engine: object) -> None:
    """Refuse an unknown name of an engine.

    Raises:
        ArgumentError: names the engines.
    """
    if engine not in get_args(EngineName):
        names = ", ".join(repr(name) for name in get_args(EngineName))
        msg = f"engine is one of {names}, not {engine!r}"
        raise ArgumentError(msg)


Secrets = Literal["refuse", "encrypted"]
"""What to do with `SecretStr` and other secrets when a value is written as JSON."""

T_co = TypeVar("T_co", covariant=True)


def check_secrets(secrets: object) -> None:
    """Refuse a policy for secrets that there is not.

    Raises:
        ArgumentError: names the policies.
    """
    if secrets not in get_args(Secrets):
        msg = f'secrets is "refuse" or "encrypted", not {secrets!r}'
        raise ArgumentError(msg)


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
