"""The plugin's options, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Optional

from inngest_plugins.core import Call, Outcome

from ._privacy import DECRYPTED

if TYPE_CHECKING:
    from sentry_sdk.types import Event

Capture = Literal["final", "every"]
StepErrors = Literal["capture", "breadcrumb"]
CaughtStepErrors = Literal["warning", "ignore"]
BeforeCapture = Callable[[Call, Outcome | None, "Event"], Optional["Event"]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose; see `SentryPlugin` for the meaning of each.

    Raises:
        TypeError: `send_decrypted` is a single name, or `before_capture` cannot be called.
        ValueError: names the option and what it may be.
    """

    capture: Capture
    step_errors: StepErrors
    caught_step_errors: CaughtStepErrors
    send_payloads: bool
    send_decrypted: Collection[str]
    propagate: bool
    crons: bool
    before_capture: BeforeCapture | None

    def __post_init__(self) -> None:
        _check("capture", self.capture, ("final", "every"))
        _check("step_errors", self.step_errors, ("capture", "breadcrumb"))
        _check("caught_step_errors", self.caught_step_errors, ("warning", "ignore"))
        if isinstance(self.send_decrypted, str):
            raise TypeError(
                f"SentryPlugin(send_decrypted=...) takes a collection of names, such as "
                f"({self.send_decrypted!r},)"
            )
        # A text such as "false" would count as True, and payloads would leave.
        if self.send_payloads not in (True, False):
            raise TypeError(
                "SentryPlugin(send_payloads=...) is True or False, not "
                f"{type(self.send_payloads).__name__}"
            )
        before_capture: object = self.before_capture
        if before_capture is not None and not callable(before_capture):
            raise TypeError(
                "SentryPlugin(before_capture=...) takes a function (call, outcome, event) -> event "
                f"or None, not {type(before_capture).__name__}"
            )
        for name in self.send_decrypted:
            _check("send_decrypted", name, sorted(DECRYPTED))


def _check(option: str, value: object, allowed: Collection[str]) -> None:
    if value not in allowed:
        shown = ", ".join(repr(one) for one in allowed)
        raise ValueError(f"SentryPlugin({option}={value!r}) is not known: use one of {shown}")
