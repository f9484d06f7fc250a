"""The page of what hooks can read names everything, and its table is what a run shows."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inngest
import pytest

from inngest_plugins.core import Answer, Call, Outcome, Plugin, Send, Step
from inngest_plugins.local import LocalEngine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "call.md").read_text()
HOOK_ROW = re.compile(r"^\| `(\w+)\(.*?\)` \| ([A-Z, ]+) \| (None|the step) \|", re.MULTILINE)


def _section(name: str) -> str:
    _, _, rest = PAGE.partition(f"\n## `{name}`\n")
    return rest.partition("\n## ")[0]


def _public(kind: type) -> list[str]:
    slots = [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]
    fields = [field.name for field in dataclasses.fields(kind)] if kind is inngest.Context else []
    return sorted({name for name in [*dir(kind), *slots, *fields] if not name.startswith("_")})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("call", Call),
        ("step", Step),
        ("outcome", Outcome),
        ("send", Send),
        ("ctx", inngest.Context),
    ],
)
def test_every_attribute_is_on_the_page(name: str, kind: type) -> None:
    """Each public attribute and method of what hooks are given has its line."""
    named = set(re.findall(r"`(?:await |Call\.)?(\w+)", _section(name)))
    by_key = {"get"}  # shown as call.get(KEY)
    assert [each for each in _public(kind) if each not in named | by_key] == []


class Probe(Plugin):
    """Notes in which phase each hook runs, and whether a step's handler does."""

    def __init__(self) -> None:
        self.seen: dict[str, set[tuple[str, bool]]] = defaultdict(set)

    def note(self, hook: str, call: Call | None) -> None:
        if call is not None:
            self.seen[hook].add((call.phase.name, call.step is not None))

    def transform_input(self, call: Call) -> None:
        self.note("transform_input", call)

    def before_memoization(self, call: Call) -> None:
        self.note("before_memoization", call)

    def step_reached(self, call: Call, step: Step) -> None:
        self.note("step_reached", call)

    def transform_memo(self, call: Call, step: Step) -> None:
        self.note("transform_memo", call)

    def after_memoization(self, call: Call) -> None:
        self.note("after_memoization", call)

    def before_execution(self, call: Call) -> None:
        self.note("before_execution", call)

    def transform_step_input(self, call: Call, step: Step) -> None:
        self.note("transform_step_input", call)

    def answer_step(self, call: Call, step: Step) -> Answer | None:
        if step.op == "StepRun":
            # What the page says of the steps of the engine stands below its table.
            self.note("answer_step", call)
        return None

    @contextlib.contextmanager
    def around_step(self, call: Call, step: Step) -> Iterator[None]:
        self.note("around_step", call)
        yield

    def before_send_events(self, send: Send) -> None:
        self.note("before_send_events", send.call)

    def after_send_events(self, send: Send) -> None:
        self.note("after_send_events", send.call)

    def after_execution(self, call: Call) -> None:
        self.note("after_execution", call)

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        self.note("transform_output", call)

    def before_response(self, call: Call) -> None:
        self.note("before_response", call)


def test_the_table_of_hooks_is_what_a_run_shows() -> None:
    """Phase and running step of each hook are what the page says."""
    probe = Probe()
    client = inngest.Inngest(app_id="docs", is_production=False, middleware=[probe])

    @client.create_function(fn_id="probed", trigger=inngest.TriggerEvent(event="docs/probe"))
    async def probed(ctx: inngest.Context) -> Any:
        async def one() -> int:
            return 1

        await ctx.step.run("one", one)
        await ctx.step.send_event("send", inngest.Event(name="docs/sent"))
        await ctx.step.wait_for_event("wait", event="docs/never", timeout=datetime.timedelta(1))
        return None

    run = LocalEngine(client, [probed]).run_sync(inngest.Event(name="docs/probe"))
    assert run.status == "Completed", run.reason

    table = {
        hook: {(phase, step == "the step") for phase in phases.split(", ")}
        for hook, phases, step in HOOK_ROW.findall(PAGE)
    }
    assert table == dict(probe.seen)
