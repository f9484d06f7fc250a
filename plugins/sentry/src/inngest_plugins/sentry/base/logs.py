"""Takes texts out of Sentry's structured logs, which no event processor sees.

`sentry_sdk.init(enable_logs=True)` sends logs separately from events. The only place to change them
is the client's `before_send_log`, so the user's own is wrapped.
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
"""Prefixes of the attributes that say where a log is from, and nothing of its text."""


def filter_sent_logs(client: BaseClient, hides: Callable[[], bool]) -> None:
    """Take the texts out of Sentry's structured logs. Only the first call counts.

    Args:
        client: Sentry's client.
        hides: whether the texts of the code that is logging now must stay here.
    """
    options: dict[str, Any] = client.options
    experiments = options.get("_experiments") or {}
    if not (options.get("enable_logs") or experiments.get("enable_logs")):
        return
    wanted = options.get(_OPTION) or experiments.get(_OPTION)
    if not isinstance(wanted, _Filter):
        options[_OPTION] = _Filter(wanted, hides)


class _Filter:
    """A `before_send_log` that calls the user's own after it."""

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
