"""``inngest-plugins run``: run an app on the embedded engine and draw what happened."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import sys
import time
import typing
from typing import Annotated

import inngest
import rich.console
import typer

from inngest_plugins.core import HookRecord, printable, record_hooks
from inngest_plugins.local import LocalEngine, LocalEngineError, RealClock, Run, VirtualClock
from inngest_plugins.local.functions.config import Trigger
from inngest_plugins.local.report.page import render_html
from inngest_plugins.local.report.picture import as_picture
from inngest_plugins.local.report.story import family, story_of
from inngest_plugins.local.report.terminal import TimelineView

from ._errors import CliError
from .apps.loading import App, load_app, where_in_app
from .run.event_option import read_events
from .run.progress import watching
from .run.run_json import story_to_json

_STANDARD_OUTPUT: typing.Final = "-"


@dataclasses.dataclass(frozen=True)
class _Options:
    """The options that decide what runs."""

    events: list[inngest.Event] | None
    function: str | None
    journal: pathlib.Path | None
    real_time: bool
    timeout: float | None


def run(
    app: Annotated[
        str, typer.Argument(metavar="APP", help="module:client, module, or path.py[:client]")
    ],
    *,
    event: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE",
            help="One event or a list of events, as JSON; @FILE reads a file, @- standard input.",
        ),
    ] = None,
    function: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Draw and judge only this function's run and the runs it causes. "
            "Without --event: fire its cron now.",
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also write the timeline as one self-contained page; - prints it instead.",
        ),
    ] = None,
    svg: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Also write the timeline as a picture; - prints it instead."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the timeline.")
    ] = False,
    journal: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep runs in this SQLite file, and finish those that it holds. "
            "Without --event: only finish them.",
        ),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Wait for sleeps and retries instead of jumping.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.0, help="End runs that take longer (real seconds)."),
    ] = None,
    hooks: Annotated[
        bool, typer.Option("--hooks", help="Also list the plugin hooks of every request.")
    ] = False,
    sealed: Annotated[
        bool,
        typer.Option(
            "--sealed", help="Show values and errors as the engine stores them, still encrypted."
        ),
    ] = False,
    no_values: Annotated[
        bool,
        typer.Option(
            "--no-values", help="Leave outputs, payloads and error messages out of every report."
        ),
    ] = False,
) -> None:
    """Run an app's functions on this machine and draw what happened.

    The app runs on the embedded engine, with no server: the event is sent, every function that it
    starts runs to its end (and so do those that they invoke or whose events they send), and a
    timeline shows requests, steps, attempts and plugin hooks. Sleeps, retries and timeouts are
    jumped over unless --real-time is given. The client is in dev mode unless it says
    is_production=True itself.

    What a plugin encrypts is shown as the app's own code knows it, since this process has the keys;
    the engine, its journal and the wire hold ciphertext, which --sealed shows. --no-values leaves
    values, error messages and tracebacks out.

    Exit code: 0 when all runs completed, 1 when one did not, 2 for bad input.
    """
    events = None if event is None else read_events(event)
    _check_outputs(html, svg, as_json=as_json)
    os.environ.setdefault("INNGEST_DEV", "1")
    loaded = load_app(app)
    options = _Options(events, function, journal, real_time, timeout)
    progress = rich.console.Console(stderr=True)
    # Standard output is for the result: the app's own prints go to standard error.
    with contextlib.redirect_stdout(sys.stderr), _quiet(loaded.client):
        try:
            runs, calls = asyncio.run(_run(loaded, options, progress))
        except SystemExit as error:
            # Its code would say that all runs completed, or that the input was bad.
            raise CliError(
                f"a function ends the process (sys.exit), so that no run is drawn: raise an error "
                f"there, or return{where_in_app(error)}",
                exit_code=1,
            ) from error
    story = story_of(runs if sealed else [each.opened for each in runs], calls)
    values = not no_values
    if html is not None:
        title = f"{loaded.client.app_id}: run report"
        _write(html, render_html(story, title=title, values=values))
    view = TimelineView(story, hooks=hooks, values=values)
    if svg is not None:
        _write(svg, as_picture(view, f"inngest-plugins run {_short_name(app)}"))
    if not runs and events is None and function is None:
        note = printable(f"{journal}: no run in it is left to finish")
        progress.print(note, markup=False, highlight=False, emoji=False)
    if as_json:
        typer.echo(json.dumps(story_to_json(story, values=values), indent=2))
    elif _STANDARD_OUTPUT not in (html, svg):
        rich.console.Console().print(view)
    if any(each.status != "Completed" for each in runs):
        raise typer.Exit(1)


def _short_name(app: str) -> str:
    """The app as one would type it here, without the folders above."""
    path = pathlib.Path(app)
    with contextlib.suppress(ValueError):
        return path.absolute().relative_to(pathlib.Path.cwd()).as_posix()
    return path.name


def _check_outputs(html: str | None, svg: str | None, *, as_json: bool) -> None:
    """Find out before the run, not after it."""
    printed = ["--json"] if as_json else []
    for option, name in (("--html", html), ("--svg", svg)):
        if name == _STANDARD_OUTPUT:
            printed.append(f"{option} -")
        elif name == "":
            raise CliError(f"{option} names no file")
        elif name is not None:
            _check_writable(option, pathlib.Path(name))
    if len(printed) > 1:
        raise CliError(f"{' and '.join(printed)} all print to standard output: choose one")


def _check_writable(option: str, path: pathlib.Path) -> None:
    if path.is_dir():
        raise CliError(f"{option} {path}: that is a folder, name a file")
    if not path.absolute().parent.is_dir():
        raise CliError(f"{option} {path}: there is no folder {path.parent}")


def _write(name: str, text: str) -> None:
    if name == _STANDARD_OUTPUT:
        typer.echo(text, nl=False)
        return
    try:
        pathlib.Path(name).write_text(text, "utf-8")
    except OSError as error:
        raise CliError(f"cannot write {name}: {error.strerror}") from error


@contextlib.contextmanager
def _quiet(client: inngest.Inngest) -> typing.Iterator[None]:
    """Keep the SDK from logging the tracebacks of failures that the timeline shows anyway.

    Only where logging is not configured: Python would write those to standard error.
    """
    logger = client.logger
    if not isinstance(logger, logging.Logger) or logger.hasHandlers():
        yield
        return
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


async def _run(
    app: App, options: _Options, progress: rich.console.Console
) -> tuple[list[Run], list[HookRecord]]:
    clock = RealClock() if options.real_time else VirtualClock(patience=0.0)
    functions = list(app.functions)
    try:
        with record_hooks() as calls:
            engine = LocalEngine(app.client, functions, journal=options.journal, clock=clock)
            async with engine:
                old = [each for each in engine.runs if each.is_ended]
                left = [each for each in engine.runs if not each.is_ended]

                def runs() -> list[Run]:
                    return [each for each in engine.runs if each not in old]

                async with watching(runs, progress):
                    root = await _start(engine, options, unfinished=bool(left))
                chosen = runs() if root is None else family(engine.runs, root)
    except LocalEngineError as error:
        raise CliError(str(error)) from error
    return chosen, calls


async def _start(engine: LocalEngine, options: _Options, *, unfinished: bool) -> Run | None:
    """Send the events and wait for the end of everything; return the run that the user chose."""
    deadline = None if options.timeout is None else time.monotonic() + options.timeout

    def left() -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    root: Run | None = None
    if options.events is None and options.function is None and options.journal is None:
        raise CliError(f"nothing to do: give an event with --event; {_listening(engine)}")
    if options.function is not None:
        root = await engine.run(options.events, options.function, timeout=left())
    elif options.events is not None:
        if not unfinished:
            _check_triggers(engine, options.events)
        before = len(engine.runs)
        await engine.send(options.events)
        batched = any(function.batch is not None for function in engine.functions.values())
        if len(engine.runs) == before and not unfinished and not batched:
            raise CliError(
                f"event {_names(options.events)} starts no run: no trigger's condition accepts it"
            )
    await engine.settle(timeout=left())
    return root


def _check_triggers(engine: LocalEngine, events: list[inngest.Event]) -> None:
    triggers = _triggers(engine)
    for event in events:
        named = (dataclasses.replace(trigger, expression=None) for trigger in triggers)
        if not any(trigger.accepts({"name": event.name}) for trigger in named):
            raise CliError(f"event {event.name!r} triggers nothing: {_listening(engine)}")


def _listening(engine: LocalEngine) -> str:
    known = sorted({repr(trigger.event) for trigger in _triggers(engine) if trigger.event})
    return (
        f"the functions listen to {', '.join(known)}"
        if known
        else "no function listens to an event"
    )


def _triggers(engine: LocalEngine) -> list[Trigger]:
    return [each for function in engine.functions.values() for each in function.triggers]


def _names(events: list[inngest.Event]) -> str:
    return ", ".join(sorted({repr(event.name) for event in events}))
