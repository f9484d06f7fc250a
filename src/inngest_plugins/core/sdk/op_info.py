"""The model of an operation that the SDK's own cannot express.

Pydantic takes longer to build it than most modules take to load: it is imported where one is made.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pydantic
from inngest._internal.step_lib import base as step_base

from .door import StepInfo


class OpInfo(StepInfo):
    """An operation with an opcode that the SDK does not know, or with metadata.

    Attributes:
        metadata: what the engine stores with the operation; None for nothing.
    """

    op: enum.Enum  # type: ignore[assignment]
    metadata: list[dict[str, Any]] | None = None

    @pydantic.model_serializer(mode="wrap")
    def _without_absent(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        op = handler(self)
        if self.metadata is None:
            op.pop("metadata", None)
        return op


# The SDK's module has its annotations as text, with names of its own.
OpInfo.model_rebuild(_types_namespace={**vars(step_base), "enum": enum, "Any": Any})
