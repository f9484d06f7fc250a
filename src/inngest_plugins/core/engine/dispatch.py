"""The identity of a request at the engine, which checkpoints and deferred functions send back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pydantic


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One dispatch of a queue job to the app, as the engine names it.

    What the engine did not send is empty or 0: older servers, and bodies made by hand.

    Attributes:
        run_id: ULID of the run.
        fn_id: the engine's UUID of the function, not the id that the app gave it.
        qi_id: the queue item.
        generation_id: counts the dispatches of that item; 0 when it was not sent.
        request_id: ULID of the request, new for each.
        started_at: when the request reached the core, in milliseconds since the epoch.
    """

    run_id: str
    fn_id: str
    qi_id: str
    generation_id: int
    request_id: str
    started_at: int

    @property
    def is_known(self) -> bool:
        """Whether the engine knows which run and function an op sent from here belongs to."""
        return bool(self.run_id and self.fn_id)


@dataclass(frozen=True, slots=True)
class Identity:
    """The parts of a request's body that the SDK's model of it lacks.

    Attributes:
        ctx: the body's `ctx`.
        defers: the functions that the run has deferred, by hash.
    """

    ctx: Mapping[str, Any] = field(default_factory=dict[str, Any])
    defers: Mapping[str, Mapping[str, bool]] = field(default_factory=dict[str, dict[str, bool]])


class _Body(pydantic.BaseModel):
    """The two parts of the body; events and memos, which can be megabytes, are passed over."""

    ctx: dict[str, Any] = {}
    defers: dict[str, dict[str, bool]] | None = None


def read_identity(body: bytes | str | None) -> Identity:
    """Read the identity from a raw body; return an empty one if the body has none."""
    if not body:
        return Identity()
    try:
        read = _Body.model_validate_json(body)
    except pydantic.ValidationError:
        return Identity()
    return Identity(read.ctx, read.defers or {})


def make_dispatch(
    identity: Identity, run_id: str, request_id: str | None, *, started: float
) -> Dispatch:
    """Make the dispatch of a request.

    Args:
        identity: what the body says.
        run_id: ULID of the run, as the SDK read it.
        request_id: from the request's headers, for engines that leave it out of the body.
        started: when the request reached the core, in seconds since the epoch.
    """
    ctx = identity.ctx
    generation = ctx.get("generation_id")
    return Dispatch(
        run_id=run_id,
        fn_id=_text(ctx.get("fn_id")),
        qi_id=_text(ctx.get("qi_id")),
        generation_id=generation if isinstance(generation, int) else 0,
        request_id=_text(ctx.get("request_id")) or request_id or "",
        started_at=int(started * 1000),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
