"""Usage as the engine's metadata, and the requests for what no step's answer carries."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from inngest_plugins.ai.calls.model_call import usage_as_numbers
from inngest_plugins.core import Call, EngineApi, ModelCall, ModelUsage, safe_text

_logger = logging.getLogger("inngest_plugins.ai")

KIND_ATTEMPT = "inngest.ai"
KIND_RUN = "userland.ai"
KIND_RUNS = "userland.ai.runs"


@dataclass(frozen=True)
class Update:
    """Metadata that is sent to the engine by a request of its own.

    Attributes:
        run_id: the run it is about.
        kind: what the values are.
        op: the engine's operation; an "add" is never repeated.
        values: the values.
        target: the step of the run; empty for the run itself.
    """

    run_id: str
    kind: str
    op: Literal["merge", "add"]
    values: dict[str, Any]
    target: dict[str, Any]

    def send(self, call: Call) -> None:
        """Send it, from a thread that may wait. A failure is logged and fails no run."""
        entry = {"kind": self.kind, "op": self.op, "values": self.values}
        body = {"target": self.target, "metadata": [entry]}
        try:
            api = EngineApi(call.client, attempts=1 if self.op == "add" else 3)
            response = api.request_sync("POST", f"/v1/runs/{self.run_id}/metadata", json=body)
            response.raise_for_status()
        except Exception as err:
            _logger.warning(
                "run %s: what model calls used was not sent to the engine: %s",
                call.run_id,
                safe_text(err),
            )


def of_attempt(run_id: str, step_id: str | None, number: int, calls: Iterable[ModelCall]) -> Update:
    """Return the metadata of an attempt of a step."""
    target = {"step_id": step_id, "step_attempt": number}
    return Update(run_id, KIND_ATTEMPT, "merge", engine_values(calls), target)


def of_run(run_id: str, usage: ModelUsage) -> Update:
    """Return the metadata that adds to a run's total."""
    return Update(run_id, KIND_RUN, "add", usage_as_numbers(usage), {})


def engine_values(calls: Iterable[ModelCall]) -> dict[str, Any]:
    """Return the calls of an attempt as the engine's `inngest.ai` metadata."""
    calls = list(calls)
    usage = sum((call.as_usage() for call in calls), ModelUsage())
    values: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        # The engine prices the whole by one name: several models must not pass for one.
        "request_model": _names(call.model for call in calls),
        "provider": _names(call.provider or "unknown" for call in calls),
        "operation_name": _names(call.operation for call in calls),
    }
    answered = _names(call.response_model for call in calls if call.response_model is not None)
    optional = {
        "response_model": answered,
        "cache_read_tokens": usage.cache_read_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    return values | {name: value for name, value in optional.items() if value}


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
