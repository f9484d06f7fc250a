"""Steps for which the engine makes a request of its own: inference and durable fetch.

The engine fetches nothing because a payload says so: without an ``infer=`` or a ``gateway=``
argument such steps fail with a message that says what to pass.
"""

from __future__ import annotations

from inngest_plugins.local.journal.records import Json
from inngest_plugins.local.journal.state import StepState
from inngest_plugins.local.journal.store import Store
from inngest_plugins.local.wire.protocol import canonical

from .gateway import GatewayError, GatewayTransport, fetch
from .inference import Infer, InferenceRequest, run_inference
from .memos import Memos
from .ops import Handler, Op, Report, check_state
from .retries import Retries


class Outbound:
    """Makes requests for steps, and tries again when there was no answer.

    Args:
        store: The state.
        memos: Saves what steps gave.
        retries: Queues next attempts.
        infer: Makes inference calls for ``step.ai``; None refuses them.
        gateway: Makes the requests of ``Gateway`` ops; None refuses them.
    """

    def __init__(
        self,
        *,
        store: Store,
        memos: Memos,
        retries: Retries,
        infer: Infer | None,
        gateway: GatewayTransport | None,
    ) -> None:
        self._store = store
        self._memos = memos
        self._retries = retries
        self._infer = infer
        self._gateway = gateway
        self.handlers: dict[str, Handler] = {
            "AIGateway": self._infer_step,
            "Gateway": self._fetch_step,
        }

    def _begin(self, report: Report, step: StepState) -> None:
        step.attempts, step.status = report.job.attempt + 1, "Retrying"
        self._store.save_step(report.run, step)

    def _completed(self, report: Report, step: StepState, data: Json) -> bool:
        memo = canonical({"data": data})
        check_state(report.run, memo)
        self._finish(report, step, memo, failed=False)
        return False

    def _failed(
        self,
        report: Report,
        step: StepState,
        error: dict[str, Json],
        *,
        more: dict[str, Json] | None = None,
        final: bool,
    ) -> bool:
        """Try again, or store the error (and ``more`` of it)."""
        step.errors.append(canonical(error))
        if report.job.attempt + 1 < report.max_attempts and not final:
            self._store.save_step(report.run, step)
            self._retries.again(report.job)
            return True
        self._finish(report, step, canonical({"error": {**error, **(more or {})}}), failed=True)
        return False

    def _finish(self, report: Report, step: StepState, memo: str, *, failed: bool) -> None:
        self._memos.finish(
            report.run,
            step,
            memo,
            "Failed" if failed else "Completed",
            resets_plan=report.resets_plan,
            race=step.race,
        )

    async def _infer_step(self, report: Report, step: StepState, op: Op) -> bool:
        request = InferenceRequest.from_opts(op["opts"])
        # The key must not end up in the journal or a report.
        step.opts = {key: value for key, value in op["opts"].items() if key != "auth_key"}
        self._begin(report, step)
        response = await run_inference(self._infer, request)
        if not report.run.is_open:
            return False
        if response.status <= 299:
            return self._completed(report, step, response.json())
        why = response.failure or f"unsuccessful status code: {response.status}"
        error = {
            "name": "AIGatewayError",
            "message": f"Error making AI request: {why}",
            "stack": response.text,
        }
        return self._failed(
            report,
            step,
            error,
            more={"data": response.json()},
            final=self._infer is None,
        )

    async def _fetch_step(self, report: Report, step: StepState, op: Op) -> bool:
        self._begin(report, step)
        error: dict[str, Json] | None = None
        try:
            answer = await fetch(self._gateway, op["opts"])
        except GatewayError as failure:
            answer = {}
            message = f"Error making gateway request: {failure}"
            error = {"name": "GatewayError", "message": message}
        if not report.run.is_open:
            return False
        if error is None:
            return self._completed(report, step, answer)
        return self._failed(report, step, error, final=self._gateway is None)
