"""Shows a run while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import typing

import rich.console
import rich.live
import rich.spinner
import rich.table
import rich.text

from inngest_plugins.core import printable
from inngest_plugins.local.report.story import answer_marks, checkpoint_marks
from inngest_plugins.local.report.story_model import Mark
from inngest_plugins.local.report.terminal import STATUS_STYLES
from inngest_plugins.local.report.words import plural

if typing.TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from inngest_plugins.local import Run

_INTERVAL: typing.Final = 0.1
_ROWS: typing.Final = 12


@dataclasses.dataclass
class _Watched:
    """How much of a run has been reported."""

    status: str = ""
    requests: int = 0
    seen: set[str] = dataclasses.field(default_factory=set[str])
    last: str = ""


class Reporter(typing.Protocol):
    """Reports what has happened since the last update."""

    def update(self, runs: Sequence[Run]) -> None:
        """Look at the runs and say what is new."""
        ...


class Lines:
    """One line for each start, step and end: for logs and pipes.

    Args:
        write: Writes one line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._watched: dict[str, _Watched] = {}

    def update(self, runs: Sequence[Run]) -> None:
        """Write the lines for what is new."""
        for run in runs:
            known = self._watched.get(run.id)
            if known is None:
                known = self._watched[run.id] = _Watched()
                self._write(f"{run.function_id}: started, run {run.id}")
            for mark in _news(run, known):
                self._write(f"{run.function_id}: {mark_text(mark)}")
            if run.is_ended and known.status != run.status:
                known.status = run.status
                self._write(f"{run.function_id}: {run.status}")


class LiveTable:
    """A table of the runs that each update draws anew.

    Args:
        live: Where it is drawn.
    """

    def __init__(self, live: rich.live.Live) -> None:
        self._live = live
        self._watched: dict[str, _Watched] = {}
        self._spinner = rich.spinner.Spinner("dots", style="cyan")

    def update(self, runs: Sequence[Run]) -> None:
        """Draw the table anew."""
        table = rich.table.Table.grid(padding=(0, 2))
        for run in runs:
            known = self._watched.setdefault(run.id, _Watched())
            for mark in _news(run, known):
                known.last = mark_text(mark)
        if len(runs) > _ROWS:
            table.add_row("", rich.text.Text(plural(len(runs) - _ROWS, "older run"), "dim"))
        for run in runs[-_ROWS:]:
            known = self._watched[run.id]
            sign = rich.text.Text("●", STATUS_STYLES[run.status]) if run.is_ended else self._spinner
            requests = rich.text.Text(plural(known.requests, "request"), "dim")
            status = rich.text.Text(run.status, STATUS_STYLES[run.status])
            name, last = (rich.text.Text(printable(text)) for text in (run.function_id, known.last))
            table.add_row(sign, name, status, requests, last)
        self._live.update(table)


def _news(run: Run, known: _Watched) -> list[Mark]:
    marks: list[Mark] = []
    for request in run.requests[known.requests :]:
        if request.ended_at is None:
            break
        marks += checkpoint_marks(request, run.steps.values())
        marks += answer_marks(request, known.seen)
        known.requests += 1
    return marks


def mark_text(mark: Mark) -> str:
    """One mark in words, without the message of an error."""
    if mark.step is None:
        return mark.text
    verb = {"done": "done", "failed": "failed", "retry": "failed, will be tried again"}
    return f"step {mark.step} {' '.join(filter(None, (verb.get(mark.kind), _detail(mark))))}"


def _detail(mark: Mark) -> str:
    return f"({mark.text})" if mark.text and mark.kind in ("done", "failed", "retry") else mark.text


@contextlib.asynccontextmanager
async def watching(
    runs: Callable[[], Sequence[Run]], console: rich.console.Console
) -> AsyncIterator[None]:
    """Report on runs for as long as the block is open, and once more at its end.

    Args:
        runs: The runs to report on.
        console: Where to; a live table when it is a terminal, plain lines otherwise.
    """
    with contextlib.ExitStack() as exits:
        reporter: Reporter
        if console.is_terminal:
            live = rich.live.Live(console=console, transient=True, refresh_per_second=10)
            reporter = LiveTable(exits.enter_context(live))
        else:
            reporter = Lines(
                lambda line: console.print(
                    printable(line), markup=False, highlight=False, emoji=False, soft_wrap=True
                )
            )

        async def poll() -> None:
            while True:
                reporter.update(runs())
                await asyncio.sleep(_INTERVAL)

        # Not a task group: an error of the block should come out as itself, not in a group.
        polling = asyncio.get_running_loop().create_task(poll())
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            reporter.update(runs())
