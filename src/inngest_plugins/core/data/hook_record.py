"""The record of one hook that ran; few programs make one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HookRecord:
    """One hook that ran.

    Attributes:
        plugin: name of the plugin.
        hook: name of the hook.
        run_id: ULID of the run, or None for a send outside of a run.
        request_id: the engine's id of the request, or None.
        started_at: Unix time in seconds.
        duration: how long it took, in seconds; for `around_step`, as long as it was open.
        error: class name of the exception it raised, or None.
    """

    plugin: str
    hook: str
    run_id: str | None
    request_id: str | None
    started_at: float
    duration: float
    error: str | None
