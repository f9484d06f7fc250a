"""The rule that tells new code from replayed code."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from inngest_plugins.otel.base.start_times import StartTimes
from inngest_plugins.otel.replay.boundary import Completion, Point, ReplayBoundary
from inngest_plugins.otel.replay.completion import completion_of


def nothing_known() -> None:
    """A framework that does not give the request's body."""


def test_straight_code_is_new_behind_the_last_memo() -> None:
    """Each consumed memo is a round, and only the last round is new."""
    consumed: list[str] = []
    boundary = ReplayBoundary(consumed, nothing_known)
    points = [boundary.point()]
    for hashed in ("a", "b"):
        consumed.append(hashed)
        points.append(boundary.point())

    assert points == [Point(0), Point(1), Point(2)]
    assert [boundary.is_new(point, ended=False) for point in points] == [False, False, True]


def test_branches_of_different_length_advance_in_lockstep() -> None:
    """In WAIT mode the end of the short branch was new when its own round was the last."""
    consumed: list[str] = []
    boundary = ReplayBoundary(consumed, nothing_known)
    with boundary.group(race=False) as branch:
        with branch():
            consumed.append("a1")
            short = boundary.point()
        with branch():
            consumed += ["b1", "b2"]
            long = boundary.point()
    joined = boundary.point()

    assert (short, long, joined) == (Point(1), Point(2), Point(2))
    assert not boundary.is_new(short, ended=False)
    assert boundary.is_new(long, ended=False)
    assert boundary.is_new(joined, ended=False)


@pytest.mark.parametrize(("leader", "new"), [(0, [True, False]), (1, [False, True])])
def test_in_race_mode_the_step_that_led_here_decides(leader: int, new: list[bool]) -> None:
    """Of two branches that have both advanced, the one whose step led here is new."""
    consumed: list[str] = []
    boundary = ReplayBoundary(consumed, lambda: Completion({"a": 0, "b": 1}, leader))
    points: list[Point] = []
    with boundary.group(race=True) as branch:
        for hashed in ("a", "b"):
            with branch():
                start = boundary.point()
                consumed.append(hashed)
                points.append(boundary.point())

    assert [boundary.is_new(point, ended=False) for point in points] == new
    assert not boundary.is_new(start, ended=False)
    # What follows the group is new to the later of the two, and to whoever ends the function.
    assert boundary.is_new(boundary.point(), ended=False) is (leader == 1)
    assert boundary.is_new(boundary.point(), ended=True)


def test_a_branch_that_races_through_a_nested_group_counts_its_latest_step() -> None:
    """Within a race, a nested group is as late as the latest of its steps."""
    consumed: list[str] = []
    boundary = ReplayBoundary(consumed, lambda: Completion({"a": 0, "b": 2, "c": 1}, 1))
    with boundary.group(race=True) as branch, branch():
        with boundary.group(race=False) as inner:
            with inner():
                consumed.append("a")
            with inner():
                consumed.append("b")
        nested = boundary.point()
        consumed.append("c")
        behind = boundary.point()

    assert nested == Point(1, 2)
    assert behind == Point(1, 2)


def test_without_the_engines_order_all_branches_of_a_race_count_as_new() -> None:
    """A framework that does not give the body costs copies with the same ids, never a span."""
    consumed: list[str] = []
    boundary = ReplayBoundary(consumed, nothing_known)
    points: list[Point] = []
    with boundary.group(race=True) as branch:
        for hashed in ("a", "b"):
            with branch():
                consumed.append(hashed)
                points.append(boundary.point())

    assert all(boundary.is_new(point, ended=False) for point in points)


def test_a_branch_that_raises_leaves_the_group_in_order() -> None:
    """An error memo ends the group; what catches it goes on from where the branch got to."""
    consumed: list[str] = []
    boundary = ReplayBoundary(consumed, nothing_known)
    with contextlib.suppress(ValueError), boundary.group(race=False) as branch:
        with branch():
            consumed.append("a")
        with branch():
            consumed.append("b")
            raise ValueError("broken")

    assert boundary.point() == Point(1)
    consumed.append("c")
    assert boundary.point() == Point(2)


def test_start_times_are_bounded_and_forgotten_once_used() -> None:
    """The oldest start goes when there are too many; a start is used once."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

    def span(number: int, start: int | None) -> ReadableSpan:
        return ReadableSpan("s", SpanContext(1, number, is_remote=False), start_time=start)

    starts = StartTimes(limit=2)
    for number in (1, 2, 3):
        starts.remember(span(number, number * 10))
    starts.remember(span(3, 99))
    starts.remember(span(4, None))

    assert len(starts) == 2
    assert starts.recall(span(1, 0)) is None
    assert starts.recall(span(3, 0)) == 30
    assert starts.recall(span(3, 0)) is None


# ---------------------------------------------------------------- the engine's order


BODY = b'{"ctx": {"stack": {"stack": ["a", "b"], "current": 1}}}'


def _call_with(body: bytes | None) -> Any:
    return SimpleNamespace(engine=SimpleNamespace(request_body=body))


@pytest.mark.parametrize(
    ("body", "known"), [(BODY, True), (b"no json", False), (b'{"ctx": {}}', False), (None, False)]
)
def test_the_engines_order_is_read_off_the_body(body: bytes | None, known: bool) -> None:
    """The body says in which order steps were completed; where it does not, nothing is known."""
    found = completion_of(_call_with(body))

    assert found == (Completion({"a": 0, "b": 1}, 0) if known else None)


def test_the_first_request_has_no_leader() -> None:
    """Before any step was completed none has led here."""
    found = completion_of(_call_with(b'{"ctx": {"stack": {"stack": null, "current": 0}}}'))

    assert found == Completion({}, None)
