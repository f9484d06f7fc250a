"""Draws the story of some runs in a terminal (rich).

The left column is time since the first run, the bars share one axis on which idle times are cut
down to a notch, and the right column says what each request brought.
"""

from __future__ import annotations

import dataclasses
import typing

import rich.text
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult

from inngest_plugins.core import printable
from inngest_plugins.local._envelopes import is_sealed_text

from .story_model import Axis, GapRow, Mark, MarkKind, RequestRow, RunStory, Story
from .words import (
    app_traceback,
    deferred_text,
    duration_text,
    message_text,
    plural,
    reason_text,
    value_text,
)

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Text = rich.text.Text

_STYLES: typing.Final[dict[MarkKind, str]] = {
    "done": "green",
    "failed": "bold red",
    "retry": "yellow",
    "planned": "blue",
    "waiting": "cyan",
    "resumed": "cyan",
}
_MARK_LINES: typing.Final = 3
"""Lines that one mark may take; the end of a failed run shows its error in full."""

STATUS_STYLES: typing.Final = {
    "Completed": "green",
    "Failed": "red",
    "TimedOut": "red",
    "Cancelled": "yellow",
    "Running": "cyan",
    "Queued": "dim",
}
"""The colour of each run status, for whoever writes one."""


@dataclasses.dataclass(frozen=True)
class _Glyphs:
    """The marks of one alphabet."""

    marks: dict[MarkKind, str]
    rail: str
    first: str
    last: str
    gap: str
    bar: str
    sliver: str
    joint: str
    ellipsis: str


_UNICODE: typing.Final = _Glyphs(
    marks={
        "done": "✔",
        "failed": "✘",
        "retry": "↻",
        "planned": "·",
        "waiting": "◔",
        "resumed": "▸",
    },
    rail="├",
    first="┌",
    last="└",
    gap="┊",
    bar="━",
    sliver="╸",
    joint=" · ",
    ellipsis="…",
)
_ASCII: typing.Final = _Glyphs(
    marks={
        "done": "+",
        "failed": "x",
        "retry": "~",
        "planned": ".",
        "waiting": "o",
        "resumed": ">",
    },
    rail="|",
    first="/",
    last="\\",
    gap=":",
    bar="=",
    sliver="-",
    joint=", ",
    ellipsis="...",
)


class TimelineView:
    """A rich renderable of a `Story`.

    Args:
        story: What to draw.
        hooks: Whether to list the hooks of every request, besides the sum at the end of each run.
        values: Whether to show outputs and error messages, which may hold data of the payload.
    """

    def __init__(self, story: Story, *, hooks: bool = False, values: bool = True) -> None:
        self._story = story
        self._hooks = hooks
        self._values = values

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = _UNICODE if console.encoding.lower().startswith("utf") else _ASCII
        if options.ascii_only:
            glyphs = _ASCII
        width = options.max_width
        for number, story in enumerate(self._story.runs):
            if number:
                yield Text()
            lines = _RunLines(
                console, story, self._story.axis, glyphs, width, self._hooks, self._values
            )
            yield from lines.render()


class _RunLines:
    """The lines of one run."""

    def __init__(
        self,
        console: Console,
        story: RunStory,
        axis: Axis,
        glyphs: _Glyphs,
        width: int,
        hooks: bool,  # noqa: FBT001 - private, one caller
        values: bool,  # noqa: FBT001
    ) -> None:
        self._console = console
        self._story = story
        self._axis = axis
        self._glyphs = glyphs
        self._width = width
        self._bar_width = 18 if width >= 96 else 10 if width >= 72 else 0
        self._hooks = hooks
        self._values = values
        self._indent = "  " * min(story.depth, 4)

    def render(self) -> Iterable[Text]:
        yield self._title()
        yield self._counts()
        cause = f"  ({self._story.cause})" if self._story.cause else ""
        yield self._line(
            self._story.offset,
            self._glyphs.first,
            Text.assemble(
                (printable(f"event {self._story.trigger}"), "bold"), (printable(cause), "dim")
            ),
        )
        for row in self._story.rows:
            if isinstance(row, GapRow):
                yield self._gap(row)
            else:
                yield from self._request(row)
        yield from self._end()

    def _title(self) -> Text:
        run = self._story.run
        title = Text(self._indent)
        title.append(printable(run.function_id), "bold")
        title.append("  ")
        title.append(run.status, f"bold {STATUS_STYLES.get(run.status, '')}")
        if self._story.duration is not None:
            title.append(f" in {duration_text(self._story.duration)}")
        title.append(f"  {run.id}", "dim")
        return self._fit(title)

    def _counts(self) -> Text:
        parts = [
            plural(len(self._story.requests), "request"),
            plural(len(self._story.steps), "step"),
        ]
        if self._story.retries:
            parts.append(plural(self._story.retries, "retry"))
        calls = sum(count for total in self._story.hooks for _, count in total.counts)
        if calls:
            parts.append(plural(calls, "hook call"))
        return self._fit(Text(self._indent + self._glyphs.joint.join(parts), "dim"))

    def _line(
        self, offset: float | None, rail: str, content: Text, bar: Text | None = None
    ) -> Text:
        at = duration_text(offset) if offset is not None else ""
        line = Text().append(f"{self._indent}{at:>8}  ", "dim")
        line.append(f"{rail} ", "dim")
        if bar is not None and self._bar_width:
            line.append_text(bar)
            line.append(" ")
        line.append_text(content)
        return self._fit(line)

    def _gap(self, row: GapRow) -> Text:
        text = f"{duration_text(row.duration)} later: {row.text}"
        return self._line(None, self._glyphs.gap, Text(printable(text), "italic dim"))

    def _request(self, row: RequestRow) -> Iterable[Text]:
        record = row.record
        took = "..." if record.duration is None else duration_text(record.duration)
        content = Text(f"#{record.number + 1:<3}{took:>7}  ")
        marks = row.marks or (Mark(None, "waiting", "in flight"),)
        lines = self._fill([self._mark(mark) for mark in marks])
        content.append_text(lines[0])
        yield self._line(row.offset, self._glyphs.rail, content, self._bar(row))
        blank = Text(" " * self._bar_width)
        for more in lines[1:]:
            padded = Text(" " * 13).append_text(more)
            yield self._line(None, self._glyphs.gap, padded, blank)
        if self._hooks and row.hooks:
            yield from self._request_hooks(row, blank)

    def _fill(self, pieces: Sequence[Text]) -> list[Text]:
        """Put pieces side by side into lines that fit; a piece that does not fit is broken."""
        room = max(12, self._room())
        lines: list[Text] = []
        for piece in pieces:
            is_one_line = "\n" not in piece.plain
            if (
                lines
                and is_one_line
                and cell_len(lines[-1].plain) + cell_len(piece.plain) + 2 <= room
            ):
                lines[-1].append("  ").append_text(piece)
            else:
                broken = list(piece.wrap(self._console, room))
                lines += broken[:_MARK_LINES]
                if len(broken) > _MARK_LINES:
                    self._cut(lines[-1], room - cell_len(self._glyphs.ellipsis))
        return lines

    def _room(self) -> int:
        return self._width - len(self._indent) - 25 - (self._bar_width and self._bar_width + 1)

    def _request_hooks(self, row: RequestRow, blank: Text) -> Iterable[Text]:
        by_plugin: dict[str, list[str]] = {}
        for hook in row.hooks:
            failure = f" {self._glyphs.marks['failed']} {hook.error}" if hook.error else ""
            times = f" x{hook.count}" if hook.count > 1 else ""
            by_plugin.setdefault(hook.plugin, []).append(f"{hook.hook}{times}{failure}")
        for plugin, names in by_plugin.items():
            for part in self._wrap(f"{plugin}: ", names, self._room() + 13):
                yield self._line(None, self._glyphs.gap, Text(printable(part), "dim"), blank)

    def _bar(self, row: RequestRow) -> Text:
        width = self._bar_width
        begin = self._axis.place(row.offset)
        end = self._axis.place(row.offset + (row.record.duration or 0.0))
        left = min(width - 1, int(begin * width))
        length = max(0, round(end * width) - left)
        style = "red" if row.failed else "blue"
        if row.failed and all(mark.kind != "failed" for mark in row.marks):
            style = "yellow"
        bar = self._glyphs.bar * length or self._glyphs.sliver
        text = Text(" " * left)
        text.append(bar, style)
        text.append(" " * (width - left - len(bar)))
        text.truncate(width)
        return text

    def _mark(self, mark: Mark) -> Text:
        style = _STYLES[mark.kind]
        text = Text().append(self._glyphs.marks[mark.kind] + " ", style)
        if mark.step is not None:
            loud = mark.kind in ("failed", "retry")
            text.append(printable(mark.step), style if loud else "")
            if mark.text:
                text.append(
                    printable(f" {mark.text}"), "dim" if mark.kind in ("done", "resumed") else style
                )
        else:
            text.append(printable(mark.text), style)
        if mark.message and self._values:
            text.append(f": {message_text(mark.message)}", style)
        return text

    def _end(self) -> Iterable[Text]:
        run = self._story.run
        if run.ended_at is not None:
            end = Text().append(run.status, f"bold {STATUS_STYLES.get(run.status, '')}")
            if run.reason and self._values:
                end.append(f": {reason_text(run.reason)}")
            offset = self._story.offset + (self._story.duration or 0.0)
            if self._values and run.status == "Completed":
                end.append(f"  {value_text(run.output)}", "dim")
                yield self._line(offset, self._glyphs.last, end)
            else:
                first, *more = end.wrap(
                    self._console, max(12, self._width - len(self._indent) - 12)
                )
                yield self._line(offset, self._glyphs.last, first)
                for line in more:
                    yield self._line(None, " ", line)
        yield from self._traceback()
        for event in run.events_sent:
            yield self._line(None, " ", Text(printable(f"sent {event['name']}"), "magenta"))
        for deferred in run.deferred.values():
            what = f"deferred {deferred.id}: {deferred.function_id}, {deferred_text(deferred)}"
            yield self._line(None, " ", Text(printable(what), "magenta"))
        for target, kinds in run.metadata.items() if self._values else ():
            for kind, values in kinds.items():
                text = Text().append(printable(f"metadata of {target}, {kind}: "), "blue")
                yield self._line(None, " ", text.append(value_text(values), "dim"))
        yield from self._hook_totals()

    def _traceback(self) -> Iterable[Text]:
        """Where in the app's own code the run failed."""
        stack = str((self._story.run.error or {}).get("stack") or "")
        if self._values and stack and not is_sealed_text(stack):
            for line in app_traceback(stack).split("\n"):
                yield self._line(None, " ", Text(printable(line, lines=True), "dim"))

    def _hook_totals(self) -> Iterable[Text]:
        names: list[str] = []
        for total in self._story.hooks:
            calls = plural(sum(count for _, count in total.counts), "call")
            error = f" {self._glyphs.marks['failed']} {plural(total.errors, 'error')}"
            failures = error if total.errors else ""
            names.append(f"{total.plugin} {calls} {duration_text(total.duration)}{failures}")
        if names:
            style = "red" if any(total.errors for total in self._story.hooks) else "dim"
            for part in self._wrap("hooks: ", names, self._width - len(self._indent) - 12):
                yield self._line(None, " ", Text(printable(part), style))

    def _wrap(self, head: str, names: Sequence[str], room: int) -> Iterable[str]:
        """``head`` and the names after it, broken into lines that fit."""
        line = head + names[0]
        for name in names[1:]:
            if cell_len(line) + cell_len(name) + 2 > room:
                yield line + ","
                line = "  " + name
            else:
                line += f", {name}"
        yield line

    def _fit(self, line: Text) -> Text:
        if cell_len(line.plain) > self._width:
            self._cut(line, self._width - cell_len(self._glyphs.ellipsis))
        line.no_wrap = True
        return line

    def _cut(self, line: Text, width: int) -> None:
        """Shorten a line to a width, if it is longer, and show that something is missing."""
        line.rstrip()
        line.truncate(width)
        line.append(self._glyphs.ellipsis)
