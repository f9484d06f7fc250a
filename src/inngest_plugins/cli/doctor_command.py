"""``inngest-plugins doctor``: show how an app's middleware is put together."""

from __future__ import annotations

import typing
from typing import Annotated

import rich.console
import rich.text
import typer

from ._app import load_app
from ._doctor import Report, Section, examine

Text = rich.text.Text

_HEADINGS: typing.Final = ("name", "kind", "layer", "when it fails", "stands here because")
_FINDING_STYLES: typing.Final = {"error": "bold red", "warning": "yellow"}


def doctor(
    app: Annotated[
        str, typer.Argument(metavar="APP", help="module:client, module, or path.py[:client]")
    ],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
) -> None:
    """Show what is registered with an app, in which order it runs, and what is wrong with it.

    Nothing is run and nothing is sent. Order is that of inbound hooks, outermost first; outbound
    hooks run the other way round.

    Exit code: 0 when nothing is wrong, 1 when there is an error, 2 for bad input.
    """
    report = examine(load_app(app))
    console = rich.console.Console()
    _draw(report, console)
    serious = [each for each in report.findings if strict or each.level == "error"]
    if serious:
        raise typer.Exit(1)


def _draw(report: Report, console: rich.console.Console) -> None:
    mode = "production" if report.production else "development"
    console.print(Text.assemble((f"app {report.app_id}", "bold"), (f"  {mode} mode", "dim")))
    for section in report.sections:
        console.print()
        _draw_section(section, console)
    console.print()
    for finding in report.findings:
        line = Text(f"{finding.level}  ", _FINDING_STYLES[finding.level])
        line.append(f"{finding.where}: ", "bold")
        line.append(finding.text)
        console.print(line, soft_wrap=True)
    if not report.findings:
        console.print(Text("nothing to complain about", "green"))


def _draw_section(section: Section, console: rich.console.Console) -> None:
    noun = "function" if len(section.functions) == 1 else "functions"
    console.print(Text.assemble(f"{noun} ", (", ".join(section.functions), "bold")), soft_wrap=True)
    rows = [
        (place.name, place.kind, place.layer or "-", place.on_error or "-", place.why)
        for place in section.places
    ]
    widths = [max(len(row[column]) for row in (_HEADINGS, *rows)) for column in range(4)]
    console.print(Text(f"{'':5}{_columns(_HEADINGS, widths)}", "dim"), soft_wrap=True)
    for number, (place, row) in enumerate(zip(section.places, rows, strict=True), 1):
        line = Text().append(f"{number:>3}  ", "dim").append(_columns(row, widths))
        line.stylize("bold", 5, 5 + len(place.name))
        line.stylize("dim", len(line) - len(place.why))
        console.print(line, soft_wrap=True)
        if place.hooks:
            console.print(Text(f"{'':7}{', '.join(place.hooks)}", "cyan"), soft_wrap=True)
    if section.secret_payloads:
        text = f"payloads are kept secret by {', '.join(section.secret_payloads)}"
        console.print(Text(f"{'':5}{text}", "green"), soft_wrap=True)


def _columns(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    return "  ".join((*cells, row[-1]))
