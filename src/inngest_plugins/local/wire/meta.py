"""The ``meta`` of events: sessions, given by hand or passed on by the run that sent the event."""

from __future__ import annotations

import typing
from collections.abc import Mapping

from inngest_plugins.local.journal.records import Json

from .protocol import MalformedError


def resolved_meta(meta: object) -> dict[str, Json]:
    """The resolved meta of an event, as the server resolves it (``pkg/event/sessions.go``).

    ``propagated_sessions`` are the sessions of the run that sent the event. Those under
    ``sessions`` win; a null there takes the one of that name away, and null in place of the whole
    takes all.

    Raises:
        MalformedError: It does not have this form.
    """
    if meta is None:
        return {}
    if not isinstance(meta, Mapping):
        raise MalformedError("meta must be an object")
    meta = typing.cast("Mapping[str, Json]", meta)
    manual = _sessions(meta.get("sessions"), may_be_null=True)
    inherited = _sessions(meta.get("propagated_sessions"), may_be_null=False)
    clears = "sessions" in meta and meta["sessions"] is None
    merged = {**({} if clears else inherited), **manual}
    sessions = {name: session for name, session in merged.items() if session is not None}
    return {"sessions": sessions} if sessions else {}


def _sessions(raw: Json, *, may_be_null: bool) -> dict[str, str | None]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MalformedError("meta.sessions must be an object")
    sessions = typing.cast("dict[str, Json]", raw)
    for session in sessions.values():
        if not isinstance(session, str) and not (may_be_null and session is None):
            raise MalformedError("the values of meta.sessions must be strings")
    return sessions
