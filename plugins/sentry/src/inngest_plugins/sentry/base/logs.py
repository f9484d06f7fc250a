"""Sentry's structured logs, which pass no event processor of any scope.

`sentry_sdk.init(enable_logs=True)` sends what is logged beside events. The only place to take
something out is the client's `before_send_log`, so that of the user is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sentry_sdk.client import BaseClient

from inngest_plugins.sentry.base.privacy import FILTERED

if TYPE_CHECKING:
    from sentry_sdk.types import Hint, Log

_OPTION: Final = "before_send_log"
_KEPT: Final = (
    "code.",
    "logger.",
    "process.",
    "sentry.environment",
    "sentry.origin",
    "sentry.release",
    "sentry.sdk.",
    "sentry.severity",
    "sentry.trace",
    "server.",
    "thread.",
    "user.",
)
"""Beginnings of the attributes that say where a log is from, and nothing of what it says."""


def filter_sent_logs(client: BaseClient, hides: Callable[[], bool]) -> None:
    """Have the texts of Sentry's structured logs taken out; the first time counts.

    Args:
        client: Sentry's client.
        hides: whether the code that is logging now must not tell what it says.
    """
    options: dict[str, Any] = client.options
    experiments = options.get("_experiments") or {}
    if not (options.get("enable_logs") or experiments.get("enable_logs")):
        return
    wanted = options.get(_OPTION) or experiments.get(_OPTION)
    if not isinstance(wanted, _Filter):
        options[_OPTION] = _Filter(wanted, hides)


class _Filter:
    """A `before_send_log` in front of that of the user."""

    def __init__(
        self, inner: Callable[[Log, Hint], Log | None] | None, hides: Callable[[], bool]
    ) -> None:
        self._inner = inner
        self._hides = hides

    def __call__(self, log: Log, hint: Hint) -> Log | None:
        if self._hides():
            kept = {k: v for k, v in log["attributes"].items() if k.startswith(_KEPT)}
            log = {**log, "body": FILTERED, "attributes": kept}
        return log if self._inner is None else self._inner(log, hint)
