"""The hook protocol that every plugin is written against.

Importing this package puts the core between the `inngest` SDK and its calls: clients on which no
plugin is registered work as before.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .base.errors import (
    CallEndedError,
    EngineApiError,
    EngineError,
    HookDefinitionError,
    MissingExtraError,
    OpTooLargeError,
    PluginsError,
    RegistrationError,
    RunEndedError,
    StaleDispatchError,
)
from .base.extras import require_extra
from .base.keys import CallKey
from .base.layers import Layer, Phase
from .base.printable import printable
from .base.safe_text import class_name, exception_chain, safe_repr, safe_text, safe_traceback
from .base.switches import check_switch
from .base.timestamps import parse_timestamp
from .base.typed_json import TypedJson, TypedJsonError
from .base.ulids import ulid_time, ulid_value
from .data.answer import Answer
from .data.call import Call
from .data.deferral import DEFERRED_EVENT, DeferredBy
from .data.groups import AroundBranch, AroundGroup, ParallelGroup
from .data.memos import Memo, MemoError, Memos
from .data.outcome import Outcome
from .data.records import HookRecord, record_hooks
from .data.send import Send
from .data.step import Step
from .data.usage import USAGE, USAGE_RECORDER, ModelCall, ModelUsage, UsageRecorder
from .engine.api import EngineApi, answered_by
from .engine.call_engine import CallEngine
from .engine.dispatch import Dispatch
from .entry.calls import install as _install
from .entry.calls import require_calls
from .protocol.hooks import Hooks
from .protocol.plugin import Plugin
from .protocol.sealed import open_sealed
from .sdk.refused import RefusedRequest, refused_request
from .stack.delivery import Delivery, DeliveryRequest, RequestDelivery
from .stack.diagnoses import diagnose_with
from .stack.health import HealthCheck
from .stack.sealed_place import SealedPlace
from .stack.stack import Stack, StackEntry

if TYPE_CHECKING:
    from .realtime import (
        EmbeddedEngineError,
        MessageSource,
        MissedMessages,
        RealtimeConnection,
        RealtimeError,
        RealtimeEvent,
        RealtimeMessage,
        RealtimeTiming,
        RealtimeToken,
        RealtimeTopic,
        RunEnded,
        embed_engine,
        embedded_engine,
    )
    from .sdk.served import served_functions

_install()

__all__ = [
    "DEFERRED_EVENT",
    "USAGE",
    "USAGE_RECORDER",
    "Answer",
    "AroundBranch",
    "AroundGroup",
    "Call",
    "CallEndedError",
    "CallEngine",
    "CallKey",
    "DeferredBy",
    "Delivery",
    "DeliveryRequest",
    "Dispatch",
    "EmbeddedEngineError",
    "EngineApi",
    "EngineApiError",
    "EngineError",
    "HealthCheck",
    "HookDefinitionError",
    "HookRecord",
    "Hooks",
    "Layer",
    "Memo",
    "MemoError",
    "Memos",
    "MessageSource",
    "MissedMessages",
    "MissingExtraError",
    "ModelCall",
    "ModelUsage",
    "OpTooLargeError",
    "Outcome",
    "ParallelGroup",
    "Phase",
    "Plugin",
    "PluginsError",
    "RealtimeConnection",
    "RealtimeError",
    "RealtimeEvent",
    "RealtimeMessage",
    "RealtimeTiming",
    "RealtimeToken",
    "RealtimeTopic",
    "RefusedRequest",
    "RegistrationError",
    "RequestDelivery",
    "RunEnded",
    "RunEndedError",
    "SealedPlace",
    "Send",
    "Stack",
    "StackEntry",
    "StaleDispatchError",
    "Step",
    "TypedJson",
    "TypedJsonError",
    "UsageRecorder",
    "answered_by",
    "check_switch",
    "class_name",
    "diagnose_with",
    "embed_engine",
    "embedded_engine",
    "exception_chain",
    "open_sealed",
    "parse_timestamp",
    "printable",
    "record_hooks",
    "refused_request",
    "require_calls",
    "require_extra",
    "safe_repr",
    "safe_text",
    "safe_traceback",
    "served_functions",
    "ulid_time",
    "ulid_value",
]


def __getattr__(name: str) -> Any:
    """Import what few programs need when it is asked for: `realtime`, and what an app serves."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".sdk.served" if name == "served_functions" else ".realtime"
    return getattr(importlib.import_module(module, __name__), name)
