"""Ops as the app reports them: their parts, and what can be wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from inngest_plugins.local.journal.queue import Job
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState, StepState, size
from inngest_plugins.local.wire.protocol import MAX_STATE, Failure

Op = dict[str, Json]

NO_OP = "None"
"""The op that neither moves nor ends the run: a request that has been overtaken answers it."""

LAZY = ("DeferAdd", "DeferAbort")
"""Ops that are sent with another one and are not steps."""


def new_step(op: Op, now: float) -> StepState:
    """The state of a step that an op reports for the first time.

    Args:
        op: The op.
        now: Seconds since the epoch.
    """
    userland = op.get("userland") or {}
    opts = op.get("opts")
    return StepState(
        id=userland.get("id") or op.get("displayName") or op["id"],
        index=userland.get("index") or 0,
        hashed_id=op["id"],
        op=op["op"],
        status="Planned",
        started_at=now,
        opts=opts,
        race=isinstance(opts, dict) and opts.get("parallelMode") == "race",
    )


class RunFailureError(Exception):
    """The run fails at once, whatever its attempts."""

    def __init__(self, name: str, message: str, stack: str = "") -> None:
        super().__init__(f"{message}: {stack}" if stack else message)
        error: dict[str, Json] = {"name": name, "message": message}
        if stack:
            error["stack"] = stack
        self.failure = Failure(error, 206, no_retry=True, label=name)


class UnreadableOpError(Exception):
    """The app reported something that is not a step: the attempt has failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.failure = Failure({"name": "Error", "message": message}, 206, label=message)


def check_state(run: RunState, memo: str) -> None:
    """Accept one more memo.

    Raises:
        RunFailureError: The run's memos would be larger than a run may be.
    """
    if size(memo) + run.memo_bytes > MAX_STATE:
        raise RunFailureError(
            "InngestErrStateOverflowed",
            f"The function run exceeded the state size limit of {MAX_STATE} bytes.",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One answer with ops, and what was known when its request was made."""

    run: RunState
    job: Job
    no_retry: bool
    max_attempts: int
    resets_plan: bool


Handler = Callable[[Report, StepState, Op], bool | Awaitable[bool]]
"""Does what an op says; True when its job is to run again."""
