"""The course of a request as a state machine: its stages, and the hook that each of them fires."""

from __future__ import annotations

import enum
from typing import Final

from inngest_plugins.core.data.call import Call
from inngest_plugins.core.sdk import door

from .dispatch import ALL, Dispatcher, OnError, Rest, Sequence


class Stage(enum.IntEnum):
    """How far a request has come. It only ever moves down this list.

    | stage | hook on entering it | entered when |
    |---|---|---|
    | NEW | | the SDK has built its middleware |
    | REPLAYING | `before_memoization` | `transform_input` has run in all plugins |
    | REPLAYED | `after_memoization` | no memo is left, a step without one is reached, or the end |
    | EXECUTING | `before_execution` | right after REPLAYED, if the function was called |
    | EXECUTED | `after_execution` | the function returned, raised or was interrupted by a step |
    | ANSWERED | `before_response` | the answer is ready, or there will be none |
    | ENDED | | what plugins opened is closed |

    A request that is refused before the function is called goes from REPLAYED to EXECUTED without
    the hooks of execution: no code of the function has run. So does one that is cancelled while it
    replays.
    """

    NEW = 0
    REPLAYING = 1
    REPLAYED = 2
    EXECUTING = 3
    EXECUTED = 4
    ANSWERED = 5
    ENDED = 6


FIRES: Final = {
    Stage.REPLAYING: "before_memoization",
    Stage.REPLAYED: "after_memoization",
    Stage.EXECUTING: "before_execution",
    Stage.EXECUTED: "after_execution",
    Stage.ANSWERED: "before_response",
}
"""The hook that a request fires when it enters a stage."""

_STAGES: Final = tuple(Stage)

_CLOSES: Final = {
    "before_memoization": "after_memoization",
    "before_execution": "after_execution",
}
"""Each opening hook with the one that closes what it opened."""


class Course:
    """Moves a request through its stages, each hook at most once.

    Args:
        call: the call.
        dispatcher: calls the hooks.
        on_error: judges what a hook raised.

    Attributes:
        stage: how far the request has come.
        reach: only plugins whose position in the stack is below this have let the request in, and
            take part.
    """

    __slots__ = ("_call", "_dispatcher", "_limits", "_on_error", "reach", "stage")

    def __init__(self, call: Call, dispatcher: Dispatcher, on_error: OnError) -> None:
        self.stage = Stage.NEW
        self.reach = 0
        self._call = call
        self._dispatcher = dispatcher
        self._on_error = on_error
        self._limits: dict[str, int] = {}

    # ------------------------------------------------------------ moving on

    def begin_replay(self) -> Rest:
        """All plugins have let the request in."""
        return self._move(Stage.REPLAYING)

    def begin_execution(self) -> Rest:
        """New code is about to run."""
        return self._move(Stage.EXECUTING) if self.stage is not Stage.NEW else ()

    def end_execution(self) -> Rest:
        """The function's part is over, whether it was called or not."""
        if self.stage is Stage.NEW or self.stage >= Stage.EXECUTED:
            return ()
        if self.stage is Stage.REPLAYING and not door.was_called(self._call.ctx):
            return self._refuse()
        # A function may end before it has asked for all its memos.
        return self._move(Stage.EXECUTED)

    def _refuse(self) -> Sequence:
        yield from self._move(Stage.REPLAYED)
        self.stage = Stage.EXECUTED

    def break_off(self) -> Sequence:
        """The request ends where it is: close what has been opened, and open nothing more."""
        yield from self._resume_closing()
        if self.stage is Stage.REPLAYING:
            yield from self._move(Stage.REPLAYED)
        if self.stage is Stage.EXECUTING:
            yield from self._move(Stage.EXECUTED)

    def answer(self) -> Rest:
        """The answer is ready, or there will be none."""
        if self.stage < Stage.EXECUTED:
            self.stage = Stage.EXECUTED
        return self._move(Stage.ANSWERED)

    def _move(self, to: Stage) -> Rest:
        """Go through the stages up to `to`, and fire the hook of each."""
        if to <= self.stage:
            return ()
        if not self._call.stack.acts:
            # No plugin has a hook to fire on the way.
            if self.stage < Stage.EXECUTING <= to:
                self._call._executing = True  # noqa: SLF001 - as below
            self.stage = to
            return ()
        for stage in _STAGES[self.stage + 1 : to + 1]:
            # The stage is set first: a hook that is interrupted is not fired again.
            self.stage = stage
            if stage is Stage.EXECUTING:
                self._call._executing = True  # noqa: SLF001 - the course owns its call's phase
            name = FIRES[stage]
            if hooks := self._call.stack.hooks[name]:
                below = min(self.reach, self._limits.get(name, ALL))
                rest = self._dispatcher.fire(hooks, (self._call,), self._on_error, below=below)
                if rest:
                    return self._go_on(rest, to)
        return ()

    def _go_on(self, rest: Rest, to: Stage) -> Sequence:
        yield from rest
        yield from self._move(to)

    def _resume_closing(self) -> Rest:
        """Fire what is left of a closing hook that was interrupted.

        Where an opening hook was interrupted, what lies further in was not reached, and will not
        be closed.
        """
        interrupted = self._dispatcher.interrupted
        if interrupted is None:
            return ()
        name = interrupted.hook
        if name == "transform_input":
            self.reach = interrupted.index + 1
        elif name in _CLOSES:
            self._limits[_CLOSES[name]] = interrupted.index + 1
        elif name in FIRES.values():
            hooks = self._call.stack.hooks[name]
            position = next(n for n, bound in enumerate(hooks) if bound is interrupted)
            return self._dispatcher.fire(
                hooks[position + 1 :], (self._call,), self._on_error, below=self.reach
            )
        return ()
