"""The plugin's options, checked when it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Optional

from inngest_plugins.core import ArgumentError, Call, Outcome, check_seconds, check_switch
from inngest_plugins.sentry.base.privacy import DECRYPTED

if TYPE_CHECKING:
    from sentry_sdk.types import Event

Capture = Literal["final", "every"]
StepErrors = Literal["capture", "immediate", "breadcrumb"]
CaughtStepErrors = Literal["warning", "ignore"]
RefusedOption = Literal["warning", "ignore"]
BeforeCapture = Callable[[Call, Outcome | None, "Event"], Optional["Event"]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose; see `SentryPlugin` for the meaning of each.

    Raises:
        ArgumentError: names the option and what it may be: a switch is no bool, `send_decrypted`
            is a single name, `before_capture` cannot be called.
    """

    capture: Capture
    step_errors: StepErrors
    caught_step_errors: CaughtStepErrors
    refused_requests: RefusedOption
    send_payloads: bool
    send_decrypted: Collection[str]
    propagate: bool
    crons: bool
    flush: bool | None
    flush_timeout: float
    before_capture: BeforeCapture | None

    def __post_init__(self) -> None:
        _check("capture", self.capture, ("final", "every"))
        _check("step_errors", self.step_errors, ("capture", "immediate", "breadcrumb"))
        _check("caught_step_errors", self.caught_step_errors, ("warning", "ignore"))
        _check("refused_requests", self.refused_requests, ("warning", "ignore"))
        names: object = self.send_decrypted
        if isinstance(names, str) or not isinstance(names, Collection):
            example = repr(names) if isinstance(names, str) else "'payloads'"
            raise ArgumentError(
                "SentryPlugin(send_decrypted=...) takes a collection of names, such as "
                f"({example},)"
            )
        for switch in ("send_payloads", "propagate", "crons"):
            check_switch(f"SentryPlugin({switch}=...)", getattr(self, switch))
        if self.flush is not None:
            check_switch("SentryPlugin(flush=...)", self.flush, "True, False or None")
        option = "SentryPlugin(flush_timeout=...)"
        check_seconds(option, self.flush_timeout)
        if self.before_capture is not None:
            _check_callback(self.before_capture)
        for name in self.send_decrypted:
            _check("send_decrypted", name, sorted(DECRYPTED))


def _check_callback(callback: object) -> None:
    """Refuse now what would otherwise fail when a failure is reported."""
    wanted = "SentryPlugin(before_capture=...) takes a function (call, outcome, event) -> event"
    if not callable(callback):
        raise ArgumentError(f"{wanted} or None, not {type(callback).__name__}")
    if inspect.iscoroutinefunction(callback):
        raise ArgumentError(f"{wanted} or None: make it a plain def, Sentry cannot await it")
    try:
        signature = inspect.signature(callback)
    except ValueError:
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise ArgumentError(f"{wanted} or None, and this one: {error}") from None


def _check(option: str, value: object, allowed: Collection[str]) -> None:
    if value not in allowed:
        shown = ", ".join(repr(one) for one in allowed)
        raise ArgumentError(f"SentryPlugin({option}={value!r}) is not known: use one of {shown}")
