"""The server's REST surface, as far as the SDK and plugins need it.

All of it runs on the engine's event loop thread and never waits, so it can be called from
anywhere (see `_transport.py`).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Callable, Mapping

from ._clock import Clock
from ._errors import LocalEngineError
from ._events import InvalidEventError, Router
from ._executor import Executor
from ._ids import app_uuid, decode_ulid, seeded_ulid
from ._metadata import MetadataRejectedError, apply_update
from ._protocol import decode, format_instant, steps_json
from ._realtime import Broker, RealtimeMessage
from ._run import Json
from ._state import RunState
from ._store import Store

_MAX_TRACES = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class ApiRequest:
    """One request to the engine's API.

    Attributes:
        method: Upper case.
        path: Without the query.
        query: First value of each parameter.
        headers: Names in lower case.
        body: Raw.
        from_thread: Whether it came from another thread than the engine's.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    from_thread: bool = False


@dataclasses.dataclass(frozen=True)
class ApiResponse:
    """The answer to an `ApiRequest`."""

    status: int
    body: bytes
    content_type: str = "application/json"


@dataclasses.dataclass(frozen=True)
class UserlandTraces:
    """One accepted ``POST /v1/traces/userland``: an OTLP export request, raw.

    Attributes:
        content_type: ``application/x-protobuf`` or a JSON type.
        body: The bytes as posted.
        received_at: Seconds since the epoch.
    """

    content_type: str
    body: bytes
    received_at: float


class Api:
    """Answers requests from the state.

    Args:
        app_id: The app.
        store: The state.
        clock: Time.
        router: Takes events in.
        executor: Cancels runs.
        broker: Delivers realtime messages.
        register: Called with the body of a registration.
        sender: The run on whose behalf a request is made, if that is known.
    """

    def __init__(
        self,
        *,
        app_id: str,
        store: Store,
        clock: Clock,
        router: Router,
        executor: Executor,
        broker: Broker,
        register: Callable[[dict[str, Json]], None],
        sender: Callable[[ApiRequest], RunState | None],
    ) -> None:
        self._app_id = app_id
        self._store = store
        self._clock = clock
        self._router = router
        self._executor = executor
        self._broker = broker
        self._register = register
        self._sender = sender
        self.traces: list[UserlandTraces] = []
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., ApiResponse]]] = [
            (method, re.compile(pattern), handler)
            for method, pattern, handler in (
                ("POST", r"/e/[^/]+", self._receive_events),
                ("POST", r"/fn/register", self._register_functions),
                ("GET", r"/v0/runs/([^/]+)/actions", self._run_actions),
                ("GET", r"/v0/runs/([^/]+)/batch", self._run_batch),
                ("GET", r"/v1/runs/([^/]+)", self._get_run),
                ("DELETE", r"/v1/runs/([^/]+)", self._cancel_run),
                ("POST", r"/v1/runs/([^/]+)/metadata", self._update_metadata),
                ("GET", r"/v1/events/([^/]+)", self._get_event),
                ("GET", r"/v1/events/([^/]+)/runs", self._event_runs),
                ("POST", r"/v1/traces/userland", self._receive_traces),
                ("POST", r"/v1/realtime/publish", self._publish),
                ("POST", r"/v1/realtime/token", self._issue_token),
            )
        ]

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request and make its effects permanent."""
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                try:
                    response = handler(request, *match.groups())
                finally:
                    self._store.commit()
                return response
        return _error(404, f"{request.method} {request.path} is not served by LocalEngine")

    def _receive_events(self, request: ApiRequest) -> ApiResponse:
        try:
            body = json.loads(request.body or b"[]")
        except ValueError:
            return _error(400, "Unable to process event payload: not JSON")
        events = body if isinstance(body, list) else [body]
        sender, ids = self._sender(request), list[str]()
        seed = request.headers.get("x-inngest-event-id-seed", "")
        try:
            for number, event in enumerate(events, 1):
                event_id = seeded_ulid(seed, number)
                ids.append(self._router.receive(event, sender=sender, seeded_id=event_id))
        except InvalidEventError as error:
            return _json({"ids": ids or [""], "status": 400, "error": str(error)}, 400)
        # The server fills a list that has one place at least.
        return _json({"ids": ids or [""], "status": 200})

    def _register_functions(self, request: ApiRequest) -> ApiResponse:
        try:
            self._register(json.loads(request.body))
        except LocalEngineError as error:
            return _json({"error": str(error), "status": 400}, 400)
        uuid = app_uuid(self._app_id)
        return _json({"ok": True, "modified": True, "sync_id": uuid, "app_id": uuid})

    def _run_actions(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._store.runs.get(run_id)
        if run is None:
            return _error(404, "Run not found")
        if not run.is_open:
            return _error(410, "Run has ended")
        return ApiResponse(200, steps_json(run).encode("utf-8", "replace"))

    def _run_batch(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._store.runs.get(run_id)
        if run is None:
            return _error(404, "Run not found")
        if not run.is_open:
            return _error(410, "Run has ended")
        events = [json.loads(event) for event in run.events]
        return _json([{k: v for k, v in e.items() if k != "user" or v} for e in events])

    def _get_run(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._store.runs.get(run_id)
        return _error(404, "Run not found") if run is None else _data(self._describe(run))

    def _describe(self, run: RunState) -> dict[str, Json]:
        status = "Cancelled" if run.status == "TimedOut" else run.status
        output = run.output if run.status == "Completed" else run.error
        return {
            "run_id": run.id,
            "run_started_at": format_instant(run.started_at or run.queued_at),
            "function_id": run.function_id,
            "function_version": 1,
            "environment_id": "00000000-0000-4000-b000-000000000000",
            "event_id": json.loads(run.events[0])["id"],
            "status": "Running" if run.is_open else status,
            "ended_at": None if run.ended_at is None else format_instant(run.ended_at),
            "output": output,
        }

    def _cancel_run(self, request: ApiRequest, run_id: str) -> ApiResponse:
        try:
            decode_ulid(run_id)
        except ValueError:
            return _error(400, "Invalid run ID")
        run = self._store.runs.get(run_id)
        if run is None:
            return _error(404, "Run not found")
        if run.is_open:
            self._executor.end(run, "Cancelled", reason="cancelled through the API")
        return ApiResponse(200, b"")

    def _update_metadata(self, request: ApiRequest, run_id: str) -> ApiResponse:
        try:
            decode_ulid(run_id)
        except ValueError:
            return _error(400, "Invalid run ID")
        try:
            body = json.loads(request.body)
        except ValueError:
            return _error(400, "Invalid metadata target")
        run = self._store.runs.get(run_id)
        if run is None:
            # The server accepts (and forgets) updates for runs that it does not know.
            return ApiResponse(200, b"")
        try:
            apply_update(run, body)
        except MetadataRejectedError as rejected:
            return _error(rejected.status, str(rejected))
        finally:
            self._store.save_run(run)
        return ApiResponse(200, b"")

    def _get_event(self, request: ApiRequest, event_id: str) -> ApiResponse:
        received = self._store.events.get(event_id)
        if received is None:
            return _error(404, "Event not found")
        return _data({"internal_id": event_id, **json.loads(received.event)})

    def _event_runs(self, request: ApiRequest, event_id: str) -> ApiResponse:
        received = self._store.events.get(event_id)
        if received is None:
            return _error(404, "Event not found")
        return _data([self._describe(self._store.runs[run_id]) for run_id in received.runs])

    def _receive_traces(self, request: ApiRequest) -> ApiResponse:
        content_type = request.headers.get("content-type", "application/x-protobuf")
        if len(request.body) > _MAX_TRACES:
            return _error(413, "Payload too large")
        is_json = "json" in content_type
        if request.headers.get("content-encoding", "identity") != "identity":
            return _error(400, "Invalid payload")
        if is_json:
            try:
                decode(request.body)
            except ValueError:
                return _error(400, "Invalid payload")
        self.traces.append(UserlandTraces(content_type, request.body, self._clock.now()))
        # An empty ExportTraceServiceResponse: everything was accepted.
        return ApiResponse(200, b"{}" if is_json else b"", content_type)

    def _publish(self, request: ApiRequest) -> ApiResponse:
        channel, topic = request.query.get("channel"), request.query.get("topic")
        if not channel or not topic:
            return _error(400, "channel and topic are required")
        try:
            data = json.loads(request.body) if request.body else None
        except ValueError:
            data = request.body.decode("utf-8", "replace")
        self._broker.publish(RealtimeMessage(channel, topic, data, self._clock.now()))
        return ApiResponse(200, b"")

    def _issue_token(self, request: ApiRequest) -> ApiResponse:
        # No socket, hence nobody to check it; unsigned (RFC 7519 section 6) and recognisable.
        try:
            topics = json.loads(request.body)
        except ValueError:
            return _error(400, "Invalid JSON")
        parts = ({"alg": "none", "typ": "JWT"}, {"iss": "inngest-plugins-local", "topics": topics})
        encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
        token = ".".join(part.rstrip(b"=").decode() for part in encoded)
        return _json({"jwt": f"{token}."}, 201)


def _json(value: Json, status: int = 200) -> ApiResponse:
    return ApiResponse(status, json.dumps(value).encode())


def _data(value: Json) -> ApiResponse:
    return _json({"data": value, "metadata": {"fetched_at": None, "cached_until": None}})


def _error(status: int, message: str) -> ApiResponse:
    return _json({"error": message, "data": None, "status": status}, status)
