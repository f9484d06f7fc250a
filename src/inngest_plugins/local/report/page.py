"""Writes the story of some runs as one HTML page that needs nothing but itself.

No script, no font, no image, nothing fetched (a Content-Security-Policy in the page says so, too);
light and dark; readable by a screen reader: every sign has words, every table a caption.
"""

from __future__ import annotations

import html
import json
import typing

from inngest_plugins.core import printable
from inngest_plugins.local._envelopes import is_sealed_text

from .bodies import request_bodies
from .page_style import STYLE
from .run_view import OpenedRun, RunView
from .story_model import GapRow, HookCalls, Mark, MarkKind, RequestRow, RunStory, Story
from .words import app_traceback, deferred_text, duration_text, message_text, plural

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from inngest_plugins.local.journal.records import Json, StepRecord

_LIMIT: typing.Final = 8000
"""Characters of one JSON value that are shown; a page should open in any browser."""

_SIGNS: typing.Final[dict[MarkKind, tuple[str, str]]] = {
    "done": ("✔", "done"),
    "failed": ("✘", "failed"),
    "retry": ("↻", "failed, will be tried again"),
    "planned": ("·", "planned"),
    "waiting": ("◔", "left with the engine"),
    "resumed": ("▸", "came back"),
}


def render_html(story: Story, *, title: str = "Run report", values: bool = True) -> str:
    """Make the page.

    Args:
        story: The runs.
        title: Heading of the page.
        values: Whether to show payloads (event data, step results, outputs, request bodies),
            error messages and tracebacks. Without them the page holds names, times, counts and
            class names of errors only.
    """
    runs = "".join(_run(run, number, story, values=values) for number, run in enumerate(story.runs))
    contents = "".join(
        f'<li><a href="#run-{number}">{_text(run.run.function_id)}</a> '
        f"{_status(run)} {_text(run.cause)}</li>"
        for number, run in enumerate(story.runs)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><div><h1>{_text(title)}</h1>"
        f'<p class="quiet">{_text(_summary(story))}</p></div>{_THEME}</header>\n'
        f'<nav aria-label="Runs"><ol class="contents">{contents}</ol></nav>\n'
        f"{runs}<footer><p>{_text(_note(story, values=values))} "
        "Long idle times are cut out of the bars. Made by inngest-plugins.</p></footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _note(story: Story, *, values: bool) -> str:
    if not values:
        return "Payloads and error messages are left out of this page."
    if all(isinstance(run.run, OpenedRun) for run in story.runs):
        return (
            "Payloads are shown as the app knows them, also where the engine holds ciphertext. "
            "Requests refer to the events and memos that they carry."
        )
    return (
        "Payloads are shown as the engine stores them. "
        "Requests refer to the events and memos that they carry."
    )


_THEME: typing.Final = (
    '<fieldset class="theme"><legend>Colours</legend>'
    '<label><input type="radio" name="theme" id="theme-auto" checked> System</label>'
    '<label><input type="radio" name="theme" id="theme-light"> Light</label>'
    '<label><input type="radio" name="theme" id="theme-dark"> Dark</label></fieldset>'
)


def _summary(story: Story) -> str:
    requests = sum(len(run.requests) for run in story.runs)
    steps = sum(len(run.steps) for run in story.runs)
    counts = (len(story.runs), "run"), (requests, "request"), (steps, "step")
    return ", ".join(plural(count, noun) for count, noun in counts)


def _run(story: RunStory, number: int, whole: Story, *, values: bool) -> str:
    run = story.run
    lasted = "" if story.duration is None else f" in {duration_text(story.duration)}"
    counts = [plural(len(story.requests), "request"), plural(len(story.steps), "step")]
    if story.retries:
        counts.append(plural(story.retries, "retry"))
    cause = f" ({_text(story.cause)})" if story.cause else ""
    reason = f'<p class="reason">{_text(_cut(run.reason))}</p>' if run.reason and values else ""
    parts = [
        f'<section id="run-{number}" aria-labelledby="title-{number}">',
        f'<div class="title"><h2 id="title-{number}">{_text(run.function_id)}</h2>',
        f'{_status(story)}<span class="quiet">{", ".join(counts)}{lasted}</span></div>',
        f'<p class="quiet">started by <code>{_text(story.trigger)}</code>{cause}, ',
        f"run <code>{_text(run.id)}</code></p>{reason}",
        _timeline(story, whole, values=values),
        _steps(list(story.steps.values()), values=values),
        _hook_totals(story),
        _events("Events received", run.events, values=values),
        _events("Events sent", run.events_sent, values=values),
        _deferred(run),
    ]
    if values and run.metadata:
        parts.append(f"<h3>Metadata</h3>{_pre(run.metadata)}")
    if values and run.status == "Completed":
        parts.append(f"<h3>Output</h3>{_pre(run.output)}")
    elif values and run.error:
        parts.append(f"<h3>Error</h3>{_pre(_without_stack(run.error))}")
        if run.error.get("stack"):
            parts.append(_stack(str(run.error["stack"])))
    return "".join(parts) + "</section>\n"


def _stack(stack: str) -> str:
    own = app_traceback(stack)
    whole = f"<pre>{_text(_cut(stack))}</pre>"
    if is_sealed_text(stack):
        return _details("Stack", whole)
    shown = f"<pre>{_text(_cut(own))}</pre>"
    return (
        shown if own == stack.rstrip() else shown + _details("With the frames of libraries", whole)
    )


def _without_stack(error: dict[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in error.items() if key != "stack"}


def _status(story: RunStory) -> str:
    return f'<span class="status {_text(story.run.status)}">{_text(story.run.status)}</span>'


def _timeline(story: RunStory, whole: Story, *, values: bool) -> str:
    bodies = iter(request_bodies(story) if values else ())
    rows = "".join(
        _gap(row) if isinstance(row, GapRow) else _request(row, whole, next(bodies, None))
        for row in story.rows
    )
    name = _text(story.run.function_id)
    return (
        '<h3>Timeline</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="Timeline of {name}"><table><caption>Requests of this run, in order; '
        "times count from the first run on this page.</caption><thead><tr>"
        '<th scope="col" class="number">At</th><th scope="col" class="axis">When</th>'
        '<th scope="col" class="number">Request</th><th scope="col" class="number">Took</th>'
        f'<th scope="col">What happened</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _gap(row: GapRow) -> str:
    return (
        f'<tr class="gap"><td colspan="5">{_text(duration_text(row.duration))} later: '
        f"{_text(row.text)}</td></tr>"
    )


def _request(row: RequestRow, whole: Story, body: Json | None) -> str:
    record = row.record
    took = "in flight" if record.duration is None else duration_text(record.duration)
    begin = whole.axis.place(row.offset)
    end = whole.axis.place(row.offset + (record.duration or 0.0))
    style = "bad" if any(mark.kind == "failed" for mark in row.marks) else "again"
    bar = (
        f'<span class="track"><i class="{style if row.failed else ""}" '
        f'style="left:{begin * 100:.2f}%;width:{(end - begin) * 100:.2f}%"></i></span>'
    )
    values = body is not None
    marks = "".join(_mark(mark, values=values) for mark in row.marks)
    attempt = f", attempt {record.attempt + 1}" if record.attempt else ""
    status = record.status or "no answer"
    wire = f"HTTP {status}{attempt}" + (f", targets {row.target}" if row.target else "")
    details = f"<span>{_text(wire)}</span>"
    if row.hooks:
        details += _hook_details(row.hooks)
    if values:
        bodies = (
            f'<div class="two"><div><p class="quiet">Request</p>{_pre(body)}</div>'
            f'<div><p class="quiet">Answer</p>{_pre(record.response)}</div></div>'
        )
        details += _details("Request and answer", bodies)
    return (
        f'<tr><td class="number">{_text(duration_text(row.offset))}</td>'
        f'<td class="axis">{bar}</td><td class="number">#{record.number + 1}</td>'
        f'<td class="number">{_text(took)}</td><td><ul class="marks">{marks}</ul>'
        f'<div class="more">{details}</div></td></tr>'
    )


def _mark(mark: Mark, *, values: bool) -> str:
    sign, words = _SIGNS[mark.kind]
    step = f"<b>{_text(mark.step)}</b> " if mark.step is not None else ""
    message = f": {_text(_cut(message_text(mark.message)))}" if mark.message and values else ""
    return (
        f'<li class="{mark.kind}"><span class="sign" role="img" aria-label="{words}">{sign}</span>'
        f"{step}{_text(mark.text)}{message}</li>"
    )


def _hook_details(calls: Sequence[HookCalls]) -> str:
    rows = "".join(
        f"<tr><td>{_text(call.plugin)}</td><td><code>{_text(call.hook)}</code></td>"
        f'<td class="number">{call.count}</td>'
        f'<td class="number">{_text(duration_text(call.offset))}</td>'
        f'<td class="number">{_text(duration_text(call.duration))}</td>'
        f'<td class="failed">{_text(call.error or "")}</td></tr>'
        for call in calls
    )
    table = (
        "<table><caption>Plugin hooks in the order in which they first ran.</caption>"
        "<thead><tr>"
        '<th scope="col">Plugin</th><th scope="col">Hook</th>'
        '<th scope="col" class="number">Calls</th><th scope="col" class="number">At</th>'
        '<th scope="col" class="number">Took</th><th scope="col">Raised</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    total = duration_text(sum(call.duration for call in calls))
    return _details(f"{plural(sum(call.count for call in calls), 'hook call')}, {total}", table)


def _steps(steps: list[StepRecord], *, values: bool) -> str:
    if not steps:
        return ""
    stored = '<th scope="col">Stored</th>' if values else ""
    rows = "".join(_step(step, values=values) for step in steps)
    return (
        "<h3>Steps</h3><table><caption>Each step once, however often the function was replayed."
        '</caption><thead><tr><th scope="col">Step</th><th scope="col">Kind</th>'
        '<th scope="col">Status</th><th scope="col" class="number">Attempts</th>'
        f'<th scope="col" class="number">Took</th>{stored}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _step(step: StepRecord, *, values: bool) -> str:
    took = "" if step.ended_at is None else duration_text(step.ended_at - step.started_at)
    stored = f"<td>{_details('Value', _pre(step.memo))}</td>" if values else ""
    return (
        f'<tr><th scope="row">{_text(step.key)}</th><td>{_text(step.op)}</td>'
        f'<td class="{_step_class(step)}">{_text(step.status)}</td>'
        f'<td class="number">{step.attempts}</td><td class="number">{_text(took)}</td>{stored}</tr>'
    )


def _step_class(step: StepRecord) -> str:
    if step.status in ("Failed", "Completed", "TimedOut"):
        return step.status
    return "retry" if step.status == "Retrying" else "waiting"


def _hook_totals(story: RunStory) -> str:
    if not story.hooks:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_text(total.plugin)}</th>'
        f"<td>{_text(', '.join(f'{name} ({count})' for name, count in total.counts))}</td>"
        f'<td class="number">{total.errors}</td>'
        f'<td class="number">{_text(duration_text(total.duration))}</td></tr>'
        for total in story.hooks
    )
    return (
        "<h3>Plugins</h3><table><caption>Hook calls of all requests of this run.</caption><thead>"
        '<tr><th scope="col">Plugin</th><th scope="col">Hooks (calls)</th>'
        '<th scope="col" class="number">Errors</th><th scope="col" class="number">Took</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _events(title: str, events: list[dict[str, Json]], *, values: bool) -> str:
    if not events:
        return ""
    items = "".join(
        f"<li><code>{_text(str(event['name']))}</code> "
        f'<span class="quiet">{_text(str(event.get("id") or ""))}</span>'
        f"{_details('Data', _pre(event.get('data'))) if values else ''}</li>"
        for event in events
    )
    return f"<h3>{title}</h3><ul>{items}</ul>"


def _deferred(run: RunView) -> str:
    items = "".join(
        f"<li><code>{_text(each.id)}</code> {_text(each.function_id)} "
        f'<span class="quiet">{deferred_text(each)}</span></li>'
        for each in run.deferred.values()
    )
    return f"<h3>Deferred</h3><ul>{items}</ul>" if items else ""


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{_text(summary)}</summary>{content}</details>"


def _pre(value: Json) -> str:
    return f"<pre>{_text(_cut(json.dumps(value, indent=2, ensure_ascii=False)))}</pre>"


def _cut(text: str) -> str:
    if len(text) <= _LIMIT:
        return text
    return f"{text[:_LIMIT]}\n[{len(text) - _LIMIT} more characters left out]"


def _text(text: str) -> str:
    return html.escape(printable(text, lines=True), quote=True)
