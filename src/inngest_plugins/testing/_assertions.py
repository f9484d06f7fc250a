"""Assertions about runs; their messages say what happened instead."""

from __future__ import annotations

import re
import typing

from inngest_plugins.core import printable
from inngest_plugins.local.report.words import app_traceback

if typing.TYPE_CHECKING:
    from inngest_plugins.local import Run

_ANY: typing.Final = object()


def assert_completed(run: Run, output: object = _ANY) -> typing.Any:
    """Check that a run completed, and what it returned.

    Args:
        run: The run.
        output: What it must have returned, as JSON; anything by default. Encrypted outputs are
            opened first.

    Returns:
        What it returned.

    Raises:
        AssertionError: With the run's error and timeline.
    """
    if run.status != "Completed":
        raise AssertionError(f"{run.function_id} is {run.status}, not Completed.{_story(run)}")
    result = run.result
    if output is not _ANY and result != output:
        raise AssertionError(f"{run.function_id} returned {result!r}, not {output!r}.{_story(run)}")
    return result


def assert_failed(
    run: Run, error: type[BaseException] | str | None = None, match: str | None = None
) -> dict[str, typing.Any]:
    """Check that a run failed, and with what.

    Args:
        run: The run.
        error: The error's class or class name; any by default. A step that failed for good and was
            not caught counts by the name of its own error.
        match: A regular expression that the message must contain.

    Returns:
        The error's body, opened: ``name``, ``message``, ``stack`` and more.

    Raises:
        AssertionError: With the run's error and timeline.
    """
    body = run.opened.error
    if run.status != "Failed" or body is None:
        raise AssertionError(f"{run.function_id} is {run.status}, not Failed.{_story(run)}")
    name = error.__name__ if isinstance(error, type) else error
    if name is not None and body.get("name") != name:
        raise AssertionError(
            f"{run.function_id} failed with {body.get('name')}, not {name}.{_story(run)}"
        )
    if match is not None and not re.search(match, str(body.get("message"))):
        raise AssertionError(
            f"{run.function_id} failed with the message {body.get('message')!r}, which does not "
            f"match {match!r}.{_story(run)}"
        )
    return body


def assert_steps(run: Run, *steps: str) -> None:
    """Check which steps a run went through, in the order in which the engine saw them.

    Args:
        run: The run.
        steps: Their ids; ``"id:1"`` is the second use of an id.

    Raises:
        AssertionError: With the steps there were, and the timeline.
    """
    if tuple(run.steps) != steps:
        raise AssertionError(
            f"{run.function_id} went through {list(run.steps)}, not {list(steps)}.{_story(run)}"
        )


def _story(run: Run) -> str:
    opened = run.opened
    error = opened.error or {}
    text = str(error.get("stack") or f"{error.get('name')}: {error.get('message')}").rstrip()
    parts = [opened.reason, app_traceback(text) if error else "", str(run.timeline())]
    return "".join(f"\n{printable(part, lines=True)}" for part in parts if part)
