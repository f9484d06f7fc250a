"""Run Inngest functions on this machine with no server: demos, tests, small deployments."""

from __future__ import annotations

from ._clock import Clock, RealClock, VirtualClock
from ._engine import LocalEngine
from ._errors import JournalError, LocalEngineError
from ._functions import FunctionConfig
from ._inference import (
    Infer,
    InferenceRequest,
    InferenceResponse,
    infer_over_http,
    json_answer,
)
from ._realtime import RealtimeMessage, Subscription
from ._run import (
    HookTiming,
    RequestRecord,
    Run,
    RunStatus,
    StepRecord,
    StepStatus,
    Timeline,
    TimelineEntry,
)
from ._transport import EngineTransport

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
