"""Other runs that get what this run used: the one that invoked it, and the first of the chain."""

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


class RelatedRuns:
    """The parent and the root of a run that was invoked or deferred.

    Args:
        call: a request of the run.
        which: which of the two get what this run used.
    """

    def __init__(self, call: Call, which: Iterable[Relative]) -> None:
        self._run_id = call.run_id
        self._function_id = call.function_id
        link = call.event_attachment(_KEY)
        known: Mapping[str, Any] = link if isinstance(link, dict) else {}  # pyright: ignore[reportUnknownVariableType]
        found = {name: _run_id(known.get(name)) for name in RELATIVES}
        self._root = found["root"] or call.run_id
        wanted = (found[name] for name in which)
        self._run_ids = tuple(dict.fromkeys(run_id for run_id in wanted if run_id is not None))

    def __bool__(self) -> bool:
        return bool(self._run_ids)

    def link(self, step: Step) -> None:
        """Send the ids of its parent and its root along to the run that a step starts."""
        step.attach(_KEY, {"parent": self._run_id, "root": self._root})

    def updates(self, usage: ModelUsage, part: str = "") -> list[Update]:
        """Return the updates that add this run's usage to the metadata of the related runs.

        Each part is written under a key of its own, and never added to. So nothing is counted twice
        when the engine repeats a request or a worker is killed.

        Args:
            usage: what was used.
            part: the part of the run that used it; empty for the results of its steps.
        """
        if not usage.calls:
            return []
        key = f"{self._run_id}/{part}" if part else self._run_id
        values = {key: {"function_id": self._function_id, **usage_as_numbers(usage)}}
        return [Update(run_id, KIND_RUNS, "merge", values, {}) for run_id in self._run_ids]


def _run_id(value: object) -> str | None:
    """Return a run id that is safe in a URL, else None: whoever sends events can write it."""
    return value if isinstance(value, str) and _RUN_ID.fullmatch(value) else None
