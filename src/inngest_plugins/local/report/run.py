"""A run of a function, as the engine gives it to its caller."""

from __future__ import annotations

import typing

from .run_view import OpenedRun, RunView
from .story import story_of
from .timeline import Timeline, timeline_of

if typing.TYPE_CHECKING:
    from inngest_plugins.local.journal.records import Json
    from inngest_plugins.local.journal.state import RunState

    from .opener import Opener


class Run(RunView):
    """A run of a function: a live, read-only view.

    `output`, `error`, `events`, `steps` and `requests` are what the engine stores: ciphertext,
    where a plugin encrypts. `result`, `opened` and `timeline` show what the app's own code knows.

    Args:
        state: The engine's own record of it.
        opener: Opens what the app's plugins sealed.
    """

    __slots__ = ("_opener",)

    def __init__(self, state: RunState, opener: Opener) -> None:
        super().__init__(state)
        self._opener = opener

    @property
    def result(self) -> Json:
        """What the function returned, as JSON and opened; None unless the run is Completed."""
        return self.opened.output

    @property
    def opened(self) -> OpenedRun:
        """The run as its own code knows it: outputs, errors with tracebacks, events and steps.

        This process runs the app and so holds its keys. What it cannot open (a journal whose runs
        were encrypted under other keys) is shown as it is stored.
        """
        return OpenedRun(self._state, self._opener.place(self.function_id, self.id))

    def timeline(self) -> Timeline:
        """The run's story for people: events in, requests, steps, events out, the end."""
        (story,) = story_of([self.opened]).runs
        return timeline_of(story)
