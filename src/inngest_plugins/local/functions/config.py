"""Function configurations, as the app registers them with the server.

The engine learns them the way the server does: the app answers a ``PUT`` by posting all of them
to ``/fn/register``. That is public protocol, so it holds for every SDK version and framework.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping

from inngest_plugins.local._errors import LocalEngineError
from inngest_plugins.local.journal.records import Json

from .expressions import Expression, ExpressionError, parse_expression

DEFAULT_RETRIES = 4
_DAY = 86_400.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": _DAY, "w": 7 * _DAY}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_IGNORED = ("concurrency", "debounce", "priority", "rateLimit", "singleton", "throttle")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``"30s"``, ``"2m"`` or ``"1h30m"``.

    Raises:
        ValueError: It is not a duration.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Trigger:
    """What starts a function: an event (a name, ``*`` allowed, and a condition) or a cron."""

    event: str | None = None
    expression: Expression | None = None
    cron: str | None = None

    def accepts(self, event: Mapping[str, Json]) -> bool:
        """Whether the event starts the function.

        Raises:
            ExpressionError: The condition has no truth value for this event.
        """
        if self.event is None or not _name_matches(self.event, event["name"]):
            return False
        return self.expression is None or self.expression.matches({"event": event})


@dataclasses.dataclass(frozen=True, slots=True)
class Cancellation:
    """An event that cancels open runs; ``timeout`` is how long after their start, in seconds."""

    event: str
    condition: Expression | None = None
    timeout: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class BatchRule:
    """How events are collected into one run; ``timeout`` in seconds."""

    max_size: int
    timeout: float
    key: Expression | None = None
    condition: Expression | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionConfig:
    """One registered function.

    Attributes:
        id: ``"<app>-<function>"``.
        name: For people.
        triggers: What starts it.
        max_attempts: Retries plus one.
        batch: Set for batch functions.
        cancellations: Events that cancel its runs.
        finish_timeout: Seconds from a run's start to its cancellation, if any.
        idempotency: Expression whose value may start only one run in 24 hours, if any.
        ignored: Flow-control settings that this engine does not apply.
    """

    id: str
    name: str
    triggers: tuple[Trigger, ...]
    max_attempts: int
    batch: BatchRule | None = None
    cancellations: tuple[Cancellation, ...] = ()
    finish_timeout: float | None = None
    idempotency: Expression | None = None
    ignored: tuple[str, ...] = ()

    @property
    def cron(self) -> str | None:
        """The first cron among the triggers, if any."""
        return next((trigger.cron for trigger in self.triggers if trigger.cron), None)


def parse_registration(body: Mapping[str, Json]) -> dict[str, FunctionConfig]:
    """Read the body of ``POST /fn/register``.

    Raises:
        LocalEngineError: A function has a setting that cannot be understood; the message names it.
    """
    functions: dict[str, FunctionConfig] = {}
    for raw in body.get("functions", []):
        function = _parse_function(raw)
        functions[function.id] = function
    return functions


def _parse_function(raw: Mapping[str, typing.Any]) -> FunctionConfig:
    try:
        return _read_function(raw)
    except (ExpressionError, ValueError, KeyError) as error:
        raise LocalEngineError(f"function {raw.get('id')!r}: {error}") from error


def _read_function(raw: Mapping[str, typing.Any]) -> FunctionConfig:
    step = next(iter(raw["steps"].values()))
    retries = (step.get("retries") or {}).get("attempts")
    timeouts = raw.get("timeouts") or {}
    batch = raw.get("batchEvents")
    return FunctionConfig(
        id=raw["id"],
        name=raw.get("name", raw["id"]),
        triggers=tuple(
            Trigger(
                event=trigger.get("event"),
                expression=_expression(trigger.get("expression")),
                cron=trigger.get("cron"),
            )
            for trigger in raw["triggers"]
        ),
        max_attempts=(DEFAULT_RETRIES if retries is None else int(retries)) + 1,
        batch=None
        if batch is None
        else BatchRule(
            max_size=int(batch["maxSize"]),
            timeout=parse_duration(batch.get("timeout") or "1s"),
            key=_expression(batch.get("key")),
            condition=_expression(batch.get("if")),
        ),
        cancellations=tuple(
            Cancellation(
                event=cancel["event"],
                condition=_expression(cancel.get("if")),
                timeout=parse_duration(cancel["timeout"]) if cancel.get("timeout") else None,
            )
            for cancel in raw.get("cancel") or []
        ),
        finish_timeout=parse_duration(timeouts["finish"]) if timeouts.get("finish") else None,
        idempotency=_expression(raw.get("idempotency")),
        ignored=tuple(name for name in _IGNORED if raw.get(name)),
    )


def _expression(source: str | None) -> Expression | None:
    return parse_expression(source) if source else None


def _name_matches(pattern: str, name: str) -> bool:
    # As ``pkg/event_trigger_patterns`` of the server: a star stands at the end, after "/" or ".".
    if pattern.endswith(("/*", ".*")):
        return pattern == name or name.startswith(pattern[:-1])
    return pattern == name
