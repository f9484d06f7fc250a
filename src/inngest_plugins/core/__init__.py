"""The hook protocol that every plugin is written against.

Importing this package puts the core between the `inngest` SDK and its calls: clients on which no
plugin is registered work as before.
"""

from ._call import Call
from ._engine_api import EngineApi, answered_by
from ._errors import (
    CallEndedError,
    EngineApiError,
    HookDefinitionError,
    MissingExtraError,
    PluginsError,
    RegistrationError,
)
from ._extras import require_extra
from ._keys import CallKey
from ._layers import Layer, Phase
from ._memos import Memo, MemoError, Memos
from ._options import check_switch
from ._outcome import Outcome
from ._plugin import Hooks, Plugin, StackEntry
from ._records import HookRecord, record_hooks
from ._send import Send
from ._stack import Stack
from ._step import Step
from ._wiring import install as _install

_install()

__all__ = [
    "Call",
    "CallEndedError",
    "CallKey",
    "EngineApi",
    "EngineApiError",
    "HookDefinitionError",
    "HookRecord",
    "Hooks",
    "Layer",
    "Memo",
    "MemoError",
    "Memos",
    "MissingExtraError",
    "Outcome",
    "Phase",
    "Plugin",
    "PluginsError",
    "RegistrationError",
    "Send",
    "Stack",
    "StackEntry",
    "Step",
    "answered_by",
    "check_switch",
    "record_hooks",
    "require_extra",
]
