"""The stored result of an agent's step: the result itself, and the usage that it added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai.usage import RunUsage

from inngest_plugins.agents._errors import StepValueError
from inngest_plugins.core import class_name

_USAGE: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)


def stored(payload: object, used: RunUsage) -> dict[str, Any]:
    """Return what a step stores.

    Args:
        payload: the result, JSON.
        used: what the step added to the run's usage; a replay adds it again.
    """
    memo: dict[str, Any] = {"result": payload}
    if used.has_values():
        memo["usage"] = _USAGE.dump_python(used, mode="json")
    return memo


def restored(memo: object, step_id: str) -> tuple[Any, RunUsage]:
    """Return the result and the usage that a step stored.

    Raises:
        StepValueError: what the engine holds under the step's id was not stored by an agent.
    """
    if not isinstance(memo, Mapping) or "result" not in memo:
        raise StepValueError(
            f"step {step_id!r}: the stored result is {class_name(memo)} and not what an agent "
            "stores. Another step of the function has the same id: rename one of them"
        )
    return memo["result"], _USAGE.validate_python(memo.get("usage") or {})
