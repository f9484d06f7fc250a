"""The HTML page: lists and timelines, rendered by the server, with nothing of third parties."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

import jinja2
from fastapi.responses import HTMLResponse

from inngest_plugins.core import printable
from inngest_plugins.mirror.store.reads import MirroredRun, Page, RunDetail

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("inngest_plugins.mirror.web"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def _shown(value: object) -> str:
    """Return a text with control and bidirectional characters escaped."""
    return printable("" if value is None else str(value))


def _moment(value: dt.datetime | None) -> str:
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M:%S UTC")


def _lasted(run: MirroredRun) -> str:
    if run.started_at is None or run.ended_at is None:
        return ""
    return _span((run.ended_at - run.started_at).total_seconds() * 1000)


def _span(millis: float | None) -> str:
    if millis is None:
        return ""
    if millis < 1000:
        return f"{millis:.0f} ms"
    return f"{millis / 1000:.1f} s" if millis < 60_000 else f"{millis / 60_000:.1f} min"


_environment.filters.update(shown=_shown, moment=_moment, lasted=_lasted, span=_span)


def list_page(page: Page, filters: dict[str, Any], *, is_first: bool) -> HTMLResponse:
    """Render the list of runs."""
    return _render("list.html", page=page, filters=filters, is_live=is_first)


def run_page(detail: RunDetail, *, can_steer: bool) -> HTMLResponse:
    """Render one run with its timeline."""
    return _render(
        "run.html",
        run=detail.run,
        detail=detail,
        bars=_bars(detail),
        can_steer=can_steer,
        is_live=detail.run.is_open,
    )


def problem_page(status: int, problem: str, back: str) -> HTMLResponse:
    """Render why a button did nothing, with a link back."""
    return _render("problem.html", status, problem=problem, back=back, is_live=False)


def _bars(detail: RunDetail) -> list[dict[str, Any]]:
    """Return where each step stands on the run's time, in per cent."""
    times = [each for one in detail.attempts for each in (one.started_at, one.ended_at) if each]
    times += [each for s in detail.steps for each in (s.started_at, s.ended_at) if each]
    times += [each for each in (detail.run.started_at, detail.run.ended_at) if each]
    if detail.run.is_open:
        times.append(dt.datetime.now(dt.timezone.utc))
    first, last = (min(times), max(times)) if times else (None, None)
    whole = (last - first).total_seconds() if first and last else 0.0
    bars: list[dict[str, Any]] = []
    for step in detail.steps:
        left, width = 0.0, 0.0
        if first is not None and last is not None and whole > 0 and step.started_at is not None:
            ended = step.ended_at or (last if step.status == "Running" else step.started_at)
            left = (step.started_at - first).total_seconds() / whole * 100
            width = max((ended - step.started_at).total_seconds() / whole * 100, 0.6)
        bars.append(
            {"step": step, "left": round(min(left, 100 - width), 2), "width": round(width, 2)}
        )
    return bars


def _render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    html = _environment.get_template(template).render(nonce=nonce, **values)
    headers = {
        # Only pages of the same origin may frame it, as it has buttons.
        "content-security-policy": (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'self'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cache-control": "no-store",
    }
    return HTMLResponse(html, status, headers)
