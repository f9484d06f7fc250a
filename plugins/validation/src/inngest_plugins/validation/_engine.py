"""What the two JSON Schema engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from referencing import Specification

from ._graph import Schema, SchemaGraph

if TYPE_CHECKING:
    from ._dialects import Library

EngineName = Literal["auto", "jsonschema", "jsonschema-rs"]


def check_engine(engine: object) -> None:
    """Refuse the name of an engine that there is not.

    Raises:
        ValueError: names the engines.
    """
    if engine not in get_args(EngineName):
        names = ", ".join(repr(name) for name in get_args(EngineName))
        msg = f"engine is one of {names}, not {engine!r}"
        raise ValueError(msg)


Failure = tuple[tuple["str | int", ...], str, object]
"""A broken rule: where in the value, the keyword, and the keyword's value in the schema."""


@dataclass(frozen=True)
class Document:
    """A schema, checked and ready to be compiled."""

    contents: Schema
    base_uri: str
    """Where it stands among the other documents; "" for a schema on its own."""

    specification: Specification[Any]
    """Its dialect."""

    library: Library
    """Everything else a reference may lead to."""

    graph: SchemaGraph
    vocabularies: frozenset[str] | None = None
    """Those of a custom meta-schema; None for all."""


class Engine(ABC):
    """A compiled JSON Schema."""

    def quick(self) -> Callable[[object], bool] | None:
        """A function that only tells whether a value is valid, where the engine has a faster one.

        It may raise anything for a value that is not JSON.
        """
        return None

    @abstractmethod
    def failures(self, value: object, *, first_only: bool = False) -> Sequence[Failure]:
        """All broken rules in any order, or at least one of them."""


# What stands under these is data, whatever its keys are called.
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples"})


def without_text_keywords(contents: Any, keywords: Collection[str]) -> Any:
    """A copy of a schema without some keywords whose values are strings."""
    if isinstance(contents, dict):
        members: dict[str, Any] = contents
        return {
            key: value if key in _DATA_KEYWORDS else without_text_keywords(value, keywords)
            for key, value in members.items()
            if not (key in keywords and isinstance(value, str))
        }
    if isinstance(contents, list):
        items: list[Any] = contents
        return [without_text_keywords(each, keywords) for each in items]
    return contents
