"""Subscription tokens: asked of the engine, and how long they last."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx

from .errors import RealtimeError
from .messages import RealtimeTopic


@dataclasses.dataclass(frozen=True, slots=True)
class RealtimeToken:
    """Lets its holder subscribe to some topics until it expires.

    Attributes:
        jwt: the token, as `/v1/realtime/sse` and `/v1/realtime/connect` take it.
        topics: what it is for.
        lifetime: seconds from its issue to its expiry, by the engine's clock; None when it does
            not say. The Inngest server's last a minute, and matter when connecting only.
    """

    jwt: str = dataclasses.field(repr=False)
    topics: tuple[RealtimeTopic, ...]
    lifetime: float | None

    @property
    def signed(self) -> bool:
        """Whether it has a signature (RFC 7519, section 6): the embedded engine's have none."""
        return not self.jwt.endswith(".")


def token_body(topics: Sequence[RealtimeTopic]) -> list[dict[str, str]]:
    """Return the body of `POST /v1/realtime/token`."""
    return [{"kind": "run", "channel": channel, "name": name} for channel, name in topics]


def read_token(response: httpx.Response, topics: Sequence[RealtimeTopic]) -> RealtimeToken:
    """Read the answer to `POST /v1/realtime/token`.

    Raises:
        RealtimeError: it holds no token.
    """
    try:
        jwt = response.json()["jwt"] if response.is_success else None
    except (ValueError, KeyError, TypeError):
        jwt = None
    if not isinstance(jwt, str):
        raise RealtimeError(
            f"no subscription token for {describe(topics)}: the engine answered "
            f"{response.status_code}",
            status=response.status_code,
        )
    return RealtimeToken(jwt, tuple(topics), _lifetime(jwt))


def describe(topics: Sequence[RealtimeTopic]) -> str:
    """Name topics in a message."""
    shown = ", ".join(f"{name!r} of channel {channel!r}" for channel, name in topics[:3])
    return f"topic {shown}" + (", ..." if len(topics) > 3 else "")


def _lifetime(jwt: str) -> float | None:
    try:
        payload = jwt.split(".")[1]
        padded = payload + "=" * (-len(payload) % 4)
        claims: Any = json.loads(base64.urlsafe_b64decode(padded))
        expires = float(claims["exp"])
        # Against the token's own time of issue, so that a clock that is wrong here does not matter.
        lifetime = expires - float(claims.get("iat", time.time()))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return lifetime if lifetime > 0 else None
