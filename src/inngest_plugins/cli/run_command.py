"""``inngest-plugins run``: run an app on the embedded engine and draw what happened."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import logging
import os
import pathlib
import re
import sys
import time
import typing
from typing import Annotated

import inngest
import rich.console
import typer

from inngest_plugins.core import HookRecord, record_hooks
from inngest_plugins.local import LocalEngine, LocalEngineError, RealClock, Run, VirtualClock
from inngest_plugins.local._functions import Trigger
from inngest_plugins.local._html import render_html
from inngest_plugins.local._telling import family, tell
from inngest_plugins.local._timeline import TimelineView

from ._app import App, load_app
from ._errors import CliError
from ._events import read_events
from ._progress import watching
from ._run_json import story_to_json

_SVG_COLUMNS: typing.Final = 108


@dataclasses.dataclass(frozen=True)
class _Wish:
    """What the person asked for."""

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
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="Also write the timeline as one self-contained page."),
    ] = None,
    svg: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="Also write the timeline as a picture."),
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

    Exit code: 0 when all runs completed, 1 when one did not, 2 for bad input.
    """
    events = None if event is None else read_events(event)
    _check_writable("--html", html)
    _check_writable("--svg", svg)
    os.environ.setdefault("INNGEST_DEV", "1")
    loaded = load_app(app)
    wish = _Wish(events, function, journal, real_time, timeout)
    progress = rich.console.Console(stderr=True)
    # Standard output is for the result: whatever the app prints goes beside the progress.
    with contextlib.redirect_stdout(sys.stderr), _quiet(loaded.client):
        runs, calls = asyncio.run(_run(loaded, wish, progress))
    story = tell(runs, calls)
    if html is not None:
        page = render_html(story, title=f"{loaded.client.app_id}: run report", values=not no_values)
        html.write_text(page, "utf-8")
    view = TimelineView(story, hooks=hooks, values=not no_values)
    if svg is not None:
        picture = rich.console.Console(record=True, width=_SVG_COLUMNS, file=io.StringIO())
        picture.print(view)
        title = f"inngest-plugins run {_short_name(app)}"
        # Without the web font that rich names: a picture should not fetch anything.
        drawn = re.sub(r"@font-face \{.*?\}", "", picture.export_svg(title=title), flags=re.DOTALL)
        svg.write_text(drawn, "utf-8")
    if not runs and events is None and function is None:
        progress.print(f"{journal}: no run in it is left to finish")
    if as_json:
        typer.echo(json.dumps(story_to_json(story, values=not no_values), indent=2))
    else:
        rich.console.Console().print(view)
    if any(each.status != "Completed" for each in runs):
        raise typer.Exit(1)


def _short_name(app: str) -> str:
    """The app as one would type it here, without the folders above."""
    path = pathlib.Path(app)
    with contextlib.suppress(ValueError):
        return path.absolute().relative_to(pathlib.Path.cwd()).as_posix()
    return path.name


def _check_writable(option: str, path: pathlib.Path | None) -> None:
    """Find out before the run, not after it."""
    if path is None:
        return
    if path.is_dir():
        raise CliError(f"{option} {path}: that is a folder, name a file")
    if not path.absolute().parent.is_dir():
        raise CliError(f"{option} {path}: there is no folder {path.parent}")


@contextlib.contextmanager
def _quiet(client: inngest.Inngest) -> typing.Iterator[None]:
    """Keep the SDK from logging the tracebacks of failures that the timeline tells anyway.

    Only where nobody configured logging: Python would write those to standard error.
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
    app: App, wish: _Wish, progress: rich.console.Console
) -> tuple[list[Run], list[HookRecord]]:
    clock = RealClock() if wish.real_time else VirtualClock(patience=0.0)
    functions = list(app.functions)
    try:
        with record_hooks() as calls:
            engine = LocalEngine(app.client, functions, journal=wish.journal, clock=clock)
            async with engine:
                old = [each for each in engine.runs if each.is_ended]
                left = [each for each in engine.runs if not each.is_ended]

                def runs() -> list[Run]:
                    return [each for each in engine.runs if each not in old]

                async with watching(runs, progress):
                    root = await _start(engine, wish, unfinished=bool(left))
                chosen = runs() if root is None else family(engine.runs, root)
    except LocalEngineError as error:
        raise CliError(str(error)) from error
    return chosen, calls


async def _start(engine: LocalEngine, wish: _Wish, *, unfinished: bool) -> Run | None:
    """Send the events and wait for the end of everything; the one run that was asked for."""
    deadline = None if wish.timeout is None else time.monotonic() + wish.timeout

    def left() -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    root: Run | None = None
    if wish.events is None and wish.function is None and wish.journal is None:
        raise CliError(f"nothing to do: give an event with --event; {_listening(engine)}")
    if wish.function is not None:
        root = await engine.run(wish.events, wish.function, timeout=left())
    elif wish.events is not None:
        if not unfinished:
            _check_triggers(engine, wish.events)
        before = len(engine.runs)
        await engine.send(wish.events)
        batched = any(function.batch is not None for function in engine.functions.values())
        if len(engine.runs) == before and not unfinished and not batched:
            raise CliError(
                f"event {_names(wish.events)} starts no run: no trigger's condition accepts it"
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
