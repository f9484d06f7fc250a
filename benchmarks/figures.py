"""The rows of the one table that `make bench` prints: a figure, its aim, and whether it is met.

A benchmark calls `figure` beside what it prints. Run by itself it prints its own tables only;
`run.py` collects the rows of all scripts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "INNGEST_PLUGINS_FIGURES"
"""Names the file that rows are added to."""


@dataclass(frozen=True)
class Figure:
    """One row.

    Attributes:
        what: what was measured, beside what.
        value: a ratio, or a number of `unit`.
        unit: `x` for a ratio.
        at_most: the aim, where less is better.
        at_least: the aim, where more is better.
    """

    what: str
    value: float
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None

    @property
    def aim(self) -> str:
        """The aim in words."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"

    @property
    def verdict(self) -> str:
        """Whether the aim is met; nothing without an aim."""
        if self.at_most is not None:
            return "yes" if self.value <= self.at_most else "no"
        if self.at_least is not None:
            return "yes" if self.value >= self.at_least else "no"
        return ""


def figure(
    what: str,
    value: float,
    unit: str = "x",
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> None:
    """Add a row to the table, if one is being made.

    Args:
        what: what was measured, beside what.
        value: a ratio, or a number of `unit`.
        unit: `x` for a ratio.
        at_most: the aim, where less is better.
        at_least: the aim, where more is better.
    """
    path = os.environ.get(VARIABLE)
    if path:
        row = Figure(what, value, unit, at_most, at_least)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def read(path: Path) -> list[Figure]:
    """Return the rows of a file; none if no script added one."""
    if not path.exists():
        return []
    return [Figure(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def as_markdown(groups: Iterable[tuple[str, list[Figure]]]) -> str:
    """Return the table.

    Args:
        groups: the name of each script with its rows.
    """
    lines = ["| | measured | aim | met |", "|---|---|---|---|"]
    for name, rows in groups:
        if rows:
            lines.append(f"| **[{name}](#{name})** | | | |")
        for row in rows:
            number = f"x{row.value:.2f}" if row.unit == "x" else f"{row.value:,.4g} {row.unit}"
            lines.append(f"| {row.what} | {number} | {row.aim} | {row.verdict} |")
    return "\n".join(lines)
