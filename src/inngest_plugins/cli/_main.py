"""The program: finds the sub-commands, runs one, turns failures into one line and an exit code."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import traceback
import types
import typing

from inngest_plugins.core import PluginsError, printable

from ._errors import CliError
from .streams.logs import printable_logs
from .streams.output import output_streams

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import typer

GROUP: typing.Final = "inngest_plugins.commands"
"""Entry points of this group are the sub-commands.

The name is the command's, the value a ``typer.Typer`` (a command with sub-commands) or a plain
function with typer annotations.
"""

_HELP = "Run, inspect and look after Inngest apps that use inngest-plugins."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 means done; 1 a negative result (a run failed, a check found something); 2 bad input, with
    one readable line on standard error; 130 an interrupt. A closed pipe (``| head``) changes none
    of these. ``--debug`` anywhere on the line shows tracebacks.

    Args:
        argv: The arguments after the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if importlib.util.find_spec("typer") is None:
        return _fail('this program needs typer: pip install "inngest-plugins[cli]"')
    with output_streams(), printable_logs():
        code = _exit_code(lambda: _run(arguments), debug=debug)
        unwritten = _exit_code(_flush, debug=debug)
    return unwritten or code


def _exit_code(action: typing.Callable[[], None], *, debug: bool) -> int:
    """Run a command, say in one line what went wrong, and return the exit code."""
    try:
        action()
    except SystemExit as exit_request:
        code = exit_request.code
        return code if isinstance(code, int) else int(code is not None)
    except KeyboardInterrupt:
        return _fail("interrupted", exit_code=130)
    except CliError as error:
        if debug:
            _print_traceback()
        return _fail(str(error), exit_code=error.exit_code)
    except Exception as error:
        if debug:
            _print_traceback()
        text = str(error)
        hint = "" if debug else " (--debug shows where)"
        if isinstance(error, PluginsError):
            hint += f" See {error.docs_url()}"
        return _fail(f"{type(error).__name__}: {text}{hint}" if text else type(error).__name__)
    return 0


def _print_traceback() -> None:
    print(printable(traceback.format_exc(), lines=True), end="", file=sys.stderr)


def _fail(message: str, *, exit_code: int = 2) -> int:
    print(f"inngest-plugins: {printable(' '.join(message.split()))}", file=sys.stderr)
    return exit_code


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _run(arguments: Sequence[str]) -> None:
    import typer.main

    wanted = next((each for each in arguments if not each.startswith("-")), None)
    app = build(importlib.metadata.entry_points(group=GROUP), wanted)
    typer.main.get_command(app).main(args=list(arguments), prog_name="inngest-plugins")


def build(entry_points: Iterable[importlib.metadata.EntryPoint], wanted: str | None) -> typer.Typer:
    """Make the program out of the installed commands.

    Args:
        entry_points: The commands to offer.
        wanted: The command that will run; the others are not imported. None imports all of
            them, which the list of commands in ``--help`` needs.
    """
    import typer

    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    def declare_options(
        *,
        version: bool = typer.Option(False, "--version", help="Show the version and exit."),  # noqa: FBT003
    ) -> None:
        if version:
            typer.echo(f"inngest-plugins {importlib.metadata.version('inngest-plugins')}")
            raise typer.Exit

    app.callback(
        invoke_without_command=True,
        epilog="--debug, anywhere on the line, shows a traceback when something fails.",
    )(declare_options)
    by_name = {entry_point.name: entry_point for entry_point in entry_points}
    load_all = wanted not in by_name
    for name, entry_point in sorted(by_name.items()):
        if load_all or name == wanted:
            _add(app, name, _load(entry_point))
        else:
            _add(app, name, _not_loaded)
    return app


def _not_loaded() -> None:
    """Not loaded: this is not the command of the command line."""


def _load(entry_point: importlib.metadata.EntryPoint) -> object:
    try:
        return entry_point.load()
    except ImportError as error:
        return _unavailable(entry_point, error)


def _unavailable(
    entry_point: importlib.metadata.EntryPoint, error: ImportError
) -> typing.Callable[..., None]:
    """A command in place of one that cannot be imported: says what to install."""
    message = " ".join(str(error).split())
    package, _, rest = entry_point.module.partition(".")
    hint = ""
    if package == "inngest_plugins":
        folder = rest.partition(".")[0]
        hint = f'pip install "inngest-plugins[{"local" if folder == "cli" else folder}]"'
    if hint not in message:
        message = f"{message}: {hint}"

    def unavailable() -> None:
        raise CliError(f"the command {entry_point.name!r} is not installed: {message}")

    unavailable.__doc__ = f"(not installed) {hint or message}"
    return unavailable


def _add(app: typer.Typer, name: str, command: object) -> None:
    import typer

    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    elif isinstance(command, types.FunctionType):
        loose = {"ignore_unknown_options": True, "allow_extra_args": True}
        settings = loose if command.__name__ == "unavailable" else None
        app.command(name, context_settings=settings)(command)
    else:
        raise CliError(
            f"the installed command {name!r} is a {type(command).__name__}, "
            f"not a typer app or a function"
        )
