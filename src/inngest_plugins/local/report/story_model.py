"""What happened in some runs, in order: what the timeline, the terminal and the page show.

`story` makes it; `terminal` and `page` draw it.
"""

from __future__ import annotations

import bisect
import dataclasses
import typing

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inngest_plugins.local.journal.records import RequestRecord, StepRecord

    from .run_view import RunView

GAP_SECONDS: typing.Final = 0.5
"""A longer idle time between two requests has a line of its own and is cut out of the axis."""

MarkKind = typing.Literal["done", "failed", "retry", "planned", "waiting", "resumed"]
"""What a request says about a step: its code ran (``done``), failed for good (``failed``) or will
be tried again (``retry``), is announced (``planned``), is left with the engine (``waiting``), or
came back from there (``resumed``)."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """What one request says about one step, or about the function itself.

    Attributes:
        step: The step's key; None when it is about the function.
        kind: See `MarkKind`.
        text: A few words; holds no payload value, and nothing of an error's message.
        message: The message of the error, when there is one.
    """

    step: str | None
    kind: MarkKind
    text: str
    message: str = ""


@dataclasses.dataclass(frozen=True)
class HookCalls:
    """All calls of one hook of one plugin in one request.

    A hook of a step is called for each step, so a list of single calls would grow with the square
    of the steps.

    Attributes:
        plugin: Name of the plugin.
        hook: Name of the hook.
        count: How often it was called.
        offset: Seconds from the first hook call of the request to its own first.
        duration: Seconds, of all calls together.
        errors: How many of them raised.
        error: Class name of what the first of those raised, or None.
    """

    plugin: str
    hook: str
    count: int
    offset: float
    duration: float
    errors: int
    error: str | None


@dataclasses.dataclass(frozen=True)
class RequestRow:
    """One request of a run.

    Attributes:
        record: The request itself.
        offset: Seconds since the start of the story.
        target: Key of the step it was sent for, or None.
        marks: What it brought, in order.
        hooks: The plugin hooks that ran in it, in the order of their first calls.
        failed: Whether it brought a failure.
    """

    record: RequestRecord
    offset: float
    target: str | None
    marks: tuple[Mark, ...]
    hooks: tuple[HookCalls, ...]
    failed: bool


@dataclasses.dataclass(frozen=True)
class GapRow:
    """A time in which the run waited and nothing ran.

    Attributes:
        offset: Seconds since the start of the story.
        duration: Seconds.
        text: What it waited for.
    """

    offset: float
    duration: float
    text: str


@dataclasses.dataclass(frozen=True)
class HookTotal:
    """All calls of one plugin's hooks in one run: how often each hook ran, and for how long."""

    plugin: str
    counts: tuple[tuple[str, int], ...]
    duration: float
    errors: int


@dataclasses.dataclass(frozen=True)
class RunStory:
    """What happened in one run.

    Attributes:
        run: The run.
        offset: Seconds from the start of the story (its first run) to this run.
        trigger: Names of the events that started it.
        cause: Which run and step started it, in words; empty for runs started from outside.
        depth: How many runs stand between it and one started from outside.
        steps: The run's steps by key.
        rows: Requests and gaps in order.
        duration: Seconds from its creation to its end; None while it runs.
        retries: Requests that were a second or later attempt.
        hooks: Hook calls by plugin, in the order in which the plugins were first heard of.
    """

    run: RunView
    offset: float
    trigger: str
    cause: str
    depth: int
    steps: Mapping[str, StepRecord]
    rows: tuple[RequestRow | GapRow, ...]
    duration: float | None
    retries: int
    hooks: tuple[HookTotal, ...]

    @property
    def requests(self) -> tuple[RequestRow, ...]:
        """The requests alone."""
        return tuple(row for row in self.rows if isinstance(row, RequestRow))


class Axis:
    """Maps engine time to 0..1 with long idle times cut down to a notch.

    Args:
        spans: ``(start, end)`` of everything that has a length, in seconds.
    """

    _NOTCH: typing.Final = 0.02

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        merged: list[list[float]] = []
        for start, end in sorted(spans):
            if merged and start - merged[-1][1] <= GAP_SECONDS:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        busy = sum(end - start for start, end in merged) or 1e-9
        notch = min(self._NOTCH, 0.3 / max(1, len(merged) - 1))
        scale = (1 - notch * max(0, len(merged) - 1)) / busy
        self._times: list[float] = []
        self._places: list[float] = []
        place = 0.0
        for start, end in merged:
            self._times += [start, end]
            self._places += [place, place + (end - start) * scale]
            place = self._places[-1] + notch

    def place(self, time: float) -> float:
        """Where an instant lies, from 0 to 1."""
        if not self._times:
            return 0.0
        index = bisect.bisect_right(self._times, time)
        if index == 0:
            return 0.0
        if index == len(self._times):
            return min(1.0, self._places[-1])
        before, after = self._times[index - 1], self._times[index]
        share = (time - before) / (after - before) if after > before else 0.0
        low, high = self._places[index - 1], self._places[index]
        return low + (high - low) * share


@dataclasses.dataclass(frozen=True)
class Story:
    """Several runs on one time axis.

    Attributes:
        runs: Each run after the one that caused it.
        axis: Maps ``offset`` values to 0..1.
    """

    runs: tuple[RunStory, ...]
    axis: Axis
