"""Which code of a request is new, and which ran in an earlier request already.

A durable function runs from the top in every request. What is new in a request begins where the
function gets the result of the step that led to this request. In straight-line code that is
everything after the last memo. In a `group.parallel` each branch has a frontier of its own, so
every point of the code carries a *round*: how many times the engine had to come back before the
code could get there.

* Straight-line code: each consumed memo is one round.
* A branch starts with the round of the point where its group starts; a group ends with the highest
  round among its branches. In WAIT mode the engine comes back once all reported ops are done, so
  the branches advance in lockstep, and a point is new if its round is the highest one of the
  request.
* In RACE mode the engine comes back after every op. The whole group counts as one round, and within
  it a point is new if the latest of the steps before it (in the engine's order of completion) is
  the one that led to this request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, NamedTuple

from inngest_plugins.otel.replay.endings import is_control_flow


class Point(NamedTuple):
    """Where in the function something happened, as far as newness goes.

    Attributes:
        round: how often the engine had to come back before the code could get here.
        order: in and right behind a RACE group, the engine's position of the latest step before
            this point; None elsewhere.
    """

    round: int
    order: int | None = None


class Completion(NamedTuple):
    """What the engine tells about the order in which steps were completed.

    Attributes:
        position: place of each hashed step id in that order.
        leader: place of the step that led to this request, or None when unknown.
    """

    position: Mapping[str, int]
    leader: int | None


_START: Final = Point(0)


class Stretch:
    """Straight-line code: the function's body, or one branch of a group.

    Attributes:
        interrupted: whether a step has interrupted it in this request. What ends after that ends
            only because Python discards its frames.
    """

    __slots__ = ("interrupted", "mark", "order", "race_round", "round")

    def __init__(self, start: Point, mark: int, race_round: int | None) -> None:
        self.interrupted = False
        self.round = start.round
        self.order = start.order
        self.mark = mark
        self.race_round = race_round


class ReplayBoundary:
    """Follows the function's way through its memos during one request.

    Args:
        consumed: hashed ids of the memos that the function has got so far; grows while it runs.
        completion: reads the engine's order of completion; called at most once, and only when the
            function has a RACE group. Returns None when it is not known, in which case all
            branches of the group count as new.
    """

    def __init__(
        self, consumed: Sequence[str], completion: Callable[[], Completion | None]
    ) -> None:
        self._consumed = consumed
        self._read_completion = completion
        self._completion: Completion | None = None
        self._raced = False
        self._frame = frame = Stretch(_START, 0, None)
        self._here: tuple[Stretch | None, int, Point] = (frame, 0, _START)
        self.front = 0
        """The highest round reached so far. Code of a lower round is not new."""

    def release(self) -> None:
        """Drop the reference to the request; no group is entered any more."""
        self._read_completion = _unknown

    @property
    def stretch(self) -> Stretch:
        """The code that the function is in now."""
        return self._frame

    def interrupt(self) -> None:
        """Note that a step interrupts the code that the function is in now."""
        self._frame.interrupted = True

    def point(self) -> Point:
        """Return where the function is now."""
        frame, consumed = self._frame, len(self._consumed)
        if frame is self._here[0] and consumed == self._here[1]:
            return self._here[2]
        point = self._find_point(frame, consumed - frame.mark)
        if point.round > self.front:
            self.front = point.round
        self._here = frame, consumed, point
        return point

    def _find_point(self, frame: Stretch, advanced: int) -> Point:
        if frame.race_round is not None:
            return self._race_point(frame, advanced)
        if advanced:
            return Point(frame.round + advanced)
        return Point(frame.round, frame.order)

    def is_new(self, point: Point, *, ended: bool) -> bool:
        """Return whether code at this point runs for the first time in this request.

        Only final once the function has run as far as it gets.

        Args:
            point: a result of `point`.
            ended: whether the function itself ended in this request, so that no later one will
                come for the branches that are ahead of the engine.
        """
        if point.round < self.front:
            return False
        if point.order is None or self._completion is None or self._completion.leader is None:
            return True
        leader = self._completion.leader
        return point.order >= leader if ended else point.order == leader

    @contextmanager
    def group(self, *, race: bool) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """Follow a `group.parallel` while the context is open.

        Args:
            race: whether the group is in RACE mode.

        Yields:
            A function that returns a context manager to hold open around each branch.
        """
        outer = self._frame
        start = self.point()
        race_round = outer.race_round
        if race and race_round is None:
            race_round = start.round + 1
            if not self._raced:
                self._raced = True
                self._completion = self._read_completion()
        ends: list[Point] = []

        @contextmanager
        def branch() -> Iterator[None]:
            self._frame = Stretch(start, len(self._consumed), race_round)
            try:
                yield
            finally:
                ends.append(self.point())
                self._frame = outer

        try:
            yield branch
        except BaseException as error:
            outer.interrupted = outer.interrupted or is_control_flow(error)
            raise
        finally:
            latest = max(ends, key=_latest, default=start)
            outer.round, outer.order = latest
            outer.mark = len(self._consumed)
            self._frame = outer
            self._here = (None, 0, start)

    def _race_point(self, frame: Stretch, advanced: int) -> Point:
        if not advanced or frame.race_round is None:
            return Point(frame.round, frame.order)
        order = frame.order
        if self._completion is not None:
            places = self._completion.position
            for hashed in self._consumed[frame.mark :]:
                place = places.get(hashed)
                if place is not None and (order is None or place > order):
                    order = place
        return Point(frame.race_round, order)


def _unknown() -> None:
    return None


def _latest(point: Point) -> tuple[int, int]:
    return point.round, -1 if point.order is None else point.order
