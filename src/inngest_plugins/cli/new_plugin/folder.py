"""Writes the files of a new plugin, all of them or none."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import pathlib
import shutil
import string
import tempfile
import typing

from inngest_plugins.cli._errors import CliError

from .names import PluginNames

_FILES: typing.Final = {
    ".gitignore": "gitignore",
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/$package/__init__.py": "init.py",
    "src/$package/plugin.py": "plugin.py",
    "tests/test_$package.py": "test_plugin.py",
}
"""Path in the new folder, and the template (``template/*.txt``) of what it holds."""


def make_folder(names: PluginNames, parent: pathlib.Path) -> pathlib.Path:
    """Make the folder of a new plugin and return its path.

    Args:
        names: What the plugin is called.
        parent: The folder to make it in.

    Raises:
        CliError: There is no such parent, the folder is there already, or it cannot be written.
            Nothing is left behind.
    """
    folder = parent / names.distribution
    if not parent.is_dir():
        raise CliError(f"there is no folder {parent}")
    if os.path.lexists(folder):
        raise CliError(f"{folder} is there already: choose another name, or remove it")
    try:
        # Complete when it appears: the files are written beside it first.
        with tempfile.TemporaryDirectory(prefix=f".{names.distribution}-", dir=parent) as beside:
            written = pathlib.Path(beside) / names.distribution
            _write(names, written)
            shutil.move(written, folder)
    except OSError as error:
        raise CliError(f"cannot make {folder}: {error.strerror or error}") from error
    return folder


def _write(names: PluginNames, folder: pathlib.Path) -> None:
    values = {
        "name": names.distribution,
        "package": names.package,
        "class_name": names.class_name,
        "version": importlib.metadata.version("inngest-plugins"),
    }
    templates = importlib.resources.files("inngest_plugins.cli.new_plugin") / "template"
    for path, template in _FILES.items():
        file = folder / string.Template(path).substitute(values)
        file.parent.mkdir(parents=True, exist_ok=True)
        text = (templates / f"{template}.txt").read_text("utf-8")
        file.write_text(string.Template(text).substitute(values), "utf-8")
    (folder / "src" / names.package / "py.typed").touch()
