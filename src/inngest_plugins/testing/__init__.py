"""Test Inngest functions and plugins on the embedded engine.

The ``inngest_engine`` fixture (a pytest plugin that is there as soon as this is installed) makes
a `Harness`; stubs replace steps; the messages of ``assert_*`` say what happened instead. See
docs/testing.md for the usual shapes of tests.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from ._assertions import assert_completed, assert_failed, assert_steps
    from ._harness import Harness, UnknownServiceError, UnusedStubError
    from ._step_double import StepCall
    from ._stubs import Stub, Stubs, calls, in_turn, passes, raises, returns

__all__ = [
    "Harness",
    "StepCall",
    "Stub",
    "Stubs",
    "UnknownServiceError",
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
    "_harness": ("Harness", "UnknownServiceError", "UnusedStubError"),
    "_step_double": ("StepCall",),
    "_stubs": ("Stub", "Stubs", "calls", "in_turn", "passes", "raises", "returns"),
}


def __getattr__(name: str) -> object:
    # pytest imports this package in every project that has it installed, so the package imports
    # nothing, not even the core, until a program uses a name.
    for module, names in _HOMES.items():
        if name in names:
            core = importlib.import_module("inngest_plugins.core")
            core.require_extra("testing", "fastapi")
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
