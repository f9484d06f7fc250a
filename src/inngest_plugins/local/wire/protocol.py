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

from inngest_plugins.core import parse_timestamp
from inngest_plugins.core.base.stored_json import read_integer, read_number
from inngest_plugins.local.journal.records import Json

from .ids import ACCOUNT_ID, queue_item_ref

if typing.TYPE_CHECKING:
    from inngest_plugins.local.journal.state import RunState

MAX_BODY = 4 * 1024 * 1024
"""Above this many bytes the state is left out and the app fetches it (``use_api``)."""

MAX_STEP_OUTPUT = 4 * 1024 * 1024
MAX_STATE = 32 * 1024 * 1024
MAX_STEPS = 1000
MAX_WAIT = 366 * 86_400.0
_MAX_UPSTREAM = 8192


class MalformedError(ValueError):
    """A value of the wire does not have the form that it must have."""


def canonical(value: Json) -> str:
    """JSON with sorted keys and no spaces, as the server writes it.

    That is RFC 8785 as far as a JSON parser can tell.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def decode(text: str | bytes) -> Json:
    """Parse JSON the way it survives the server, whose numbers are doubles.

    ``1.0`` comes back as ``1``, and an integer beyond 2**53 as the nearest double, written with
    the digits that ECMAScript gives it (RFC 8785).

    Raises:
        ValueError: It is not JSON.
    """
    return json.loads(text, parse_float=read_number, parse_int=read_integer)


def strict_json(raw: bytes) -> Json:
    """Parse what an app posts, as `decode` does; NaN and the infinities are no JSON.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return json.loads(
            raw, parse_float=read_number, parse_int=read_integer, parse_constant=_no_constant
        )
    except RecursionError:
        raise MalformedError("exceeded max depth") from None


def loads(raw: str | bytes) -> Json:
    """Parse JSON as it is.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(raw)
    except RecursionError:
        raise MalformedError("exceeded max depth") from None


def _no_constant(name: str) -> typing.NoReturn:
    raise MalformedError(
        f"invalid character {name[0]!r} looking for beginning of value: {name} is no JSON"
    )


def parse_instant(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 date.

    Raises:
        ValueError: It is not a date.
    """
    return parse_timestamp(text)


def format_instant(instant: float) -> str:
    """An RFC 3339 date in UTC with seconds."""
    date = datetime.datetime.fromtimestamp(instant, datetime.timezone.utc)
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_millis(instant: float) -> str:
    """An RFC 3339 date in UTC with milliseconds."""
    date = datetime.datetime.fromtimestamp(instant, datetime.timezone.utc)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{date.microsecond // 1000:03}Z"


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
        "qi_id": queue_item_ref(call.job_id),
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
    defers = canonical(
        {key: {"abortable": d.status == "AfterRun"} for key, d in run.defers.items()}
    )
    use_api = len(steps) + len(events) > MAX_BODY

    def body() -> bytes:
        context["use_api"] = use_api
        text = (
            f'{{"ctx":{canonical(context)},"defers":{defers},"event":{run.events[0]},'
            f'"events":{events},"steps":{"{}" if use_api else steps},'
            f'"use_api":{"true" if use_api else "false"},"version":{run.request_version}}}'
        )
        return text.encode("utf-8", "replace")

    encoded = body()
    if len(encoded) > MAX_BODY:
        # The events count twice. The server leaves them out together with the memos.
        use_api, events = True, "[]"
        encoded = body()
    return encoded


def steps_json(run: RunState) -> str:
    """The memos of a run as the app receives them."""
    memos = (
        f'"{hashed_id}":{step.memo if step.has_memo else step.input}'
        for hashed_id, step in sorted(run.steps.items())
        if step.has_memo or step.input
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
    """What came back, unwrapped when it was streamed; ``failure`` says why it is unusable.

    ``crash`` is the exception that escaped the app, in one line. It is for people: a server does
    not know it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    failure: str | None = None
    crash: str = ""


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
        label: What the server calls the failure, when it is one of the server's own making and
            not the app's.
        is_without_result: Whether the server reports the failure without a result.
    """

    error: dict[str, Json]
    status: int
    no_retry: bool = False
    retry_after: str | None = None
    label: str | None = None
    is_without_result: bool = False


Answer = Ops | Result | Failure
"""What an app answered, read."""


def too_many_steps() -> Failure:
    """The failure of a run that has as many steps as it may have (``checkStepLimit``)."""
    error: dict[str, Json] = {
        "error": "function has too many steps",
        "name": "InngestErrFunctionOverflowed",
        "message": f"The function run exceeded the step limit of {MAX_STEPS} steps.",
    }
    label = json.dumps({"error": error}, separators=(",", ":"))
    return Failure(error, 0, no_retry=True, label=label, is_without_result=True)


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


def read_answer(raw: RawAnswer) -> Answer:
    """Decide what an answer means."""
    if raw.failure is not None:
        return _no_answer(raw, raw.failure)
    if "x-inngest-sdk" not in raw.headers:
        return _no_sdk(raw)
    no_retry = raw.headers.get("x-inngest-no-retry") == "true"
    try:
        # A server keeps an output as it came; it becomes doubles when an event or a memo has it.
        if raw.status == 200:
            return Result(loads(raw.body) if raw.body else None)
        body = strict_json(raw.body) if raw.body else None
    except ValueError as fault:
        why = f" ({fault})" if isinstance(fault, MalformedError) else ""
        return _no_answer(
            raw, f"The app answered HTTP {raw.status} with a body that is not JSON{why}."
        )
    if raw.status == 206:
        if not isinstance(body, list) or not all(isinstance(op, dict) for op in body):
            return _no_answer(raw, "The app answered HTTP 206 without a list of steps.")
        version = raw.headers.get("x-inngest-req-version", "")
        ops = typing.cast("list[dict[str, Json]]", body)
        return Ops(ops, no_retry, int(version) if version.isdigit() else 2)
    error = (
        typing.cast("dict[str, Json]", body)
        if isinstance(body, dict)
        else {"name": "Error", "message": f"The app answered HTTP {raw.status}."}
    )
    return Failure(error, raw.status, no_retry, raw.headers.get("retry-after"))


def _no_answer(raw: RawAnswer, message: str) -> Failure:
    return Failure({"name": "Error", "message": message}, raw.status)


def _no_sdk(raw: RawAnswer) -> Failure:
    # ``FatalUpstreamError`` of the server.
    message = f"Your server returned HTTP {raw.status} before the SDK responded."
    stack = (
        "No step output was produced before the request failed \u2014 this can mean a proxy or "
        "load balancer in front of your app returned an error, or your app was unable to respond."
    )
    if raw.body:
        kind = raw.headers.get("content-type") or "unknown content-type"
        text = raw.body[:_MAX_UPSTREAM].decode("utf-8", "replace")
        more = "\n\u2026 (truncated)" if len(raw.body) > _MAX_UPSTREAM else ""
        stack = f"{stack}\n\nUpstream response ({kind}):\n{text}{more}"
    error: dict[str, Json] = {"error": message, "message": message, "stack": stack}
    return Failure({"name": "Server returned a fatal error", **error}, raw.status)


def reported_result(failure: Failure) -> Json:
    """What ``inngest/function.failed`` carries as the result of a run that failed."""
    if failure.label is None:
        return failure.error
    name, message = failure.error["name"], failure.error["message"]
    full = message if name == "Error" else f"{name}: {message}"
    error = {"error": full, "name": name, "message": message}
    if failure.error.get("stack"):
        error["stack"] = failure.error["stack"]
    text = json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":"))
    # Go's encoder makes JSON safe for HTML.
    return text.translate(_HTML_SAFE)


_HTML_SAFE = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def standard_error(failure: Failure) -> dict[str, Json]:
    """The error as ``inngest/function.failed`` carries it (``DriverResponse.StandardError``)."""
    if failure.label is not None:
        message = failure.label if failure.is_without_result else reported_result(failure)
        return {"error": failure.label, "message": message, "name": "Error"}
    label = "NonRetriableError" if failure.no_retry else f"invalid status code: {failure.status}"
    error: dict[str, Json] = {"error": label, "message": label, "name": "Error"}
    for key in ("error", "message", "name", "stack"):
        text = failure.error.get(key)
        if isinstance(text, str) and text:
            error[key] = text
    return error
