"""``POST /v1/checkpoint/{runID}/async``: reads the call and answers it."""

from __future__ import annotations

import json
import math
import typing
import uuid

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.steps.checkpoints import (
    Checkpoint,
    CheckpointRefusedError,
    Checkpoints,
)
from inngest_plugins.local.steps.ops import Op
from inngest_plugins.local.wire.ids import decode_ulid
from inngest_plugins.local.wire.protocol import MalformedError, strict_json

from .http import ApiRequest, ApiResponse, Routes, error_response

_OPCODES = frozenset(
    (
        "None",
        "Step",
        "StepRun",
        "StepError",
        "StepPlanned",
        "Sleep",
        "WaitForEvent",
        "InvokeFunction",
        "AIGateway",
        "Gateway",
        "WaitForSignal",
        "RunComplete",
        "StepFailed",
        "SyncRunComplete",
        "DiscoveryRequest",
        "DeferAdd",
        "DeferAbort",
    )
)
_NO_RUN = "0" * 26


def checkpoint_routes(checkpoints: Checkpoints) -> Routes:
    """The routes of checkpoints."""

    def save(request: ApiRequest, _run_id: str) -> ApiResponse:
        # The run is that of the body, as on the server.
        try:
            checkpoint = read_checkpoint(request.body)
        except ValueError as error:
            return error_response(400, f"invalid request body: {error}")
        try:
            checkpoints.save(checkpoint)
        except CheckpointRefusedError as refused:
            data = {"run_id": checkpoint.run_id}
            return error_response(refused.status, str(refused), data)
        return ApiResponse(200, b"")

    return Routes(("POST", r"/v1/checkpoint/([^/]+)/async", save))


def read_checkpoint(raw: bytes) -> Checkpoint:
    """Read the body of a call.

    Raises:
        MalformedError: It is not one; the message is the server's where that is known.
    """
    try:
        body = strict_json(raw)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc.rstrip())
        raise MalformedError("unexpected EOF" if at_end else str(error)) from None
    if not isinstance(body, dict):
        raise MalformedError("not a JSON object")
    body = typing.cast("dict[str, Json]", body)
    run_id = body.get("run_id") or _NO_RUN
    if not isinstance(run_id, str) or len(run_id) != len(_NO_RUN):
        raise MalformedError("ulid: bad data size when unmarshaling")
    decode_ulid(run_id)
    function = body.get("fn_id")
    if function is not None:
        _check_uuid(function)
    ops = body.get("steps") or []
    if not isinstance(ops, list):
        raise MalformedError("steps is not a list")
    return Checkpoint(
        run_id=run_id,
        queue_item=str(body.get("qi_id") or ""),
        generation=_whole(body.get("generation_id")),
        request_started_at=_whole(body.get("request_started_at")) / 1000,
        ops=[_op(op) for op in ops],
    )


def _check_uuid(text: object) -> None:
    try:
        uuid.UUID(str(text))
    except ValueError:
        raise MalformedError(f"invalid UUID length: {len(str(text))}") from None


def _whole(number: Json) -> int:
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, (int, float)) or math.isnan(number):
        raise MalformedError("a time or a number is not a number")
    return int(number)


def _op(op: Json) -> Op:
    if not isinstance(op, dict):
        raise MalformedError("a step is not an object")
    op = typing.cast("Op", op)
    name = op.get("op")
    if name not in _OPCODES:
        raise MalformedError(f"{name} does not belong to Opcode values")
    if not isinstance(op.get("id") or "", str):
        raise MalformedError("the id of a step is not a string")
    if not isinstance(op.get("userland") or {}, dict):
        raise MalformedError("userland is not an object")
    return {**op, "id": op.get("id") or ""}
