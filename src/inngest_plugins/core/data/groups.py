"""A `group.parallel` of the function, as plugins see it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class ParallelGroup:
    """A `group.parallel` that the function has reached.

    Attributes:
        place: where: `Step.branch` of each of its steps begins with it.
        is_race: whether the function goes on as soon as one branch has ended.
    """

    place: tuple[int, ...]
    is_race: bool


AroundBranch: TypeAlias = Callable[[int], AbstractContextManager[Any]]
"""Returns what to hold open around a branch, given its number."""

AroundGroup: TypeAlias = Callable[[ParallelGroup], AbstractContextManager[AroundBranch]]
"""Returns what to hold open around a group; entering it gives the same for its branches."""
