"""Whether a run has ended, asked of the engine's API."""

from __future__ import annotations

from typing import Any, Final, Protocol

import httpx

from inngest_plugins.core.base.safe_text import class_name
from inngest_plugins.core.engine.api import EngineApi

from .errors import RealtimeError
from .source import MessageSource

# `enums.RunStatus` of the server, less those of a run that may still do something.
_ENDED: Final = frozenset({"Completed", "Failed", "Cancelled", "Skipped", "Overflowed"})


class RunStatus(Protocol):
    """Asks for a run's status."""

    async def __call__(self, run_id: str) -> str | None:
        """Return how the run has ended; None while it runs, or when nobody knows."""
        ...


def status_at(api: EngineApi) -> RunStatus:
    """Ask the server."""

    async def status(run_id: str) -> str | None:
        try:
            return _ended(await api.request("GET", f"/v1/runs/{run_id}"))
        except Exception:  # the SDK's HTTP layer raises bare ones
            # Asked again soon. A server answers 500 for a run that it does not know yet.
            return None

    return status


def status_in(source: MessageSource) -> RunStatus:
    """Ask an engine in process."""

    async def status(run_id: str) -> str | None:
        transport: object = getattr(source, "transport", None)
        if not isinstance(transport, httpx.AsyncBaseTransport):
            return None
        # Not closed: the transport is the engine's.
        http = httpx.AsyncClient(transport=transport, base_url="http://engine")
        try:
            return _ended(await http.get(f"/v1/runs/{run_id}"))
        except (httpx.HTTPError, RuntimeError):
            return None

    return status


def check_run_id(run_id: str) -> None:
    """Refuse what would change the path that is asked.

    Raises:
        RealtimeError: the id is no text, or has other characters than a ULID's.
    """
    given: object = run_id
    if not isinstance(given, str):
        raise RealtimeError(f"a run id is a ULID, and no {class_name(given)}")
    if not (run_id.isascii() and run_id.isalnum()):
        raise RealtimeError(f"a run id is a ULID; this one has {len(run_id)} other characters")


def _ended(response: httpx.Response) -> str | None:
    try:
        run: Any = response.json()["data"] if response.is_success else {}
        status = run.get("status")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return status if status in _ENDED else None
