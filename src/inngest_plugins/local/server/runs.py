"""API v2: reads runs and their traces, cancels, reruns, invokes and scores them."""

from __future__ import annotations

import base64
import typing
from collections.abc import Mapping

from inngest_plugins.local._clock import Clock
from inngest_plugins.local.executor.events import Router
from inngest_plugins.local.executor.executor import Executor
from inngest_plugins.local.functions.config import FunctionConfig
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState, StepState
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.steps.metadata import MetadataRejectedError, apply_update
from inngest_plugins.local.wire.ids import decode_ulid, step_hash
from inngest_plugins.local.wire.protocol import format_millis, strict_json

from .http import ApiRequest, ApiResponse, Routes, json_response
from .traces import run_status, run_trace

_DEFAULT_LIMIT, _MAX_LIMIT = 20, 100
_STATUSES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
_MAX_SCORES = 100


class _RefusedError(Exception):
    """The server would refuse the request."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.response = json_response({"errors": [{"code": code, "message": message}]}, status)


class RunsApi:
    """Answers for runs.

    Args:
        app_id: The app.
        functions: By full id.
        store: The state.
        clock: Time.
        router: Starts runs.
        executor: Cancels runs.
    """

    def __init__(
        self,
        *,
        app_id: str,
        functions: dict[str, FunctionConfig],
        store: Store,
        clock: Clock,
        router: Router,
        executor: Executor,
    ) -> None:
        self._app_id = app_id
        self._functions = functions
        self._store = store
        self._clock = clock
        self._router = router
        self._executor = executor

    def routes(self) -> Routes:
        """The routes of API v2."""
        of_run, of_function = r"/api/v2/runs/([^/]+)", r"/api/v2/apps/([^/]+)/functions/([^/]+)"
        return Routes(
            ("GET", r"/api/v2/runs", _refusing(self._list)),
            ("GET", of_run, _refusing(self._get)),
            ("GET", rf"{of_run}/trace", _refusing(self._trace)),
            ("POST", rf"{of_run}/cancel", _refusing(self._cancel)),
            ("POST", rf"{of_run}/rerun", _refusing(self._rerun)),
            ("POST", rf"{of_run}/scores", _refusing(self._score)),
            ("GET", rf"{of_function}/runs", _refusing(self._list_of_function)),
            ("POST", rf"{of_function}/invoke", _refusing(self._invoke)),
        )

    # Reading

    def _list(self, request: ApiRequest) -> ApiResponse:
        function, app = request.query.get("functionId"), request.query.get("appId")
        if function and not app:
            raise _field("appId is required when filtering by functionId")
        if app and app != self._app_id:
            return self._page(request, [])
        full = f"{self._app_id}-{function}" if function else None
        return self._page(request, self._runs(full))

    def _list_of_function(self, request: ApiRequest, app: str, function: str) -> ApiResponse:
        return self._page(request, self._runs(self._function(app, function).id))

    def _runs(self, function_id: str | None) -> list[RunState]:
        """Runs of a function, or all, latest first."""
        runs = reversed(self._store.runs.values())
        return [run for run in runs if function_id in (None, run.function_id)]

    def _page(self, request: ApiRequest, runs: list[RunState]) -> ApiResponse:
        limit = _limit(request.query)
        wanted = request.query.get("status", "").upper().strip()
        if wanted and wanted not in _STATUSES:
            raise _field("Status is invalid")
        if wanted:
            runs = [run for run in runs if run_status(run) == wanted]
        if cursor := request.query.get("cursor"):
            last = _read_cursor(cursor)
            runs = [run for run in runs if run.id < last]
        more = len(runs) > limit
        page: dict[str, Json] = {"limit": limit}
        if more:
            page |= {"cursor": _cursor(runs[limit - 1]), "hasMore": True}
        answer = self._answer([self._described(run) for run in runs[:limit]])
        return json_response({**answer, "page": page})

    def _get(self, request: ApiRequest, run_id: str) -> ApiResponse:
        return json_response(self._answer(self._described(self._run(run_id))))

    def _trace(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._run(run_id, what="Trace")
        has_output = request.query.get("includeOutput") == "true"
        trace = {"rootSpan": run_trace(run, has_output=has_output), "runId": run.id}
        return json_response(self._answer(trace))

    def _described(self, run: RunState) -> dict[str, Json]:
        function = self._functions.get(run.function_id)
        local_id = run.function_id.removeprefix(f"{self._app_id}-")
        described: dict[str, Json] = {
            "app": {"id": self._app_id},
            "function": {"id": local_id, "name": function.name if function else local_id},
            "id": run.id,
            "queuedAt": format_millis(run.queued_at),
            "status": run_status(run),
            "trigger": {"eventIds": run.event_ids},
        }
        if run.started_at is not None:
            described["startedAt"] = format_millis(run.started_at)
        if run.ended_at is not None:
            began = run.started_at or run.queued_at
            described["durationMs"] = str(round((run.ended_at - began) * 1000))
            described["endedAt"] = format_millis(run.ended_at)
        return described

    # Steering

    def _cancel(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._run(run_id)
        if run.status in ("Cancelled", "TimedOut"):
            raise _RefusedError(409, "run_already_cancelled", "Run is already cancelled")
        if not run.is_open:
            raise _RefusedError(409, "run_already_ended", "Cannot cancel an ended run")
        self._executor.end(run, "Cancelled", reason="cancelled through the API")
        return json_response(self._answer({"runId": run.id}))

    def _rerun(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._run(run_id)
        body = _object(request)
        if run.function_id not in self._functions:
            raise _RefusedError(404, "not_found", "Function not found")
        start = body.get("fromStep")
        if start is not None and not isinstance(start, dict):
            raise _field("fromStep must be an object")
        steps = [] if start is None else _steps_before(run, typing.cast("dict[str, Json]", start))
        return json_response(self._answer({"runId": self._router.rerun(run, steps).id}))

    def _invoke(self, request: ApiRequest, app: str, function: str) -> ApiResponse:
        config = self._function(app, function)
        data = _object(request).get("data")
        if not isinstance(data, dict | None):
            raise _field("data must be a JSON object")
        run = self._router.invoke(config, data or {})
        if run is None:
            raise _RefusedError(
                422, "function_skipped", "Function invocation joined a batch or was made before."
            )
        return json_response(self._answer({"runId": run.id}))

    def _score(self, request: ApiRequest, run_id: str) -> ApiResponse:
        _check_run_id(run_id)
        scores = _json(request)
        if not isinstance(scores, list) or not scores:
            raise _field("At least one score is required")
        if len(scores) > _MAX_SCORES:
            raise _field(f"At most {_MAX_SCORES} scores are allowed")
        updates = [_score_update(at, score) for at, score in enumerate(scores)]
        run = self._store.runs.get(run_id)
        if run is not None:
            try:
                for update in updates:
                    apply_update(self._store, run, update)
            except MetadataRejectedError as rejected:
                message = "Score exceeds the run metadata size limit"
                raise _RefusedError(rejected.status, "validation_error", message) from None
        return json_response(self._answer([{"runId": run_id, **score} for score in scores]))

    # Inside

    def _answer(self, data: Json) -> dict[str, Json]:
        return {"data": data, "metadata": {"fetchedAt": format_millis(self._clock.now())}}

    def _run(self, run_id: str, what: str = "Run") -> RunState:
        _check_run_id(run_id)
        run = self._store.runs.get(run_id)
        if run is None:
            raise _RefusedError(404, "not_found", f"{what} not found")
        return run

    def _function(self, app: str, function: str) -> FunctionConfig:
        config = self._functions.get(f"{app}-{function}") if app == self._app_id else None
        if config is None:
            raise _RefusedError(404, "not_found", "Function not found")
        return config


def _refusing(handler: typing.Callable[..., ApiResponse]) -> typing.Callable[..., ApiResponse]:
    def answer(request: ApiRequest, *parts: str) -> ApiResponse:
        try:
            return handler(request, *parts)
        except _RefusedError as refused:
            return refused.response

    return answer


def _field(message: str) -> _RefusedError:
    return _RefusedError(400, "invalid_field_format", message)


def _check_run_id(run_id: str) -> None:
    try:
        decode_ulid(run_id)
    except ValueError:
        raise _field("Run ID must be a valid ULID") from None


def _json(request: ApiRequest) -> Json:
    try:
        return strict_json(request.body or b"{}")
    except ValueError:
        raise _RefusedError(400, "api_error", "the body is not JSON") from None


def _object(request: ApiRequest) -> dict[str, Json]:
    body = _json(request)
    if not isinstance(body, dict):
        raise _RefusedError(400, "api_error", "the body is not a JSON object")
    return typing.cast("dict[str, Json]", body)


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "0")
    try:
        limit = int(text)
    except ValueError:
        raise _RefusedError(
            400,
            "api_error",
            f'parsing field "limit": strconv.ParseInt: parsing "{text}": invalid syntax',
        ) from None
    if limit < 0:
        raise _field("Limit must be at least 1")
    if limit > _MAX_LIMIT:
        raise _field(f"Limit cannot exceed {_MAX_LIMIT}")
    return limit or _DEFAULT_LIMIT


def _cursor(run: RunState) -> str:
    return base64.b64encode(run.id.encode()).decode()


def _read_cursor(cursor: str) -> str:
    try:
        run_id = base64.b64decode(cursor, validate=True).decode()
        decode_ulid(run_id)
    except ValueError:
        raise _field("Cursor is invalid") from None
    return run_id


def _steps_before(run: RunState, start: dict[str, Json]) -> list[StepState]:
    """What a rerun from a step has already: the steps before it, and its new input if any."""
    step_id, given = start.get("stepId"), start.get("input")
    if not step_id or not isinstance(step_id, str):
        raise _RefusedError(400, "missing_field", "Step ID is required")
    if not isinstance(given, list | None):
        raise _field("Step input must be a valid JSON array")
    found = run.steps.get(step_hash(step_id))
    if found is None:
        raise _RefusedError(400, "invalid_request", "Step not found in original run")
    ended = found.hashed_id in run.stack
    before = run.stack[: run.stack.index(found.hashed_id)] if ended else run.stack
    steps = [run.steps[hashed_id].copied() for hashed_id in before]
    if given is not None:
        steps.append(found.again({"input": given}))
    return steps


def _score_update(at: int, score: Json) -> dict[str, Json]:
    """The update of metadata by which a score is stored."""
    where = f"scores[{at}]"
    if not isinstance(score, dict):
        raise _field(f"{where}: Score must be an object")
    score = typing.cast("dict[str, Json]", score)
    name, value, step_id = score.get("name"), score.get("value"), score.get("stepId")
    experiment = score.get("experiment")
    if not isinstance(name, str) or not name.strip():
        raise _field(f"{where}: Score name is required")
    if not isinstance(value, (int, float)):
        raise _field(f"{where}: Score value must be a finite number or boolean")
    if step_id is not None and (not isinstance(step_id, str) or not step_id.strip()):
        raise _field(f"{where}: Step ID must not be empty when provided")
    if step_id is not None and experiment is not None:
        raise _field(f"{where}: Experiment scores must be run-scoped")
    entries: list[Json] = []
    if experiment is not None:
        entries.append({"kind": "inngest.experiment", "values": _experiment(where, experiment)})
    entries.append({"kind": "inngest.score", "values": {name: {"value": value}}})
    target = {"step_id": step_id} if step_id is not None else {}
    return {"target": target, "metadata": entries}


def _experiment(where: str, experiment: Json) -> dict[str, Json]:
    fields = typing.cast("dict[str, Json]", experiment if isinstance(experiment, dict) else {})
    for name, label in (("id", "ID"), ("variant", "variant")):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise _field(f"{where}: Experiment {label} is required when experiment is provided")
    return {"name": fields["id"], "variant": fields["variant"]}
