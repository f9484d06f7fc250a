"""``POST /v1/signals``: resumes the step that waits for a signal."""

from __future__ import annotations

import typing

from inngest_plugins.local.executor.events import Router
from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.wire.protocol import strict_json

from .http import ApiRequest, ApiResponse, Routes, data_response, error_response


def signal_routes(router: Router) -> Routes:
    """The routes of signals."""

    def receive(request: ApiRequest) -> ApiResponse:
        try:
            body = strict_json(request.body)
        except ValueError:
            return error_response(400, "Invalid signal data")
        if not isinstance(body, dict):
            return error_response(400, "Invalid signal data")
        body = typing.cast("dict[str, Json]", body)
        name = body.get("signal")
        if not isinstance(name, str) or not name:
            return error_response(500, "Failed to receive signal")
        run = router.signal(name, body.get("data"))
        if run is None:
            return error_response(404, "No signal found")
        return data_response({"run_id": run.id})

    return Routes(("POST", r"/v1/signals", receive))
