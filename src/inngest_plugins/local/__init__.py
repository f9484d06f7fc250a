"""Run Inngest functions on this machine with no server: demos, tests, small deployments."""

from __future__ import annotations

from inngest_plugins.core import require_extra

require_extra("local", "fastapi")

from ._clock import Clock, RealClock, VirtualClock  # noqa: E402 - after the check for the extra
from ._engine import LocalEngine  # noqa: E402
from ._errors import JournalError, LocalEngineError  # noqa: E402
from ._functions import FunctionConfig  # noqa: E402
from ._inference import (  # noqa: E402
    Infer,
    InferenceRequest,
    InferenceResponse,
    infer_over_http,
    json_answer,
)
from ._realtime import RealtimeMessage, Subscription  # noqa: E402
from ._run import (  # noqa: E402
    HookTiming,
    RequestRecord,
    Run,
    RunStatus,
    StepRecord,
    StepStatus,
    Timeline,
    TimelineEntry,
)
from ._transport import EngineTransport  # noqa: E402

__all__ = [
    "Clock",
    "EngineTransport",
    "FunctionConfig",
    "HookTiming",
    "Infer",
    "InferenceRequest",
    "InferenceResponse",
    "JournalError",
    "LocalEngine",
    "LocalEngineError",
    "RealClock",
    "RealtimeMessage",
    "RequestRecord",
    "Run",
    "RunStatus",
    "StepRecord",
    "StepStatus",
    "Subscription",
    "Timeline",
    "TimelineEntry",
    "VirtualClock",
    "infer_over_http",
    "json_answer",
]
