"""Writes the story of some runs as one HTML page that needs nothing but itself.

No script, no font, no image, nothing fetched (a Content-Security-Policy in the page says so, too);
light and dark; readable by a screen reader: every sign has words, every table a caption.
"""

from __future__ import annotations

import html
import json
import typing

from ._html_style import STYLE
from ._timeline_model import GapRow, HookMark, Mark, MarkKind, RequestRow, RunStory, Story
from ._wording import duration_text, message_text, plural

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

    from ._run import Json, StepRecord

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
        story: What to tell.
        title: Heading of the page.
        values: Whether to show payloads (event data, step results, outputs, request bodies, as
            the engine holds them) and error messages. Without them the page holds names, times,
            counts and class names of errors only.
    """
    runs = "".join(_run(run, number, story, values=values) for number, run in enumerate(story.runs))
    contents = "".join(
        f'<li><a href="#run-{number}">{_text(run.run.function_id)}</a> '
        f"{_status(run)} {_text(run.cause)}</li>"
        for number, run in enumerate(story.runs)
    )
    note = (
        "Payloads are shown as the engine stores them."
        if values
        else "Payloads and error messages are left out of this page."
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
        f"{runs}<footer><p>{_text(note)} Long idle times are cut out of the bars. "
        "Made by inngest-plugins.</p></footer>\n</main>\n</body>\n</html>\n"
    )


_THEME: typing.Final = (
    '<fieldset class="theme"><legend>Colours</legend>'
    '<label><input type="radio" name="theme" id="theme-auto" checked> System</label>'
    '<label><input type="radio" name="theme" id="theme-light"> Light</label>'
    '<label><input type="radio" name="theme" id="theme-dark"> Dark</label></fieldset>'
)


def _summary(story: Story) -> str:
    requests = sum(len(run.requests) for run in story.runs)
    steps = sum(len(run.run.steps) for run in story.runs)
    counts = (len(story.runs), "run"), (requests, "request"), (steps, "step")
    return ", ".join(plural(count, noun) for count, noun in counts)


def _run(story: RunStory, number: int, whole: Story, *, values: bool) -> str:
    run = story.run
    lasted = "" if story.duration is None else f" in {duration_text(story.duration)}"
    counts = [plural(len(story.requests), "request"), plural(len(run.steps), "step")]
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
        _steps(list(run.steps.values()), values=values),
        _hook_totals(story),
        _sent(story, values=values),
    ]
    if values and run.metadata:
        parts.append(f"<h3>Metadata</h3>{_pre(run.metadata)}")
    if values and run.status == "Completed":
        parts.append(f"<h3>Output</h3>{_pre(run.output)}")
    elif values and run.error:
        parts.append(f"<h3>Error</h3>{_pre(_without_stack(run.error))}")
        if run.error.get("stack"):
            parts.append(_details("Stack", f"<pre>{_text(_cut(str(run.error['stack'])))}</pre>"))
    return "".join(parts) + "</section>\n"


def _without_stack(error: dict[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in error.items() if key != "stack"}


def _status(story: RunStory) -> str:
    return f'<span class="status {_text(story.run.status)}">{_text(story.run.status)}</span>'


def _timeline(story: RunStory, whole: Story, *, values: bool) -> str:
    rows = "".join(
        _gap(row) if isinstance(row, GapRow) else _request(row, whole, values=values)
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


def _request(row: RequestRow, whole: Story, *, values: bool) -> str:
    record = row.record
    took = "in flight" if record.duration is None else duration_text(record.duration)
    begin = whole.axis.place(row.offset)
    end = whole.axis.place(row.offset + (record.duration or 0.0))
    style = "bad" if any(mark.kind == "failed" for mark in row.marks) else "again"
    bar = (
        f'<span class="track"><i class="{style if row.failed else ""}" '
        f'style="left:{begin * 100:.2f}%;width:{(end - begin) * 100:.2f}%"></i></span>'
    )
    marks = "".join(_mark(mark, values=values) for mark in row.marks)
    attempt = f", attempt {record.attempt + 1}" if record.attempt else ""
    status = record.status or "no answer"
    wire = f"HTTP {status}{attempt}" + (f", targets {row.target}" if row.target else "")
    details = f"<span>{_text(wire)}</span>"
    if row.hooks:
        details += _hook_details(row.hooks)
    if values:
        bodies = (
            f'<div class="two"><div><p class="quiet">Request</p>{_pre(record.request)}</div>'
            f'<div><p class="quiet">Answer</p>{_pre(record.response)}</div></div>'
        )
        details += _details("Bodies on the wire", bodies)
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


def _hook_details(hooks: Iterable[HookMark]) -> str:
    calls = list(hooks)
    rows = "".join(
        f"<tr><td>{_text(call.plugin)}</td><td><code>{_text(call.hook)}</code></td>"
        f'<td class="number">{_text(duration_text(call.offset))}</td>'
        f'<td class="number">{_text(duration_text(call.duration))}</td>'
        f'<td class="failed">{_text(call.error or "")}</td></tr>'
        for call in calls
    )
    table = (
        "<table><caption>Plugin hooks in the order in which they ran.</caption><thead><tr>"
        '<th scope="col">Plugin</th><th scope="col">Hook</th><th scope="col" class="number">At</th>'
        '<th scope="col" class="number">Took</th><th scope="col">Raised</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    total = duration_text(sum(call.duration for call in calls))
    return _details(f"{plural(len(calls), 'hook call')}, {total}", table)


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


def _sent(story: RunStory, *, values: bool) -> str:
    sent = story.run.events_sent
    if not sent:
        return ""
    items = "".join(
        f"<li><code>{_text(str(event['name']))}</code>"
        f"{_details('Data', _pre(event.get('data'))) if values else ''}</li>"
        for event in sent
    )
    return f"<h3>Events sent</h3><ul>{items}</ul>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{_text(summary)}</summary>{content}</details>"


def _pre(value: Json) -> str:
    return f"<pre>{_text(_cut(json.dumps(value, indent=2, ensure_ascii=False)))}</pre>"


def _cut(text: str) -> str:
    if len(text) <= _LIMIT:
        return text
    return f"{text[:_LIMIT]}\n[{len(text) - _LIMIT} more characters left out]"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
