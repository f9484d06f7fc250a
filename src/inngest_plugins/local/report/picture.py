"""Draws a terminal's output as an SVG picture."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType


def as_picture(view: RenderableType, title: str, *, columns: int = 108) -> str:
    """Draw what a terminal of this many columns would show.

    Args:
        view: what `rich` can print.
        title: stands above it.
        columns: of characters.
    """
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(view)
    # Without the web font that rich names: a picture should not fetch anything.
    drawn = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
