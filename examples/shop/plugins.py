"""The plugins of the shop: two of its own, and five of inngest-plugins.

``audit`` is a custom hook: a decorated function. `OrderContext` is a custom plugin: a class.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import time
import typing

import sentry_sdk

from inngest_plugins.core import Call, Hooks, Layer, Outcome, Plugin, StackEntry, Step
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.metadata import MetadataPlugin
from inngest_plugins.otel import OpenTelemetryPlugin
from inngest_plugins.sentry import SentryPlugin
from inngest_plugins.validation import ValidationPlugin

from . import events

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

current_order: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "current_order", default=None
)
"""Number of the order that the current code works on; log filters and clients read it."""

audit = Hooks("audit")
_audit_log = logging.getLogger("shop.audit")


@audit.transform_output
def record_outcome(call: Call, outcome: Outcome) -> None:
    """Leave one line for everything that was decided: which run, which step, how it ended."""
    what = "function" if outcome.step is None else f"step {outcome.step.id}"
    if outcome.raised is None:
        ended = "done"
    else:
        ended = f"{type(outcome.raised).__name__}, " + (
            "retried" if outcome.will_retry else "final"
        )
    _audit_log.info("%s %s: %s %s", call.function_id, call.run_id, what, ended)


class OrderContext(Plugin):
    """Says which order the current code works on, and how long its steps took.

    The order's number is in `current_order` for as long as a request of its run lasts, in hooks,
    steps and everything that they call, and nowhere else.
    """

    layer = Layer.CONTEXT
    fail_open = True

    def __init__(self, slow: float = 1.0) -> None:
        self._slow = slow
        self._log = logging.getLogger("shop.steps")

    def transform_input(self, call: Call) -> None:
        """Note the order for as long as this request lasts."""
        order = call.event.data.get("order_id")
        call.set_context(current_order, order if isinstance(order, str) else None)

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        """Measure a step that really runs."""
        started = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - started
            level = logging.WARNING if took > self._slow else logging.DEBUG
            self._log.log(level, "order %s: %s took %.3f s", current_order.get(), step.id, took)


def plugins() -> list[StackEntry]:
    """Everything that stands around the shop's functions, in any order: layers put it right."""
    # Sentry takes SENTRY_DSN from the environment, and sends nothing without it.
    sentry_sdk.init()
    return [
        audit,
        OrderContext(),
        ValidationPlugin(events=events.ALL),
        EncryptionPlugin(_keys(), event_fields=("customer", "payment")),
        MetadataPlugin(),
        SentryPlugin(),
        OpenTelemetryPlugin(),
    ]


def _keys() -> KeyRing:
    """The shop's keys; on a machine that has none, one that is gone with the process."""
    return KeyRing.from_env("SHOP_KEYS") if "SHOP_KEYS" in os.environ else KeyRing.generate()
