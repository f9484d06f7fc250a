"""The command ``new-plugin``: check the name, make the folder, say what to do next."""

from __future__ import annotations

import pathlib
import shlex
from typing import Annotated

import typer

from inngest_plugins.core import printable

from .folder import make_folder
from .names import PluginNames


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the package to make: slow-steps")
    ],
    *,
    parent: Annotated[
        pathlib.Path,
        typer.Option("--in", metavar="FOLDER", help="Make it in this folder, not the current one."),
    ] = pathlib.Path(),
) -> None:
    """Make a folder with a plugin of your own: package, types, tests, README.

    The folder is named after the package. Its tests pass at once where inngest-plugins[testing] is
    installed. Replace the hooks of the class by your own, then publish it like any package.

    Exit code: 0 when the folder is made, 2 when the name will not do or the folder exists.
    """
    names = PluginNames.of(name)
    folder = make_folder(names, parent)
    made = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    typer.echo(f"made {printable(str(folder))}")
    for path in made:
        typer.echo(f"  {path.as_posix()}")
    typer.echo(f"\nnext: cd {printable(shlex.quote(str(folder)))} && python -m pytest")
