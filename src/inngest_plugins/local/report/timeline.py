"""A run's story as lines of text: what `Run.timeline` returns."""

from __future__ import annotations

import dataclasses
import typing

from inngest_plugins.core import printable

from .story_model import GapRow
from .words import duration_text

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from .story_model import Mark, RequestRow, RunStory


@dataclasses.dataclass(frozen=True)
class TimelineEntry:
    """One line of a run's story.

    Attributes:
        at: When, in seconds since the epoch.
        offset: Seconds since the run was created.
        kind: ``event``, ``request``, ``step``, ``function`` (it returned, or an attempt of it
            failed), ``sent`` (an event that the run sent), ``end``.
        label: What happened, in a few words.
        duration: Seconds, for things that last.
        detail: More words, possibly empty. Never contains payload values.
        depth: Indentation: steps sit below the request that reported them.
        failed: Whether the line reports a failure.
    """

    at: float
    offset: float
    kind: typing.Literal["event", "request", "step", "function", "sent", "end"]
    label: str
    duration: float | None = None
    detail: str = ""
    depth: int = 0
    failed: bool = False

    def __str__(self) -> str:
        mark = "x" if self.failed else "-"
        lasted = "" if self.duration is None else f" ({duration_text(self.duration)})"
        detail = f"  {self.detail}" if self.detail else ""
        at, indent = f"{duration_text(self.offset):>9}", "  " * self.depth
        return printable(f"{at} {indent}{mark} {self.label}{lasted}{detail}", lines=True)


class Timeline(tuple[TimelineEntry, ...]):
    """The lines of a run's story in order; ``str()`` renders them for a terminal."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(str(entry) for entry in self)


def timeline_of(story: RunStory) -> Timeline:
    """Put the story of one run into lines, in the order of time."""
    return Timeline(sorted(_entries(story), key=lambda entry: entry.at))


def _entries(story: RunStory) -> Iterator[TimelineEntry]:
    run = story.run
    zero = run.queued_at
    starts = f"starts {run.function_id}"
    yield TimelineEntry(zero, 0.0, "event", f"event {story.trigger}", detail=starts)
    for row in story.rows:
        if not isinstance(row, GapRow):
            yield from _request(row, story)
    for event in run.events_sent:
        at = run.sent_at(event)
        yield TimelineEntry(at, at - zero, "sent", f"sends {event['name']}", depth=1)
    if run.ended_at is not None:
        label = f"{run.status}" + (f": {run.reason}" if run.reason else "")
        failed = run.status != "Completed"
        yield TimelineEntry(run.ended_at, run.ended_at - zero, "end", label, failed=failed)


def _request(row: RequestRow, story: RunStory) -> Iterator[TimelineEntry]:
    record, zero = row.record, story.run.queued_at
    attempt = f", attempt {record.attempt + 1}" if record.attempt else ""
    yield TimelineEntry(
        record.started_at,
        record.started_at - zero,
        "request",
        f"request {record.number + 1}{attempt}: HTTP {record.status or '...'}",
        record.duration,
        record.failure or (f"targets {row.target}" if row.target else ""),
        failed=record.status >= 400 or record.failure is not None,
    )
    at = record.started_at if record.ended_at is None else record.ended_at
    for mark in row.marks:
        if mark.kind not in ("planned", "resumed"):
            yield _mark(mark, story, at)


def _mark(mark: Mark, story: RunStory, at: float) -> TimelineEntry:
    failed = mark.kind in ("failed", "retry")
    offset = at - story.run.queued_at
    step = None if mark.step is None else story.steps.get(mark.step)
    if mark.step is None:
        return TimelineEntry(at, offset, "function", mark.text, depth=1, failed=failed)
    label = f"step {mark.step}"
    if failed:
        return TimelineEntry(
            at, offset, "step", f"{label} failed: {mark.text}", depth=1, failed=True
        )
    if mark.kind != "waiting" or step is None:
        return TimelineEntry(at, offset, "step", label, detail=mark.text, depth=1)
    lasted = None if step.ended_at is None else step.ended_at - step.started_at
    detail = f"{step.op} {step.status}"
    failed = step.status == "Failed"
    return TimelineEntry(at, offset, "step", label, lasted, detail, depth=1, failed=failed)
