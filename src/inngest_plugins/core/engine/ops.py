"""Sending steps' operations to the engine while a request goes on: the checkpoint call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from inngest_plugins.core.base.errors import (
    EngineApiError,
    OpTooLargeError,
    RunEndedError,
    StaleDispatchError,
)

from .dispatch import Dispatch

Op = Mapping[str, Any]

_LAZY: Final = frozenset({"DeferAdd", "DeferAbort"})
"""Ops that do not change where the run stands."""

_RUN_GONE: Final = ("run not found", "metadata not found")
"""How the server words an ended run where it answers 400 (recorded in August 2026)."""

_CALL_UNKNOWN: Final = ("page not found", "<html", '"detail"')
"""What a 404 says that comes from whoever does not know the call: a proxy, or an older server.

The run goes on then, and a function that stopped would leave it hanging.
"""


def path_of(dispatch: Dispatch) -> str:
    """Return the path of the checkpoint call of a run."""
    return f"/v1/checkpoint/{dispatch.run_id}/async"


def body_of(dispatch: Dispatch, ops: Sequence[Op]) -> dict[str, Any]:
    """Return the body of the checkpoint call.

    Ops that only defer or abort go without the queue item: with it the engine takes the call for
    progress and starts the job's count of attempts anew.
    """
    lazy = all(op.get("op") in _LAZY for op in ops)
    return {
        "run_id": dispatch.run_id,
        "fn_id": dispatch.fn_id,
        "qi_id": "" if lazy else dispatch.qi_id,
        "request_id": dispatch.request_id,
        "generation_id": dispatch.generation_id,
        "ts": int(time.time() * 1000),
        "request_started_at": dispatch.started_at,
        "steps": list(ops),
    }


def check(response: httpx.Response, dispatch: Dispatch) -> None:
    """Raise what an answer to the checkpoint call means.

    Raises:
        StaleDispatchError: another request has the job.
        RunEndedError: the run is over.
        OpTooLargeError: an output or the state is too large.
        EngineApiError: the engine refused the call for another reason.
    """
    status = response.status_code
    if status < httpx.codes.BAD_REQUEST:
        return
    if status == httpx.codes.CONFLICT:
        raise StaleDispatchError(
            f"the engine has dispatched the job of run {dispatch.run_id} again: this request must "
            "not go on with it"
        )
    if (status == httpx.codes.BAD_REQUEST and _says(response, _RUN_GONE)) or (
        status == httpx.codes.NOT_FOUND and not _says(response, _CALL_UNKNOWN)
    ):
        raise RunEndedError(f"run {dispatch.run_id} has ended, or the engine does not know it")
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        raise OpTooLargeError(
            f"a step of run {dispatch.run_id} gave more than the engine stores for a step or a run"
        )
    raise EngineApiError(f"the engine refused {path_of(dispatch)} with {status}", status=status)


def _says(response: httpx.Response, texts: Sequence[str]) -> bool:
    said = response.text.lower()
    return any(text in said for text in texts)
