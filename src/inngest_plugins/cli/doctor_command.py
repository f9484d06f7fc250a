"""``inngest-plugins doctor``: show how an app's middleware is put together."""

from __future__ import annotations

import typing
from typing import Annotated

import rich.console
import rich.table
import rich.text
import typer

from ._app import load_app
from ._doctor import Report, Section, examine

Text = rich.text.Text

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
    table = rich.table.Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "name", "kind", "layer", "when it fails", "stands here because"):
        table.add_column(heading, overflow="fold")
    for number, place in enumerate(section.places, 1):
        table.add_row(
            Text(f"{number:>3}", "dim"),
            Text(place.name, "bold"),
            place.kind,
            place.layer or "-",
            place.on_error or "-",
            Text(place.why, "dim"),
        )
        if place.hooks:
            table.add_row("", "", Text(""), "", "", Text(", ".join(place.hooks), "cyan"))
    console.print(table)
    if section.secret_payloads:
        text = f"payloads are kept secret by {', '.join(section.secret_payloads)}"
        console.print(Text(f"     {text}", "green"))
