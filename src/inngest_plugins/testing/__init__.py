"""Test Inngest functions and plugins on the embedded engine.

The ``inngest_engine`` fixture (a pytest plugin that is there as soon as this is installed) makes
a `Harness`; stubs stand in for steps; ``assert_*`` say what happened when it was not what should
have. See docs/testing.md for the usual shapes of tests.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from ._assertions import assert_completed, assert_failed, assert_steps
    from ._harness import Harness, UnusedStubError
    from ._step_double import StepCall
    from ._stubs import Stub, Stubs, calls, in_turn, passes, raises, returns

__all__ = [
    "Harness",
    "StepCall",
    "Stub",
    "Stubs",
    "UnusedStubError",
    "assert_completed",
    "assert_failed",
    "assert_steps",
    "calls",
    "in_turn",
    "passes",
    "raises",
    "returns",
]

_HOMES: typing.Final = {
    "_assertions": ("assert_completed", "assert_failed", "assert_steps"),
    "_harness": ("Harness", "UnusedStubError"),
    "_step_double": ("StepCall",),
    "_stubs": ("Stub", "Stubs", "calls", "in_turn", "passes", "raises", "returns"),
}


def __getattr__(name: str) -> object:
    # Lazily, because pytest imports this package in every project that has it installed.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
