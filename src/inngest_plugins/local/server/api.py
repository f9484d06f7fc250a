"""The server's REST surface, as far as the SDK and plugins need it.

All of it runs on the engine's event loop thread and never waits, so it can be called from
anywhere (see `transport.py`).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
from collections.abc import Callable

from inngest_plugins.core import class_name
from inngest_plugins.local._clock import Clock
from inngest_plugins.local._errors import LocalEngineError
from inngest_plugins.local.executor.events import Router
from inngest_plugins.local.executor.executor import Executor
from inngest_plugins.local.executor.received import InvalidEventError
from inngest_plugins.local.journal.journal import JOURNAL_FAILURES
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import RunState
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.steps.metadata import MetadataRejectedError, apply_update
from inngest_plugins.local.wire.ids import app_uuid, decode_ulid, seeded_ulid
from inngest_plugins.local.wire.protocol import decode, format_instant, loads, steps_json

from .checkpoints import checkpoint_routes
from .http import ApiRequest, ApiResponse, Routes, data_response, error_response, json_response
from .realtime import Broker, RealtimeMessage
from .runs import RunsApi
from .signals import signal_routes

_logger = logging.getLogger("inngest_plugins.local")

_MAX_TRACES = 8 * 1024 * 1024


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
        runs: Answers for runs.
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
        runs: RunsApi,
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
        self._routes = [
            Routes(
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
            ),
            checkpoint_routes(executor.checkpoints),
            signal_routes(router),
            runs.routes(),
        ]

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request and make its effects permanent."""
        try:
            for routes in self._routes:
                response = routes.answer(request)
                if response is not None:
                    return response
        except JOURNAL_FAILURES:
            raise
        except Exception as error:
            _logger.exception("%s %s failed", request.method, request.path)
            return error_response(500, f"LocalEngine failed: {class_name(error)}")
        finally:
            self._store.commit()
        return error_response(404, f"{request.method} {request.path} is not served by LocalEngine")

    def _receive_events(self, request: ApiRequest) -> ApiResponse:
        try:
            body = loads(request.body or b"[]")
        except ValueError:
            return error_response(400, "Unable to process event payload: not JSON")
        events = body if isinstance(body, list) else [body]
        sender, ids = self._sender(request), list[str]()
        seed = request.headers.get("x-inngest-event-id-seed", "")
        try:
            for number, event in enumerate(events, 1):
                event_id = seeded_ulid(seed, number)
                ids.append(self._router.receive(event, sender=sender, seeded_id=event_id))
        except InvalidEventError as error:
            return json_response({"ids": ids or [""], "status": 400, "error": str(error)}, 400)
        # The server fills a list that has one place at least.
        return json_response({"ids": ids or [""], "status": 200})

    def _register_functions(self, request: ApiRequest) -> ApiResponse:
        try:
            self._register(loads(request.body))
        except LocalEngineError as error:
            return json_response({"error": str(error), "status": 400}, 400)
        uuid = app_uuid(self._app_id)
        return json_response({"ok": True, "modified": True, "sync_id": uuid, "app_id": uuid})

    def _run_actions(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._store.runs.get(run_id)
        if run is None:
            return error_response(404, "Run not found")
        if not run.is_open:
            return error_response(410, "Run has ended")
        return ApiResponse(200, steps_json(run).encode("utf-8", "replace"))

    def _run_batch(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._store.runs.get(run_id)
        if run is None:
            return error_response(404, "Run not found")
        if not run.is_open:
            return error_response(410, "Run has ended")
        events = [json.loads(event) for event in run.events]
        return json_response([{k: v for k, v in e.items() if k != "user" or v} for e in events])

    def _get_run(self, request: ApiRequest, run_id: str) -> ApiResponse:
        run = self._store.runs.get(run_id)
        if run is None:
            return error_response(404, "Run not found")
        return data_response(self._describe(run))

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
            return error_response(400, "Invalid run ID")
        run = self._store.runs.get(run_id)
        if run is None:
            return error_response(404, "Run not found")
        if run.is_open:
            self._executor.end(run, "Cancelled", reason="cancelled through the API")
        return ApiResponse(200, b"")

    def _update_metadata(self, request: ApiRequest, run_id: str) -> ApiResponse:
        try:
            decode_ulid(run_id)
        except ValueError:
            return error_response(400, "Invalid run ID")
        try:
            body = loads(request.body)
        except ValueError:
            return error_response(400, "Invalid metadata target")
        run = self._store.runs.get(run_id)
        if run is None:
            # The server accepts (and forgets) updates for runs that it does not know.
            return ApiResponse(200, b"")
        try:
            apply_update(self._store, run, body)
        except MetadataRejectedError as rejected:
            return error_response(rejected.status, str(rejected))
        return ApiResponse(200, b"")

    def _get_event(self, request: ApiRequest, event_id: str) -> ApiResponse:
        received = self._store.events.get(event_id)
        if received is None:
            return error_response(404, "Event not found")
        return data_response({"internal_id": event_id, **json.loads(received.event)})

    def _event_runs(self, request: ApiRequest, event_id: str) -> ApiResponse:
        received = self._store.events.get(event_id)
        if received is None:
            return error_response(404, "Event not found")
        return data_response([self._describe(self._store.runs[run_id]) for run_id in received.runs])

    def _receive_traces(self, request: ApiRequest) -> ApiResponse:
        content_type = request.headers.get("content-type", "application/x-protobuf")
        if len(request.body) > _MAX_TRACES:
            return error_response(413, "Payload too large")
        is_json = "json" in content_type
        if request.headers.get("content-encoding", "identity") != "identity":
            return error_response(400, "Invalid payload")
        if is_json:
            try:
                decode(request.body)
            except ValueError:
                return error_response(400, "Invalid payload")
        self.traces.append(UserlandTraces(content_type, request.body, self._clock.now()))
        # An empty ExportTraceServiceResponse: everything was accepted.
        return ApiResponse(200, b"{}" if is_json else b"", content_type)

    def _publish(self, request: ApiRequest) -> ApiResponse:
        # As on the server, where a message of no channel or topic is accepted and nobody's.
        channel, topic = request.query.get("channel", ""), request.query.get("topic", "")
        try:
            data = loads(request.body)
        except ValueError:
            data = request.body.decode("utf-8", "replace")
        self._broker.publish(RealtimeMessage(channel, topic, data, self._clock.now()))
        return ApiResponse(200, b"")

    def _issue_token(self, request: ApiRequest) -> ApiResponse:
        # No socket, hence nobody to check it; unsigned (RFC 7519 section 6) and recognisable.
        try:
            topics = loads(request.body)
        except ValueError:
            topics = None
        if not isinstance(topics, list):
            return error_response(400, "Invalid request: must provide a list of topics")
        parts = ({"alg": "none", "typ": "JWT"}, {"iss": "inngest-plugins-local", "topics": topics})
        encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
        token = ".".join(part.rstrip(b"=").decode() for part in encoded)
        return json_response({"jwt": f"{token}."}, 201)
