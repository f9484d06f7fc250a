"""What the engine's hashed step ids stand for, as far as this process has seen."""

from __future__ import annotations

import threading

from inngest_plugins.core import Step

_CAPACITY = 4096
_SHOWN = 8


class StepNames:
    """Remembers the ids that users gave to steps; the oldest are forgotten.

    A cache: which step a hash stands for follows from the function's source.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def learn(self, function_id: str, step: Step) -> None:
        """Note a step that this process has reached."""
        key = (function_id, step.hashed_id)
        if key in self._names:
            return
        repeat = f" ({step.index + 1}. use)" if step.index else ""
        with self._lock:
            if len(self._names) >= _CAPACITY:
                del self._names[next(iter(self._names))]
            self._names[key] = f"{step.id!r}{repeat}"

    def of(self, function_id: str, hashed_id: str) -> str:
        """Return the step's id as the user gave it, or the beginning of its hash."""
        return self._names.get((function_id, hashed_id)) or f"{hashed_id[:_SHOWN]}…"
