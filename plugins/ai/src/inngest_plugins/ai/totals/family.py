"""The runs that are told what this run used, too: the one that invoked it, and the first of all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from inngest_plugins.ai.calls.model_call import usage_as_numbers
from inngest_plugins.core import Call, ModelUsage, Step

from .updates import KIND_RUNS, Update

Relative: TypeAlias = Literal["parent", "root"]

RELATIVES: tuple[Relative, ...] = ("parent", "root")

_KEY = "ai"
_RUN_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class Family:
    """The parent and the root of a run that was invoked or deferred.

    Args:
        call: a request of the run.
        asked: which of them are told.
    """

    def __init__(self, call: Call, asked: Iterable[Relative]) -> None:
        self._run_id = call.run_id
        self._function_id = call.function_id
        link = call.event_attachment(_KEY)
        known: Mapping[str, Any] = link if isinstance(link, dict) else {}  # pyright: ignore[reportUnknownVariableType]
        found = {name: _run_id(known.get(name)) for name in RELATIVES}
        self._root = found["root"] or call.run_id
        told = (found[name] for name in asked)
        self._told = tuple(dict.fromkeys(run_id for run_id in told if run_id is not None))

    def __bool__(self) -> bool:
        return bool(self._told)

    def link(self, step: Step) -> None:
        """Have the run that a step starts know its parent and its root."""
        step.attach(_KEY, {"parent": self._run_id, "root": self._root})

    def updates(self, usage: ModelUsage, part: str = "") -> list[Update]:
        """Return what the relatives are told.

        Each part has a key of its own, which is written and not added to: an engine that asks for
        the same request again, and a worker that was killed in between, change nothing.

        Args:
            usage: what was used.
            part: the part of the run that used it; empty for what its steps returned with.
        """
        if not usage.calls:
            return []
        key = f"{self._run_id}/{part}" if part else self._run_id
        values = {key: {"function_id": self._function_id, **usage_as_numbers(usage)}}
        return [Update(run_id, KIND_RUNS, "merge", values, {}) for run_id in self._told]


def _run_id(value: object) -> str | None:
    """Return a run id that is safe in a URL: it may come from anybody who sends events."""
    return value if isinstance(value, str) and _RUN_ID.fullmatch(value) else None
