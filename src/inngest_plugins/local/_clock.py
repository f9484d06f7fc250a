"""Time as the engine sees it."""

from __future__ import annotations

import time
import typing

from inngest_plugins.core import ArgumentError, class_name


class Clock(typing.Protocol):
    """What the engine needs to know about time."""

    @property
    def patience(self) -> float:
        """Real seconds to wait for an outside event before jumping over its deadline."""
        ...

    @property
    def jumps(self) -> bool:
        """Whether `jump_to` may be called at all."""
        ...

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def from_wall(self, instant: float) -> float:
        """The engine's instant for one that the app's system clock stated (a sleep's end)."""
        ...

    def jump_to(self, instant: float) -> None:
        """Make it that late; never goes backwards."""
        ...


class RealClock:
    """The system clock: a sleep of a minute takes a minute."""

    patience = 0.0
    jumps = False

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def from_wall(self, instant: float) -> float:
        """The same instant."""
        return instant

    def jump_to(self, instant: float) -> None:
        """Not for this clock.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("the real clock cannot jump; use VirtualClock()")


class VirtualClock:
    """The system clock plus every wait that was jumped over.

    While code runs, time passes as usual. When nothing can run and somebody waits for a result
    (`LocalEngine.run`, `LocalEngine.settle`), the clock jumps to the next thing that is due: the
    end of a sleep, a retry, a timeout. A week of sleeping takes milliseconds.

    User code still sees the system clock: ``datetime.now()`` does not jump. Dates that user code
    computes from it (``step.sleep_until``) are understood relative to it.

    Args:
        patience: Real seconds for which the clock holds its breath before it jumps past something
            that an event from outside could still influence: the timeout of a
            ``wait_for_event``, the wait of a run that can be cancelled by an event, an open
            batch. It lets ``task = create_task(engine.run(...)); await engine.send(approval)``
            work. 0 jumps at once.

    Raises:
        ArgumentError: ``patience`` is no number, negative or NaN.
    """

    jumps = True

    def __init__(self, patience: float = 0.25) -> None:
        given: object = patience
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise ArgumentError(
                f"VirtualClock(patience=...) must be a number of seconds, not {class_name(given)}"
            )
        if not given >= 0:
            raise ArgumentError(
                f"VirtualClock(patience={given}): must be seconds, and not negative"
            )
        self._patience = patience
        self._offset = 0.0

    @property
    def patience(self) -> float:
        """Real seconds to wait for an outside event before jumping over its deadline."""
        return self._patience

    @property
    def offset(self) -> float:
        """Seconds by which the engine is ahead of the wall clock."""
        return self._offset

    def now(self) -> float:
        """Seconds since the Unix epoch, in the engine's future."""
        return time.time() + self._offset

    def from_wall(self, instant: float) -> float:
        """Shift an instant stated by the app's system clock into the engine's time."""
        return instant + self._offset

    def jump_to(self, instant: float) -> None:
        """Make it that late; an instant in the past changes nothing."""
        self._offset = max(self._offset, self._offset + instant - self.now())
