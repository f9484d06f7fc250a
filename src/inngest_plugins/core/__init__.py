"""The hook protocol that every plugin is written against.

Importing this package puts the core between the `inngest` SDK and its calls: clients on which no
plugin is registered work as before.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from .base.checks import check_function, check_seconds, check_switch, require_extra
from .base.errors import (
    ArgumentError,
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
from .base.keys import CallKey
from .base.layers import Layer, Phase
from .base.safe_text import (
    class_name,
    exception_chain,
    printable,
    safe_repr,
    safe_text,
    safe_traceback,
)
from .data.call import Call
from .data.call_contexts import AroundBranch, AroundGroup, ParallelGroup
from .data.deferral import DEFERRED_EVENT, DeferredBy
from .data.memos import Memo, MemoError, Memos
from .data.outcome import Outcome
from .data.send import Send
from .data.step import Answer, Step
from .entry.calls import install as _install
from .entry.calls import require_calls
from .protocol.plugin import Plugin
from .stack.diagnoses import diagnose_with
from .stack.stack import Stack, StackEntry

if TYPE_CHECKING:
    from .base.timestamps import parse_timestamp, ulid_time, ulid_value
    from .base.typed_json import TypedJson, TypedJsonError
    from .data.hook_record import HookRecord
    from .data.records import record_hooks
    from .data.usage import USAGE, USAGE_RECORDER, ModelCall, ModelUsage, UsageRecorder
    from .engine.api import EngineApi, answered_by
    from .engine.call_engine import CallEngine
    from .engine.dispatch import Dispatch
    from .protocol.hooks import Hooks
    from .protocol.sealed import open_sealed
    from .realtime.connection import RealtimeConnection
    from .realtime.errors import EmbeddedEngineError, RealtimeError
    from .realtime.messages import (
        MissedMessages,
        RealtimeEvent,
        RealtimeMessage,
        RealtimeTopic,
        RunEnded,
    )
    from .realtime.source import MessageSource, embed_engine, embedded_engine
    from .realtime.subscription import RealtimeTiming
    from .realtime.tokens import RealtimeToken
    from .sdk.refused import RefusedRequest, refused_request
    from .sdk.served import served_functions
    from .stack.delivery import Delivery, DeliveryRequest, RequestDelivery
    from .stack.health import HealthCheck
    from .stack.sealed_place import SealedPlace

_install()

__all__ = [
    "DEFERRED_EVENT",
    "USAGE",
    "USAGE_RECORDER",
    "Answer",
    "ArgumentError",
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
    "check_function",
    "check_seconds",
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

_LATE: Final = {
    "base.timestamps": ("parse_timestamp", "ulid_time", "ulid_value"),
    "base.typed_json": ("TypedJson", "TypedJsonError"),
    "data.hook_record": ("HookRecord",),
    "data.records": ("record_hooks",),
    "data.usage": ("USAGE", "USAGE_RECORDER", "ModelCall", "ModelUsage", "UsageRecorder"),
    "engine.api": ("EngineApi", "answered_by"),
    "engine.call_engine": ("CallEngine",),
    "engine.dispatch": ("Dispatch",),
    "protocol.hooks": ("Hooks",),
    "protocol.sealed": ("open_sealed",),
    "realtime.connection": ("RealtimeConnection",),
    "realtime.errors": ("EmbeddedEngineError", "RealtimeError"),
    "realtime.messages": (
        "MissedMessages",
        "RealtimeEvent",
        "RealtimeMessage",
        "RealtimeTopic",
        "RunEnded",
    ),
    "realtime.source": ("MessageSource", "embed_engine", "embedded_engine"),
    "realtime.subscription": ("RealtimeTiming",),
    "realtime.tokens": ("RealtimeToken",),
    "sdk.refused": ("RefusedRequest", "refused_request"),
    "sdk.served": ("served_functions",),
    "stack.delivery": ("Delivery", "DeliveryRequest", "RequestDelivery"),
    "stack.health": ("HealthCheck",),
    "stack.sealed_place": ("SealedPlace",),
}
"""The modules that are imported when one of their names is asked for."""


def __getattr__(name: str) -> Any:
    """Import what not every stack needs when it is asked for."""
    for module, names in _LATE.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
