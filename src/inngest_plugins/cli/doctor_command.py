"""``inngest-plugins doctor``: show the order of an app's middleware, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Annotated

import rich.console
import rich.text
import typer

from inngest_plugins.core import printable

from .apps.loading import load_app
from .doctor.examination import Report, Section, examine
from .doctor.health import Health, check_health

Text = rich.text.Text

_HEADINGS: typing.Final = ("name", "kind", "layer", "when it fails", "stands here because")
_FINDING_STYLES: typing.Final = {"error": "bold red", "warning": "yellow", "note": "dim"}


def doctor(
    app: Annotated[
        str, typer.Argument(metavar="APP", help="module:client, module, or path.py[:client]")
    ],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the order, and each finding.")
    ] = False,
    health: Annotated[
        bool,
        typer.Option(
            "--health", help="Also ask what the plugins need (databases and such) if it is up."
        ),
    ] = False,
) -> None:
    """Show what is registered with an app, in which order it runs, and what is wrong with it.

    Nothing is run and nothing is sent, but for the checks that --health makes. Order is that of
    inbound hooks, outermost first; outbound hooks run the other way round.

    Exit code: 0 when nothing is wrong, 1 when there is an error, a warning (with --strict) or
    something that is down (with --health), 2 for bad input.
    """
    loaded = load_app(app)
    report = examine(loaded)
    checked = check_health(loaded) if health else ()
    serious = ("error", "warning") if strict else ("error",)
    is_healthy = not any(finding.level in serious for finding in report.findings) and not any(
        one.error for one in checked
    )
    if as_json:
        answer = {"ok": is_healthy, **dataclasses.asdict(report)}
        if health:
            answer["health"] = [dataclasses.asdict(one) for one in checked]
        typer.echo(json.dumps(answer, indent=2))
    else:
        console = rich.console.Console()
        _draw(report, console)
        if health:
            _draw_health(checked, console)
    if not is_healthy:
        raise typer.Exit(1)


def _draw(report: Report, console: rich.console.Console) -> None:
    app_id = printable(report.app_id)
    console.print(Text.assemble((f"app {app_id}", "bold"), (f"  {report.mode}", "dim")))
    for section in report.sections:
        console.print()
        _draw_section(section, console)
    if report.installed:
        console.print()
        _draw_installed(report, console)
    console.print()
    for finding in report.findings:
        line = Text(f"{finding.level}  ", _FINDING_STYLES[finding.level])
        line.append(f"{printable(finding.where)}: ", "bold")
        line.append(printable(finding.text))
        console.print(line, soft_wrap=True)
    if not report.findings:
        console.print(Text("nothing to complain about", "green"))


def _draw_health(checked: tuple[Health, ...], console: rich.console.Console) -> None:
    console.print()
    for one in checked:
        line = Text("down  ", "bold red") if one.error else Text("up    ", "green")
        line.append(f"{printable(one.name)}", "bold").append(f"  plugin {printable(one.plugin)}")
        if one.error:
            line.append(f": {printable(one.error)}")
        console.print(line, soft_wrap=True)
    if not checked:
        console.print(Text("no plugin has health checks", "dim"))


def _draw_section(section: Section, console: rich.console.Console) -> None:
    noun = "function" if len(section.functions) == 1 else "functions"
    console.print(
        Text.assemble(f"{noun} ", (printable(", ".join(section.functions)), "bold")), soft_wrap=True
    )
    rows = [
        (printable(place.name), place.kind, place.layer or "-", place.on_error or "-", place.why)
        for place in section.places
    ]
    widths = [max(len(row[column]) for row in (_HEADINGS, *rows)) for column in range(4)]
    console.print(Text(f"{'':5}{_columns(_HEADINGS, widths)}", "dim"), soft_wrap=True)
    for number, (place, row) in enumerate(zip(section.places, rows, strict=True), 1):
        line = Text().append(f"{number:>3}  ", "dim").append(_columns(row, widths))
        line.stylize("bold", 5, 5 + len(row[0]))
        line.stylize("dim", len(line) - len(place.why))
        console.print(line, soft_wrap=True)
        if place.hooks:
            console.print(
                Text(f"{'':7}{printable(', '.join(place.hooks))}", "cyan"), soft_wrap=True
            )
    if section.secret_payloads:
        text = f"payloads are kept secret by {', '.join(section.secret_payloads)}"
        console.print(Text(f"{'':5}{printable(text)}", "green"), soft_wrap=True)


def _draw_installed(report: Report, console: rich.console.Console) -> None:
    console.print("plugins of installed packages")
    rows = [
        (
            printable(each.name),
            printable(f"{each.package} {each.version}"),
            printable(each.object),
            "in use" if each.in_use else "not used by this app",
        )
        for each in report.installed
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        line = Text(f"{'':5}{_columns(row, widths)}")
        line.stylize("bold", 5, 5 + len(row[0]))
        console.print(line, soft_wrap=True)


def _columns(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    return "  ".join((*cells, row[-1]))
