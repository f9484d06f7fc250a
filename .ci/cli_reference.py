"""Writes docs/reference/cli.md from the program; ``--check`` fails when it is out of date."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import typer.main

from inngest_plugins.cli._main import GROUP, build

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"

HEAD = """\
# Command line

<!-- Made by .ci/cli_reference.py from the program: run `make cli-reference` after a change. -->

`inngest-plugins` comes with every installation, its commands with the extras that they belong to:
`run` and `doctor` with `local`, `new-plugin` with `cli`, `ai` with `ai` and `cli`, `decrypt` and
`keys` with `encryption`, `mirror` with `mirror`, `schemas` with `validation`.
`inngest-plugins COMMAND --help` shows what this page shows, and
`inngest-plugins --install-completion` makes your shell complete commands and options.

Every command ends with one of these exit codes:

| code | meaning |
|---|---|
| 0 | done, and nothing is wrong |
| 1 | a negative result: a run did not complete, a check found something |
| 2 | bad input, or output that cannot be written: one line on standard error says what to do |
| 130 | interrupted (Ctrl-C) |

A reader that closes the pipe (`inngest-plugins run ... | head`) does not change the code: the
command works on to its own verdict. `--debug`, anywhere on the line, shows a traceback when
something fails. Control and bidirectional characters in what a command prints are shown escaped,
as `\\u001b`.
"""


def page() -> str:
    """The text of the page."""
    app = build(importlib.metadata.entry_points(group=GROUP), None)
    root: Any = typer.main.get_command(app)
    sections = [HEAD, *(_section(name, command) for name, command in sorted(root.commands.items()))]
    return "\n".join(sections)


def _section(name: str, command: Any, above: str = "") -> str:
    full = f"{above} {name}".strip()
    level = "###" if above else "##"
    lines = [f"{level} `{full}`", "", _escaped(command.help or ""), ""]
    below = getattr(command, "commands", None)
    if below is not None:
        return "\n".join([*lines, *(_section(*each, full) for each in sorted(below.items()))])
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join(["inngest-plugins", full, *map(_metavar, arguments), "[OPTIONS]"])
    lines += ["```", usage, "```", ""]
    if command.params:
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{_metavar(each)}` | {_cell(each.help)} |" for each in arguments]
        context = command.make_context(full, [], resilient_parsing=True)
        records = [each.get_help_record(context) for each in options]
        lines += [f"| `{_in_table(names)}` | {_cell(text)} |" for names, text in records]
        lines.append("")
    return "\n".join(lines)


def _metavar(argument: Any) -> str:
    name: str = argument.metavar or argument.name.upper()
    return name


def _cell(text: str | None) -> str:
    return _in_table(_escaped(" ".join((text or "").split())))


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    # Markdown would take `<x>` for a tag.
    return re.sub(r"<(?=\w)", "\\<", text)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if PAGE.read_text("utf-8") != page():
            sys.exit(f"{PAGE} is out of date: run `make cli-reference`")
    else:
        PAGE.write_text(page(), "utf-8")
