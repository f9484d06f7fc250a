"""All plugins with everything they export kept in memory, and what a scenario left where."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import inngest
from tests.composition import composition_app as the_app
from tests.composition.composition_plugins import NAMES, PluginMaker
from tests.composition.composition_secrets import Records, all_leaks

from inngest_plugins.cli.run.run_json import story_to_json
from inngest_plugins.core import (
    DEFERRED_EVENT,
    Call,
    Hooks,
    Layer,
    Outcome,
    StackEntry,
    Step,
    answered_by,
)
from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing
from inngest_plugins.local import LocalEngine, Run, VirtualClock
from inngest_plugins.local.report.page import render_html
from inngest_plugins.local.report.story import story_of
from inngest_plugins.local.report.timeline import timeline_of
from inngest_plugins.local.server.transport import EngineTransport

PER_CALL = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "after_execution",
    "transform_output",
    "before_response",
)
"""The hooks that a request fires at most once, in this order."""

PER_STEP = (
    "step_reached",
    "transform_memo",
    "transform_step_input",
    "answer_step",
    "around_step",
    "transform_output",
    "step_delivered",
)
"""The hooks that a step, or the function's end, fires at most once a request."""

INWARD = frozenset(
    {
        "transform_input",
        "before_memoization",
        "before_execution",
        "step_reached",
        "transform_memo",
        "answer_step",
        "around_step",
    }
)


@dataclass(frozen=True)
class Fired:
    """One hook of one plugin in one call or send.

    Attributes:
        step: the step that it is about; None for the request, and for the function's end.
    """

    plugin: str
    hook: str
    subject: object = field(repr=False)
    step: Step | None = field(default=None, repr=False)


def custom_hooks() -> list[Hooks]:
    """One custom set of hooks for each layer, each with every hook that sees nothing change."""
    made: list[Hooks] = []
    for layer in Layer:
        hooks = Hooks(f"custom-{layer.name.lower()}", layer=layer)
        for name in (*PER_CALL, "before_send_events", "after_send_events", "transform_step_input"):
            getattr(hooks, name)(_two if name in _OF_TWO else _one)
        made.append(hooks)
    return made


_OF_TWO = frozenset({"transform_output", "transform_step_input"})


def _one(subject: object) -> None: ...


def _two(call: object, subject: object) -> None: ...


class Rig(PluginMaker):
    """Plays scenarios with plugins, and keeps what they left where; see `PluginMaker`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fired: list[Fired] = []
        self.records = Records()

    def plugin(self, name: str) -> StackEntry:
        """A new plugin of one of the kinds, whose hooks are noted."""
        return self.noting(self.make(name))

    def plugins(self, names: Sequence[str] = NAMES) -> list[StackEntry]:
        """New plugins of these kinds, in this order."""
        return [self.plugin(name) for name in names]

    def noting(self, plugin: StackEntry) -> StackEntry:
        """Note every hook of a plugin that fires."""
        original = plugin.hook_functions

        def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            if name == "on_register":
                return function

            @functools.wraps(function)
            def note(*args: Any) -> Any:
                self.fired.append(Fired(plugin.name, name, args[0], _step_of(*args)))
                return function(*args)

            return note

        def noted() -> dict[str, list[Callable[..., Any]]]:
            return {name: [wrapped(name, f) for f in fs] for name, fs in original().items()}

        plugin.hook_functions = noted  # type: ignore[method-assign]
        return plugin

    # ------------------------------------------------------------ running

    async def play(
        self,
        app: the_app.App,
        events: inngest.Event | list[inngest.Event],
        function: str,
        *,
        journal: str | None = None,
        clock: VirtualClock | None = None,
        during: Callable[[LocalEngine], Any] | None = None,
        **options: Any,
    ) -> Played:
        """Run events to the end of everything they start."""
        root = logging.getLogger()
        assert isinstance(app.client.logger, logging.Logger)
        levels = {logger: logger.level for logger in (root, app.client.logger)}
        root.addHandler(self.records)
        for logger in levels:
            logger.setLevel(logging.DEBUG)
        try:
            async with LocalEngine(
                app.client, app.functions, journal, clock or VirtualClock(0), **options
            ) as engine:
                api = Recording(engine.transport)
                with answered_by(app.client, api, api):
                    if during is None:
                        run = await engine.run(events, function=function, timeout=200)
                    else:
                        await engine.send(events)
                        await during(engine)
                        (run,) = [
                            run for run in engine.runs if run.function_id == f"shop-{function}"
                        ]
                    await engine.settle(60)
                    traces = [trace.body for trace in engine.userland_traces]
                    assert self.opened == self.closed, "services are left open"
                    return Played(run, engine.runs, engine.events, traces, api.requests)
        finally:
            root.removeHandler(self.records)
            for logger, level in levels.items():
                logger.setLevel(level)

    def contents(self, played: Played) -> Iterator[tuple[str, bytes | str]]:
        """Everything that left the user's code, or was written down about it, with its name."""
        yield from played.contents()
        for line in self.records.lines:
            yield "log", line
        yield from self.exported()

    def check_no_leak(self, played: Played) -> None:
        """The canary is nowhere."""
        found = all_leaks(self.contents(played))
        assert not found, "\n".join(found[:20])

    # ------------------------------------------------------------ the order of hooks

    def check_order(self, stack: Sequence[str]) -> None:
        """Hooks fired at most once a request, in the protocol's order, as an onion.

        Args:
            stack: names of the plugins, outermost first.
        """
        place = {name: index for index, name in enumerate(stack)}
        calls: dict[int, list[Fired]] = {}
        for fired in self.fired:
            calls.setdefault(id(fired.subject), []).append(fired)
        for group in calls.values():
            phases = [fired.hook for fired in group if _is_phase(fired)]
            order = [PER_CALL.index(phase) for phase in phases]
            assert order == sorted(order), phases
            for hook in {*PER_CALL, *PER_STEP, "before_send_events", "after_send_events"}:
                for fired_together in _by_step(hook, group):
                    names = [fired.plugin for fired in fired_together]
                    assert len(names) == len(set(names)), (hook, names)
                    positions = [place[name] for name in names]
                    assert positions == sorted(positions, reverse=hook not in INWARD), (hook, names)


def _step_of(subject: object, about: object = None) -> Step | None:
    """The step that a hook is called about."""
    step = about.step if isinstance(about, Outcome) else about
    return step if isinstance(step, Step) else None


def _is_phase(fired: Fired) -> bool:
    """Whether a hook belongs to the order of the request's hooks.

    With another delivery than the answer, steps end while the request goes on.
    """
    if fired.hook != "transform_output":
        return fired.hook in PER_CALL
    assert isinstance(fired.subject, Call)
    return fired.step is None or fired.subject.stack.delivery is None


def _by_step(hook: str, group: Iterable[Fired]) -> Iterable[list[Fired]]:
    """What fired of a hook, for each step, and for what is about none."""
    steps: dict[int | None, list[Fired]] = {}
    for fired in group:
        if fired.hook == hook:
            steps.setdefault(None if fired.step is None else id(fired.step), []).append(fired)
    return steps.values()


class Recording(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """The engine's API, and everything that the app sent to it."""

    def __init__(self, inner: EngineTransport) -> None:
        self._inner = inner
        self.requests: list[tuple[str, bytes]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._note(request, request.read())
        return self._inner.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._note(request, await request.aread())
        return await self._inner.handle_async_request(request)

    def _note(self, request: httpx.Request, body: bytes) -> None:
        self.requests.append((f"{request.url} {request.headers!r}", body))


@dataclass(frozen=True)
class Played:
    """What a scenario came to, at the engine."""

    run: Run
    runs: list[Run]
    events: list[dict[str, Any]]
    traces: list[bytes]
    api: list[tuple[str, bytes]]

    def contents(self) -> Iterator[tuple[str, bytes | str]]:
        """Everything at the engine: the wire, what it keeps, and what it shows of that, sealed."""
        for run in self.runs:
            for request in run.requests:
                yield f"{run.function_id} request {request.number}", request.request_bytes
                yield f"{run.function_id} response {request.number}", request.response_bytes
                yield "headers", repr((request.request_headers, request.response_headers))
            yield "error", json.dumps(run.error, ensure_ascii=False)
            yield "reason", run.reason
            yield "metadata", json.dumps(run.metadata, ensure_ascii=False)
            yield "output", json.dumps(run.output, ensure_ascii=False)
            for step in run.steps.values():
                yield f"step {step.key}", repr(step)
        for event in self.events:
            yield f"event {event['name']}", json.dumps(event, ensure_ascii=False)
        for trace in self.traces:
            yield "userland trace", trace
        for address, body in self.api:
            yield f"API call {address}", address
            yield f"API call {address}", body
        story = story_of(self.runs)
        for told in story.runs:
            yield "timeline", str(timeline_of(told))
        yield "html", render_html(story)
        yield "json report", json.dumps(story_to_json(story, values=True), ensure_ascii=False)


Decrypt = Callable[[Any], Any]


def as_it_was(played: Played, decrypt: Decrypt | None) -> dict[str, Any]:
    """What every run of a scenario came to, decrypted, without what differs each time.

    This is what must be the same with and without plugins. What was deferred is left out: without
    its plugin nothing is.
    """
    opened = decrypt or (lambda value: value)
    runs: dict[str, list[Any]] = {}
    for run in played.runs:
        if run.is_deferred:
            continue
        error = run.error or {}
        told = (
            run.status,
            opened(run.output),
            error.get("name"),
            opened(error.get("message")),
            {key: (step.op, step.status, step.attempts) for key, step in run.steps.items()},
        )
        runs.setdefault(run.function_id, []).append(told)
    for several in runs.values():
        several.sort(key=lambda told: json.dumps(told, default=str))
    names = sorted(event["name"] for event in played.events if event["name"] != DEFERRED_EVENT)
    return {"runs": runs, "events": names}


def opener(key: Key) -> Decrypt:
    """Opens what is encrypted with a key: values, and the texts of errors."""
    decrypt = EncryptionPlugin(KeyRing(key)).decrypt

    def opened(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("{"):
            value = json.loads(value)
        return decrypt(value)

    return opened


def names_of(plugins: Iterable[StackEntry]) -> list[str]:
    """The plugins' names."""
    return [plugin.name for plugin in plugins]
