"""Makes the story of runs from their requests, steps and hooks."""

from __future__ import annotations

import math
import typing

from .story_model import (
    GAP_SECONDS,
    Axis,
    GapRow,
    HookCalls,
    HookTotal,
    Mark,
    MarkKind,
    RequestRow,
    RunStory,
    Story,
)

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from inngest_plugins.core import HookRecord
    from inngest_plugins.local.journal.records import Json, RequestRecord, StepRecord

    from .run_view import RunView

AnyRun = typing.TypeVar("AnyRun", bound="RunView")


def story_of(runs: Sequence[RunView], hooks: Iterable[HookRecord] = ()) -> Story:
    """Put runs in order, each after its cause, with their requests, steps and hooks.

    Args:
        runs: The runs.
        hooks: Hook calls recorded meanwhile, for any of the runs; those of other runs are left
            out.
    """
    by_request: dict[str, list[HookRecord]] = {}
    for call in sorted(hooks, key=lambda call: call.started_at):
        if call.request_id is not None:
            by_request.setdefault(call.request_id, []).append(call)
    start = min((run.queued_at for run in runs), default=0.0)
    stories = [
        _story_of_run(run, start, cause, depth, by_request) for run, cause, depth in _in_order(runs)
    ]
    spans = [
        (row.offset, row.offset + (row.record.duration or 0.0))
        for story in stories
        for row in story.requests
    ]
    return Story(tuple(stories), Axis(spans))


def _in_order(runs: Sequence[AnyRun]) -> list[tuple[AnyRun, str, int]]:
    """Each run with the words for its cause and its depth, depth first."""
    known = {run.id: run for run in runs}
    senders: dict[object, AnyRun] = {
        event.get("id"): run for run in runs for event in run.events_sent
    }
    children: dict[str | None, list[tuple[AnyRun, str]]] = {}
    for run in sorted(runs, key=lambda run: (run.queued_at, run.id)):
        parent, cause = _cause(run, known, senders)
        children.setdefault(parent, []).append((run, cause))
    ordered: list[tuple[AnyRun, str, int]] = []
    waiting = [(run, cause, 0) for run, cause in reversed(children.get(None, []))]
    while waiting:
        run, cause, depth = waiting.pop()
        ordered.append((run, cause, depth))
        below = children.get(run.id, [])
        waiting += [(child, why, depth + 1) for child, why in reversed(below)]
    return ordered


def _cause(
    run: RunView, known: Mapping[str, RunView], senders: Mapping[object, RunView]
) -> tuple[str | None, str]:
    parent = known.get(run.parent_run_id or "")
    if parent is not None and run.is_deferred:
        ids = [each.id for each in parent.deferred.values() if run.id in each.run_ids]
        named = f" as {ids[0]}" if ids else ""
        return parent.id, f"deferred{named} by {parent.function_id}"
    if parent is not None:
        steps = {step.hashed_id: step.key for step in parent.steps.values()}
        step = steps.get(run.parent_step or "")
        by = f"step {step} of {parent.function_id}" if step else parent.function_id
        return parent.id, f"invoked by {by}"
    for event in run.events:
        failed = known.get(_run_of_life_cycle_event(event))
        if failed is not None and failed.id != run.id:
            return failed.id, f"after {failed.function_id} ended"
        sender = senders.get(event.get("id"))
        if sender is not None and sender.id != run.id:
            return sender.id, f"event sent by {sender.function_id}"
    return None, ""


def _run_of_life_cycle_event(event: dict[str, Json]) -> str:
    if not str(event.get("name", "")).startswith("inngest/function."):
        return ""
    data = event.get("data")
    return str(typing.cast("dict[str, Json]", data).get("run_id", "")) if data else ""


def _story_of_run(
    run: RunView, start: float, cause: str, depth: int, hooks: dict[str, list[HookRecord]]
) -> RunStory:
    by_key = run.steps
    steps = {step.hashed_id: step for step in by_key.values()}
    rows: list[RequestRow | GapRow] = []
    failing = "it"
    seen: set[str] = set()
    resumed: set[str] = set()
    busy_until = run.queued_at
    requests = list(run.requests)
    for request in requests:
        if request.started_at - busy_until > GAP_SECONDS:
            length = request.started_at - busy_until
            text = _reason(by_key.values(), busy_until, request, failing)
            rows.append(GapRow(busy_until - start, length, text))
        marks = [
            *_resumed(request, steps, seen, resumed),
            *checkpoint_marks(request, by_key.values()),
            *answer_marks(request, seen),
        ]
        for mark in marks:
            if mark.kind == "retry":
                failing = mark.step or "the function"
        target = steps.get(request.target or "")
        rows.append(
            RequestRow(
                record=request,
                offset=request.started_at - start,
                target=target.key if target else None,
                marks=tuple(marks),
                hooks=_hook_calls(hooks.get(request.request_headers.get("x-request-id", ""), [])),
                failed=any(mark.kind in ("failed", "retry") for mark in marks),
            )
        )
        busy_until = max(busy_until, request.ended_at or request.started_at)
    if run.ended_at is not None and run.ended_at - busy_until > GAP_SECONDS:
        text = "nothing more could happen" if run.status == "TimedOut" else "until its end"
        rows.append(GapRow(busy_until - start, run.ended_at - busy_until, text))
    return RunStory(
        run=run,
        offset=run.queued_at - start,
        trigger=", ".join(dict.fromkeys(str(event["name"]) for event in run.events)),
        cause=cause,
        depth=depth,
        steps=by_key,
        rows=tuple(rows),
        duration=None if run.ended_at is None else run.ended_at - run.queued_at,
        retries=sum(1 for request in requests if request.attempt > 0),
        hooks=_totals(row for row in rows if isinstance(row, RequestRow)),
    )


def _resumed(
    request: RequestRecord, steps: dict[str, StepRecord], seen: set[str], resumed: set[str]
) -> list[Mark]:
    """Steps that the engine did itself and whose result this request is the first to carry."""
    marks: list[Mark] = []
    memos: dict[str, Json] = request.request.get("steps") or {}
    for hashed in memos:
        step = steps.get(hashed)
        if step is None or hashed in resumed or hashed not in seen:
            continue
        resumed.add(hashed)
        match step.op:
            case "WaitForEvent":
                text = "no event came in time" if step.status == "TimedOut" else "event arrived"
            case "InvokeFunction":
                text = "function failed" if step.error else "function returned"
            case "AIGateway":
                text = "model failed" if step.error else "model answered"
            case "Sleep":
                text = "slept"
            case _:
                continue
        error: Json = step.error
        kind: MarkKind = "failed" if error else "resumed"
        marks.append(Mark(step.key, kind, text, str(error.get("message", "")) if error else ""))
    return marks


def checkpoint_marks(request: RequestRecord, steps: Iterable[StepRecord]) -> list[Mark]:
    """The steps whose results were stored while a request went on, in order."""
    end = math.inf if request.ended_at is None else request.ended_at
    stored = [
        step for step in steps if step.checkpointed and request.started_at <= step.started_at <= end
    ]
    stored.sort(key=lambda step: step.started_at)
    return [Mark(step.key, "done", "checkpointed") for step in stored]


def answer_marks(request: RequestRecord, seen: set[str]) -> list[Mark]:
    """What an answer says: its ops, or how the function ended.

    Args:
        request: A request that has ended.
        seen: Hashes of the steps that earlier answers reported; those of this one are added.
    """
    if request.failure is not None:
        return [Mark(None, "failed", request.failure)]
    marks = [_op_mark(op, request, first=str(op.get("id")) not in seen) for op in request.ops]
    seen.update(str(op.get("id")) for op in request.ops)
    if request.status == 200:
        marks.append(Mark(None, "done", "function returned"))
    elif request.status >= 400:
        body = request.response
        error: dict[str, Json] = body if isinstance(body, dict) else {}
        no_retry = request.response_headers.get("x-inngest-no-retry") == "true"
        final = no_retry or _is_last_attempt(request)
        text = f"function raised {error.get('name') or f'HTTP {request.status}'}"
        message = str(error.get("message") or "")
        marks.append(Mark(None, "failed" if final else "retry", text, message))
    return marks


def _is_last_attempt(request: RequestRecord) -> bool:
    maximum = request.request["ctx"].get("max_attempts")
    return maximum is not None and request.attempt + 1 >= int(maximum)


def _op_mark(op: dict[str, Json], request: RequestRecord, *, first: bool) -> Mark:
    userland: dict[str, Json] = op.get("userland") or {}
    key = str(userland.get("id") or op.get("displayName") or op.get("name"))
    if userland.get("index"):
        key = f"{key}:{userland['index']}"
    attempt = f"attempt {request.attempt + 1}" if request.attempt else ""
    error: dict[str, Json] = op.get("error") or {}
    name, message = str(error.get("name") or "error"), str(error.get("message") or "")
    no_retry = request.response_headers.get("x-inngest-no-retry") == "true"
    opts: dict[str, Json] = op.get("opts") or {}
    again = "" if first else " (again)"
    match op.get("op"):
        case "StepRun":
            return Mark(key, "done", attempt)
        case "StepError" if not no_retry:
            return Mark(key, "retry", f"{attempt + ': ' if attempt else ''}{name}", message)
        case "StepError" | "StepFailed":
            return Mark(key, "failed", f"{attempt + ': ' if attempt else ''}{name}", message)
        case "StepPlanned":
            return Mark(key, "planned", "planned" + again)
        case "Sleep":
            return Mark(key, "waiting", "sleeps" + again)
        case "WaitForEvent":
            limit = f", at most {opts['timeout']}" if opts.get("timeout") else ""
            return Mark(key, "waiting", f"waits for {op.get('name')}{limit}{again}")
        case "InvokeFunction":
            return Mark(key, "waiting", f"invokes {opts.get('function_id', '?')}{again}")
        case "AIGateway":
            return Mark(key, "waiting", f"asks a model{again}")
        case other:
            return Mark(key, "done", str(other))


def _reason(steps: Iterable[StepRecord], since: float, request: RequestRecord, failing: str) -> str:
    """Why nothing ran between an instant and a request."""
    if request.attempt > 0:
        return f"{failing} is tried again"
    waits = [
        f"{step.key} {_WAITS[step.op]}"
        for step in steps
        if step.op in _WAITS and _spans(step, since, request.started_at)
    ]
    return ", ".join(waits) or "nothing to do"


_WAITS: typing.Final = {
    "WaitForEvent": "waits for its event",
    "InvokeFunction": "waits for the function",
    "Sleep": "sleeps",
    "AIGateway": "waits for the model",
}


def _spans(step: StepRecord, since: float, until: float) -> bool:
    """Whether a step was open for most of a time."""
    end = until if step.ended_at is None else min(step.ended_at, until)
    return end - max(step.started_at, since) > 0.5 * (until - since)


def _hook_calls(records: list[HookRecord]) -> tuple[HookCalls, ...]:
    by_hook: dict[tuple[str, str], list[HookRecord]] = {}
    for record in records:
        by_hook.setdefault((record.plugin, record.hook), []).append(record)
    calls: list[HookCalls] = []
    for (plugin, hook), own in by_hook.items():
        errors = [record.error for record in own if record.error is not None]
        calls.append(
            HookCalls(
                plugin,
                hook,
                len(own),
                own[0].started_at - records[0].started_at,
                sum(record.duration for record in own),
                len(errors),
                errors[0] if errors else None,
            )
        )
    return tuple(calls)


def _totals(rows: Iterable[RequestRow]) -> tuple[HookTotal, ...]:
    by_plugin: dict[str, list[HookCalls]] = {}
    for row in rows:
        for hook in row.hooks:
            by_plugin.setdefault(hook.plugin, []).append(hook)
    totals: list[HookTotal] = []
    for plugin, calls in by_plugin.items():
        counts: dict[str, int] = {}
        for call in calls:
            counts[call.hook] = counts.get(call.hook, 0) + call.count
        totals.append(
            HookTotal(
                plugin,
                tuple(counts.items()),
                sum(call.duration for call in calls),
                sum(call.errors for call in calls),
            )
        )
    return tuple(totals)


def family(runs: Sequence[AnyRun], root: AnyRun) -> list[AnyRun]:
    """A run and every run that it caused: those it invoked, and those its events started."""
    order = _in_order(runs)
    index, depth = next((i, d) for i, (run, _, d) in enumerate(order) if run == root)
    members = [root]
    for run, _, below in order[index + 1 :]:
        if below <= depth:
            break
        members.append(run)
    return members
