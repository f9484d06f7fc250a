"""`USAGE_RECORDER`: the model calls that other plugins make."""

from __future__ import annotations

from inngest_plugins.ai.calls.attempt import BY_PLUGIN
from inngest_plugins.ai.totals.run_usage import RunUsage
from inngest_plugins.core import ModelCall


class Recorder:
    """The `UsageRecorder` of a request.

    Args:
        state: what is known of the run.
    """

    def __init__(self, state: RunUsage) -> None:
        self._state = state

    def record(self, call: ModelCall) -> None:
        """Count a call in the step that the current code belongs to."""
        self._state.record_automatic(call, BY_PLUGIN, self._state.current())

    def recorded(self, call: ModelCall) -> None:
        """Remember in the body a call that a step has counted."""
        self._state.mark_counted_by_step(call)
