"""Cron triggers as Sentry monitors: one check-in a run, opened and closed by any worker."""

from __future__ import annotations

import contextvars
import hashlib
import re
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import sentry_sdk
from sentry_sdk.crons import capture_checkin

from inngest_plugins.sentry.base.privacy import STACKS_FOR_CHECK_INS
from inngest_plugins.sentry.base.trace import check_in_id_of_run, started_at_of_run

if TYPE_CHECKING:
    from sentry_sdk.types import MonitorConfig

    from inngest_plugins.core import Call

_TIMER_EVENT = "inngest/scheduled.timer"
_SLUG_LENGTH = 50  # Sentry's limit for monitor slugs
_CRON_FIELDS = 5
_NICKNAMES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every\s+((?:\d+(?:\.\d+)?[hms])+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([hms])")
_MINUTES: dict[str, float] = {"h": 60.0, "m": 1.0, "s": 1 / 60}

Status = Literal["in_progress", "ok", "error"]


@dataclass(frozen=True, slots=True)
class Monitor:
    """What Sentry needs to know of a function that runs on a schedule.

    Attributes:
        slug: id of the monitor: the function's id, made to fit Sentry's rules.
        config: the schedule, from which Sentry creates the monitor and notices missed runs; None
            when Sentry has no such schedule, and the monitor must be created by hand.
    """

    slug: str
    config: MonitorConfig | None

    def check_in(self, run_id: str, status: Status) -> None:
        """Send a check-in of a run.

        Check-ins of a run share their id, so that a run that starts on one worker and ends on
        another is one entry, and one sent twice changes nothing.

        Args:
            run_id: ULID of the run; the duration is counted from its time.
            status: the run's status, in Sentry's words.
        """
        started = started_at_of_run(run_id)
        ended = status != "in_progress" and started is not None
        send = partial(
            capture_checkin,
            monitor_slug=self.slug,
            check_in_id=check_in_id_of_run(run_id),
            status=status,
            duration=max(0.0, time.time() - started) if ended and started else None,
            monitor_config=self.config,
        )
        if STACKS_FOR_CHECK_INS and sentry_sdk.get_client().options.get("attach_stacktrace"):
            # The caller's frames hold the run's payloads. A new thread has none of them.
            thread = threading.Thread(target=contextvars.copy_context().run, args=(send,))
            thread.start()
            thread.join()
        else:
            send()


def monitor_of(call: Call) -> Monitor | None:
    """Return the monitor of a run that a schedule has started, else None."""
    if call.event.name != _TIMER_EVENT or call.handler_kind != "main":
        return None
    expression = call.event.data.get("cron")
    if not isinstance(expression, str):
        return None
    schedules = _schedules(call)
    # The runs of two schedules of one function would hide each other's missed check-ins.
    suffix = (
        f"-{schedules.index(expression)}" if len(schedules) > 1 and expression in schedules else ""
    )
    return Monitor(slug_of(call.function_id + suffix), config_of(expression))


def slug_of(name: str) -> str:
    """Return a name as a monitor slug: lower-case letters, digits, `-` and `_`, 50 at most."""
    slug = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")
    if len(slug) <= _SLUG_LENGTH and slug:
        return slug
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{slug[: _SLUG_LENGTH - 9]}-{digest}"


def config_of(expression: str) -> MonitorConfig | None:
    """Translate a cron trigger of Inngest into Sentry's monitor configuration.

    Inngest takes five fields, a nickname such as `@daily`, or `@every <duration>`, each with an
    optional `TZ=<zone>` in front (robfig/cron, the library of its server). Sentry counts intervals
    in whole minutes.

    Args:
        expression: the trigger's text, such as `TZ=Europe/Berlin 0 9 * * *`.

    Returns:
        The configuration, or None for a schedule that Sentry cannot hold.
    """
    zone = "UTC"
    prefix, _, rest = expression.strip().partition(" ")
    if prefix.startswith(("TZ=", "CRON_TZ=")):
        zone, expression = prefix.partition("=")[2], rest
    schedule = _schedule_of(expression.strip())
    return None if schedule is None else {"schedule": schedule, "timezone": zone}


def _schedule_of(expression: str) -> Any:
    every = _EVERY.fullmatch(expression)
    if every is not None:
        minutes = sum(float(n) * _MINUTES[unit] for n, unit in _DURATION.findall(every[1]))
        if minutes < 1 or minutes != int(minutes):
            return None
        return {"type": "interval", "value": int(minutes), "unit": "minute"}
    if expression in _NICKNAMES or len(expression.split()) == _CRON_FIELDS:
        return {"type": "crontab", "value": expression}
    return None


def _schedules(call: Call) -> list[str]:
    config = call.function.get_config("http://localhost").main
    found = (getattr(trigger, "cron", None) for trigger in config.triggers)
    return [cron for cron in found if isinstance(cron, str)]
