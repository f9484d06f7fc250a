"""The wire between executor and app: bodies, headers, answers.

Everything here is the public protocol of the Inngest server in dev mode; nothing knows how runs
are scheduled.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import typing
from collections.abc import Mapping

from ._ids import ACCOUNT_ID
from ._run import Json

if typing.TYPE_CHECKING:
    from ._state import RunState

MAX_BODY = 4 * 1024 * 1024
"""Above this many bytes the state is left out and the app fetches it (``use_api``)."""

MAX_STEP_OUTPUT = 4 * 1024 * 1024
MAX_STATE = 32 * 1024 * 1024
MAX_STEPS = 1000
MAX_WAIT = 366 * 86_400.0


def canonical(value: Json) -> str:
    """JSON with sorted keys and no spaces, as the server writes it.

    That is RFC 8785 but for number edge cases: integers keep their precision.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def decode(text: str | bytes) -> Json:
    """Parse JSON the way it survives the server: ``1.0`` comes back as ``1``.

    Raises:
        ValueError: It is not JSON.
    """
    return json.loads(text, parse_float=_number)


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 1e21 else number


def parse_instant(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 date.

    Raises:
        ValueError: It is not a date.
    """
    instant = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=datetime.timezone.utc)
    return instant.timestamp()


def format_instant(instant: float) -> str:
    """An RFC 3339 date in UTC with seconds."""
    date = datetime.datetime.fromtimestamp(instant, datetime.timezone.utc)
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """What one request says about itself, apart from the run's state."""

    target: str
    led_by: str
    attempt: int
    max_attempts: int
    disable_immediate_execution: bool
    job_id: str
    generation: int
    request_id: str
    function_uuid: str
    app_uuid: str


def build_body(run: RunState, call: Call) -> bytes:
    """The body of a request; large states are left to the API (``use_api``)."""
    stack = run.stack
    context = {
        "attempt": call.attempt,
        "disable_immediate_execution": call.disable_immediate_execution,
        "env": "",
        "fn_id": call.function_uuid,
        "generation_id": call.generation,
        "job_id": call.job_id,
        "max_attempts": call.max_attempts,
        "qi_id": call.job_id,
        "request_id": call.request_id,
        "run_id": run.id,
        "stack": {
            "current": stack.index(call.led_by) + 1 if call.led_by in stack else 0,
            "stack": stack,
        },
        "step_id": "step",
        "use_api": False,
    }
    # Memos and events are kept as canonical JSON, so the body is put together as text.
    events = f"[{','.join(run.events)}]"
    steps = steps_json(run)
    use_api = len(steps) + len(events) > MAX_BODY
    if use_api:
        context["use_api"] = True
        steps = "{}"
    body = (
        f'{{"ctx":{canonical(context)},"defers":{{}},"event":{run.events[0]},"events":{events},'
        f'"steps":{steps},"use_api":{"true" if use_api else "false"},'
        f'"version":{run.request_version}}}'
    )
    return body.encode("utf-8", "replace")


def steps_json(run: RunState) -> str:
    """The memos of a run as the app receives them."""
    memos = (
        f'"{hashed_id}":{step.memo}'
        for hashed_id, step in sorted(run.steps.items())
        if step.has_memo
    )
    return f"{{{','.join(memos)}}}"


def build_headers(run: RunState, call: Call) -> dict[str, str]:
    """The headers of a request."""
    execution_span = os.urandom(8).hex()
    reference = (
        f"%7B%22tp%22%3A%2200-{run.state_trace_id}-{execution_span}-01%22%2C%22ts%22%3A%22%22%7D"
    )
    return {
        "content-type": "application/json",
        "user-agent": "Inngest",
        "accept-encoding": "gzip",
        "account-id": ACCOUNT_ID,
        "traceparent": f"00-{run.trace_id}-{os.urandom(8).hex()}-01",
        "tracestate": (
            f"inngest@traceref={reference},inngest@fn={call.function_uuid},"
            f"inngest@app={call.app_uuid}"
        ),
        "x-run-id": run.id,
        "x-request-id": call.request_id,
        "x-inngest-job-id": call.job_id,
        "x-inngest-generation-id": str(call.generation),
        "x-inngest-req-version": str(run.request_version),
        "x-inngest-step-id": call.target,
    }


@dataclasses.dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back, unwrapped when it was streamed; ``failure`` says why it is unusable."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    failure: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Ops:
    """The app reports steps."""

    ops: list[dict[str, Json]]
    no_retry: bool
    request_version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The function returned."""

    output: Json


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """The function raised, or there is no usable answer.

    Attributes:
        error: The error body: ``name``, ``message``, usually ``stack`` and ``code``.
        status: HTTP status.
        no_retry: The app says that trying again is useless.
        retry_after: The raw ``retry-after`` header.
    """

    error: dict[str, Json]
    status: int
    no_retry: bool = False
    retry_after: str | None = None


def unwrap(status: int, headers: Mapping[str, str], body: bytes) -> RawAnswer:
    """Take a streamed answer (201) out of its envelope; leave any other as it is."""
    if status != 201:
        return RawAnswer(status, headers, body)
    try:
        envelope = json.loads(body)
        inner = {name.lower(): str(value) for name, value in envelope["headers"].items()}
        return RawAnswer(int(envelope["status"]), inner, envelope["body"].encode())
    except (ValueError, TypeError, KeyError, AttributeError):
        return RawAnswer(status, headers, body, "the streamed answer was cut off or is not JSON")


def read_answer(raw: RawAnswer) -> Ops | Result | Failure:
    """Decide what an answer means."""
    if raw.failure is not None:
        return _no_answer(raw, raw.failure)
    if "x-inngest-sdk" not in raw.headers:
        return _no_answer(raw, f"Your server returned HTTP {raw.status} before the SDK responded.")
    no_retry = raw.headers.get("x-inngest-no-retry") == "true"
    try:
        body = decode(raw.body) if raw.body else None
    except ValueError:
        return _no_answer(raw, f"The app answered HTTP {raw.status} with a body that is not JSON.")
    if raw.status == 206:
        if not isinstance(body, list) or not all(isinstance(op, dict) for op in body):
            return _no_answer(raw, "The app answered HTTP 206 without a list of steps.")
        version = raw.headers.get("x-inngest-req-version", "")
        ops = typing.cast("list[dict[str, Json]]", body)
        return Ops(ops, no_retry, int(version) if version.isdigit() else 2)
    if raw.status == 200:
        return Result(body)
    error = (
        typing.cast("dict[str, Json]", body)
        if isinstance(body, dict)
        else {"name": "Error", "message": f"The app answered HTTP {raw.status}."}
    )
    return Failure(error, raw.status, no_retry, raw.headers.get("retry-after"))


def _no_answer(raw: RawAnswer, message: str) -> Failure:
    return Failure({"name": "Error", "message": message}, raw.status)


def standard_error(failure: Failure) -> dict[str, Json]:
    """The error as ``inngest/function.failed`` carries it."""
    label = "NonRetriableError" if failure.no_retry else f"invalid status code: {failure.status}"
    error: dict[str, Json] = {
        key: failure.error[key] for key in ("message", "name", "stack") if key in failure.error
    }
    return {"error": label, **error}
