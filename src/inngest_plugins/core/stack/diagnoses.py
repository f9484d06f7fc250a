"""Findings for `inngest-plugins doctor` of packages of which no plugin stands in a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from .stack import Stack

_diagnoses: Final[dict[str, Callable[[Stack], Iterable[str]]]] = {}


def diagnose_with(where: str, diagnose: Callable[[Stack], Iterable[str]]) -> None:
    """Let `inngest-plugins doctor` ask a package of which no plugin stands in `middleware=[...]`.

    Args:
        where: what the findings are about, as the report shows it.
        diagnose: given the stack of a function; returns one sentence for each finding.
    """
    _diagnoses[where] = diagnose


def diagnoses() -> Mapping[str, Callable[[Stack], Iterable[str]]]:
    """Return the functions that `diagnose_with` registered, by the subject of their findings."""
    return _diagnoses
