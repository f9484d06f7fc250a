"""Names of the attributes that the plugin sets beyond OpenTelemetry's conventions."""

from __future__ import annotations

from typing import Final

APP_ID: Final = "inngest.app.id"
FUNCTION_ID: Final = "inngest.function.id"
RUN_ID: Final = "inngest.run.id"
REQUEST_ID: Final = "inngest.request.id"
JOB_ID: Final = "inngest.job.id"
HANDLER: Final = "inngest.handler"
ATTEMPT: Final = "inngest.attempt"
MEMOIZED: Final = "inngest.memoized_steps"
OUTCOME: Final = "inngest.outcome"
"""The result of a request or a step: see `Result`."""

STEP_ID: Final = "inngest.step.id"
STEP_HASH: Final = "inngest.step.hash"
STEP_INDEX: Final = "inngest.step.index"
STEP_OP: Final = "inngest.step.op"

MODELS: Final = "inngest.step.models"
MODEL_CALLS: Final = "inngest.step.model_calls"
INPUT_TOKENS: Final = "inngest.step.input_tokens"
OUTPUT_TOKENS: Final = "inngest.step.output_tokens"
COST: Final = "inngest.step.cost_usd"
UNPRICED: Final = "inngest.step.unpriced_calls"
"""The number of calls without a known price, which are not in the cost."""

EVENT_IDS: Final = "inngest.event.ids"
START_ESTIMATED: Final = "inngest.start_estimated"
"""True on a span whose real start only another process has seen."""

INPUT: Final = "inngest.input"
OUTPUT: Final = "inngest.output"

DIRECTION: Final = "inngest.payload.direction"
HOOK: Final = "inngest.plugin.hook"
STATUS: Final = "inngest.run.status"
