"""Health checks that a plugin offers to `inngest-plugins doctor --health`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One thing that a plugin needs and that can be down.

    Attributes:
        name: what is checked, as the report shows it.
        check: asks whether it works; raises when it does not.
    """

    name: str
    check: Callable[[], Awaitable[None]]
