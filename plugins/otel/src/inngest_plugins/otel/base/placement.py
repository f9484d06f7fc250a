"""Where a run is in the engine's own trace view."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote


class Placement:
    """Where spans belong in the engine's view of a run.

    Attributes:
        run_id: ULID of the run.
        traceref: the `inngest@traceref` entry of the `tracestate` header, as it is.
        function_uuid: the `inngest@fn` entry.
    """

    __slots__ = ("function_uuid", "run_id", "traceref")

    def __init__(self, run_id: str, traceref: str, function_uuid: str) -> None:
        self.run_id = run_id
        self.traceref = traceref
        self.function_uuid = function_uuid

    @classmethod
    def from_headers(cls, run_id: str, headers: Mapping[str, str]) -> Placement | None:
        """Read the placement off a request; None if the engine did not send it.

        Args:
            run_id: ULID of the run.
            headers: with `tracestate` in the form `inngest@traceref=...,inngest@fn=...`.
        """
        entries = dict(
            entry.strip().split("=", 1)
            for entry in headers.get("tracestate", "").split(",")
            if "=" in entry
        )
        traceref, function = entries.get("inngest@traceref"), entries.get("inngest@fn")
        if not traceref or not function:
            return None
        return cls(run_id, traceref, unquote(function))
