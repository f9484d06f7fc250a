"""Any program of operations, replayed and retried, counts each successful operation once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import inngest
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inngest_plugins.local import LocalEngine
from inngest_plugins.metadata import MetadataPlugin, MetadataValueError, metadata
from inngest_plugins.metadata._keys import parse
from inngest_plugins.metadata._operations import Document, apply, check
from inngest_plugins.metadata._values import same

DEFAULT = "userland.default"

keys = st.sampled_from(["a", "b", "$.a.x", "$.b[0]", "$.c.y.z"])
values = (
    st.none() | st.integers(-9, 9) | st.lists(st.integers(0, 3), max_size=2) | st.just({"x": 1})
)
writes = st.one_of(
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("delete"), keys, st.none()),
    st.tuples(st.just("append"), keys, st.integers(0, 3)),
    st.tuples(st.just("remove"), keys, st.integers(0, 3)),
    st.tuples(st.just("increment"), keys, st.sampled_from([1, -2, 0.1])),
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a program: code of the body, or a step."""

    step: bool
    for_run: bool
    failures: int
    writes: list[tuple[str, str, Any]]


parts = st.builds(
    Part,
    step=st.booleans(),
    for_run=st.booleans(),
    failures=st.integers(0, 2),
    writes=st.lists(writes, max_size=5),
)


class Model:
    """What metadata ought to be: each operation applied once, in the order of the program."""

    def __init__(self) -> None:
        self.view: Document = {}
        self.scopes: dict[str, Document] = {"run": {}}

    def apply(self, name: str, part: Part) -> None:
        scope = "run" if part.for_run or not part.step else name
        document = self.scopes.setdefault(scope, {})
        for code, key, value in part.writes:
            operation: Any = (code, parse(key), [value] if code == "append" else value)
            try:
                check(document, operation)
            except MetadataValueError:
                continue
            apply(document, operation)
            apply(self.view, operation)


def record(part: Part) -> None:
    target: Any = metadata.run() if part.for_run else metadata
    for code, key, value in part.writes:
        try:
            if code == "delete":
                target.delete(key)
            else:
                getattr(target, code)(key, value)
        except MetadataValueError:
            continue


async def execute(program: list[Part], *, check_midway: bool) -> Any:
    client = inngest.Inngest(app_id="app", is_production=False, middleware=[MetadataPlugin()])
    left = {f"p{number}": part.failures for number, part in enumerate(program)}
    midway: list[bool] = []

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="go"))
    async def fn(ctx: inngest.Context) -> Any:
        model = Model()
        for number, part in enumerate(program):
            name = f"p{number}"
            model.apply(name, part)

            async def step(name: str = name, part: Part = part) -> None:
                record(part)
                if left[name]:
                    left[name] -= 1
                    raise ValueError("again")

            if part.step:
                await ctx.step.run(name, step)
            else:
                record(part)
            if check_midway:
                midway.append(same(metadata.current(), model.view))
        if left.get("end", 0):
            raise ValueError("again")
        return metadata.current()

    async with LocalEngine(client, [fn], retry_interval=0.01) as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert all(midway)
    return run


@pytest.mark.timeout(300)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(parts, max_size=6))
def test_any_program_equals_its_successful_operations_applied_once(program: list[Part]) -> None:
    """Whatever is recorded where, and however often it is retried and replayed, it counts once.

    Reads in the middle of every replay, the value at the end, and what the engine holds for the
    run and for each step all equal the operations applied once in the order of the program.
    """
    run = asyncio.run(execute(program, check_midway=True))
    assert run.status == "Completed", run.error
    model = Model()
    for number, part in enumerate(program):
        model.apply(f"p{number}", part)
    as_json = json.loads(json.dumps(model.view))
    assert same(run.output, as_json)
    for scope, document in model.scopes.items():
        shown = run.metadata.get(scope, {}).get(DEFAULT, {})
        assert same(shown, json.loads(json.dumps(document))), scope
