"""Why a run failed, in a sentence for people. Nothing of it goes over the wire."""

from __future__ import annotations

import typing

from inngest_plugins.local._envelopes import is_sealed_text

if typing.TYPE_CHECKING:
    from inngest_plugins.local.journal.records import StepRecord
    from inngest_plugins.local.journal.state import RunState
    from inngest_plugins.local.wire.protocol import Failure


def failure_reason(run: RunState, attempts: int, failure: Failure, crash: str = "") -> str:
    """Say what ended a run: the function's last attempt, an error of no retry, or a step.

    A function that does not catch a step's error fails with that error and is not tried again; the
    step has been, so the reason names the step.

    Args:
        run: The run.
        attempts: How often the function was tried.
        failure: Of the last attempt.
        crash: The exception that escaped the app, if any.
    """
    name, message = failure.error.get("name"), str(failure.error.get("message"))
    what = f"{name}: {message}"
    if crash:
        what = f"{what} The app raised {crash}"
    if not failure.no_retry:
        return f"attempt {attempts} failed: {what}"
    step = _step_that_raised(run, name, message)
    if step is None:
        return f"is not retriable: {what}"
    if step.error.get("noRetry"):
        return f"step {step.key!r} is not retriable: {what}"
    times = f" {len(step.errors)} times" if len(step.errors) > 1 else ""
    return f"step {step.key!r} failed{times}: {what}"


def _step_that_raised(run: RunState, name: object, message: str) -> StepRecord | None:
    """The latest failed step whose error this is; an encrypted message is never the same twice."""
    for state in reversed(run.steps.values()):
        step = state.record()
        if step.error and step.error.get("name") == name:
            stored = str(step.error.get("message"))
            if stored == message or (is_sealed_text(stored) and is_sealed_text(message)):
                return step
    return None
