"""Run Inngest functions on this machine with no server: demos, tests, small deployments."""

from __future__ import annotations

from . import _extra as _extra
from ._clock import Clock, RealClock, VirtualClock
from ._engine import LocalEngine
from ._errors import JournalError, LocalEngineError
from .functions.config import FunctionConfig
from .journal.records import (
    DeferRecord,
    DeferStatus,
    RequestRecord,
    RunStatus,
    StepRecord,
    StepStatus,
)
from .report.run import Run
from .report.run_view import OpenedRun
from .report.timeline import Timeline, TimelineEntry
from .server.realtime import RealtimeMessage, Subscription
from .server.transport import EngineTransport
from .steps.gateway import GatewayTransport
from .steps.inference import (
    Infer,
    InferenceRequest,
    InferenceResponse,
    infer_over_http,
    json_answer,
)

__all__ = [
    "Clock",
    "DeferRecord",
    "DeferStatus",
    "EngineTransport",
    "FunctionConfig",
    "GatewayTransport",
    "Infer",
    "InferenceRequest",
    "InferenceResponse",
    "JournalError",
    "LocalEngine",
    "LocalEngineError",
    "OpenedRun",
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
