"""Random programs give the same with and without checkpointing: results, handlers, outcomes."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import inngest
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.checkpoint.checkpoint_rig import ASYNC, SYNC, Played, play
from tests.core.core_protocol import make_function

from inngest_plugins.checkpoint import CheckpointPlugin

HOUR = datetime.timedelta(hours=1)
RETRIES = 2


@dataclass(frozen=True)
class Run:
    """`step.run` of a value; it fails so often before, and what it raises is caught or not."""

    step: str
    value: Any
    failures: int = 0
    catches: bool = False
    error: str = "error"


@dataclass(frozen=True)
class Sleep:
    """`step.sleep`."""

    step: str


@dataclass(frozen=True)
class Wait:
    """`step.wait_for_event` for an event that never comes."""

    step: str


@dataclass(frozen=True)
class Send:
    """`step.send_event`."""

    step: str


@dataclass(frozen=True)
class Invoke:
    """`step.invoke` of a function of two steps."""

    step: str


@dataclass(frozen=True)
class Group:
    """`group.parallel` of branches."""

    branches: tuple[tuple[Statement, ...], ...]
    is_race: bool = False


@dataclass(frozen=True)
class Nested:
    """A call of a function of the program's own."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Raise:
    """The program raises on its first attempts: so often, by kind of error."""

    times: int
    error: str = "error"


Statement: TypeAlias = "Run | Sleep | Wait | Send | Invoke | Group | Nested | Raise"

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner)
        | st.dictionaries(st.sampled_from(["z", "é", "a", "data", "error"]), inner, max_size=3)
    ),
    max_leaves=4,
)
ERRORS = st.sampled_from(["error", "error", "final", "later"])
RUNS = st.builds(
    Run,
    NAMES,
    VALUES,
    failures=st.sampled_from([0, 0, 0, 0, 1, 2, 9]),
    catches=st.booleans(),
    error=ERRORS,
)
LEAVES = RUNS | st.builds(Sleep, NAMES) | st.builds(Wait, NAMES) | st.just(Send("send"))


def blocks(inner: st.SearchStrategy[Statement]) -> st.SearchStrategy[Statement]:
    """Statements that hold others."""
    sequence = st.lists(inner, min_size=1, max_size=3).map(tuple)
    branch = st.lists(LEAVES.filter(_is_calm), min_size=1, max_size=2).map(tuple)
    branches = st.lists(branch, min_size=2, max_size=3).map(tuple).filter(_has_one_end)
    groups = st.builds(Group, branches, is_race=st.booleans())
    return st.builds(Nested, sequence) | groups


def _is_calm(statement: Statement) -> bool:
    # An error of this kind in a group ends the run with members pending: the SDK's own trouble.
    return not isinstance(statement, Run) or statement.error == "error"


def _has_one_end(branches: Sequence[Sequence[Statement]]) -> bool:
    """Whether the end of a group does not depend on which member's last attempt comes first.

    A member that fails for good ends the run, whatever the others that are tried again have got to.
    """
    failing = [
        [each for each in branch if isinstance(each, Run) and each.failures] for branch in branches
    ]
    for_good = any(
        each.failures > RETRIES and not each.catches for runs in failing for each in runs
    )
    return not for_good or sum(map(bool, failing)) == 1


STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    RUNS, RUNS, LEAVES, st.builds(Invoke, NAMES), st.recursive(LEAVES, blocks, max_leaves=4)
)
PROGRAMS = st.tuples(
    st.lists(STATEMENTS, min_size=1, max_size=7).map(tuple),
    st.none() | st.builds(Raise, st.sampled_from([1, 2, 9]), error=ERRORS),
)
Program: TypeAlias = "tuple[tuple[Statement, ...], Raise | None]"


class Playing:
    """Runs one program; counts what it did beyond one request."""

    def __init__(self, program: Program) -> None:
        self.statements, self.end = program
        self.ran: Counter[str] = Counter()
        self.raised = 0

    async def body(self, ctx: Any) -> Any:
        values = await self.sequence(ctx, self.statements, "")
        if self.end is not None and self.raised < self.end.times:
            self.raised += 1
            raise _error(self.end.error)
        return values

    async def sequence(self, ctx: Any, statements: Sequence[Statement], place: str) -> list[Any]:
        return [
            await self.statement(ctx, statement, f"{place}/{number}")
            for number, statement in enumerate(statements)
        ]

    async def statement(self, ctx: Any, statement: Statement, place: str) -> Any:
        match statement:
            case Run():
                return await self.run(ctx, statement, place)
            case Sleep(step):
                return await ctx.step.sleep(step, HOUR)
            case Wait(step):
                return await ctx.step.wait_for_event(step, event="never", timeout=HOUR)
            case Send(step):
                return len(await ctx.step.send_event(step, inngest.Event(name="shop/told")))
            case Invoke(step):
                return await ctx.step.invoke_by_id(step, function_id="child", data={"n": 1})
            case Nested(statements):
                return await self.sequence(ctx, statements, place)
            case Group(branches, is_race):
                return await self.group(ctx, branches, place, is_race=is_race)
            case Raise():
                raise AssertionError("a program raises at its end only")

    async def run(self, ctx: Any, statement: Run, place: str) -> Any:
        def handler() -> Any:
            self.ran[place] += 1
            if self.ran[place] <= statement.failures:
                raise _error(statement.error)
            return statement.value

        caught = (inngest.StepError, ValueError) if statement.catches else ()
        try:
            return repr(await ctx.step.run(statement.step, handler))
        except caught as err:
            return f"caught {type(err).__name__}"

    async def group(
        self, ctx: Any, branches: Sequence[Sequence[Statement]], place: str, *, is_race: bool
    ) -> Any:
        modes = inngest.ParallelMode
        return list(
            await ctx.group.parallel(
                tuple(
                    lambda n=number, branch=branch: self.sequence(ctx, branch, f"{place}[{n}]")
                    for number, branch in enumerate(branches)
                ),
                parallel_mode=modes.RACE if is_race else modes.WAIT,
            )
        )


def _error(kind: str) -> Exception:
    if kind == "final":
        return inngest.NonRetriableError("final")
    return inngest.RetryAfterError("later", 60_000) if kind == "later" else ValueError("error")


def child(setting: str) -> Any:
    def beside(client: inngest.Inngest) -> list[inngest.Function[Any]]:
        async def body(ctx: Any) -> Any:
            first = await ctx.step.run("one", lambda: ctx.event.data["n"])
            return await ctx.step.run("two", lambda: first + 1)

        trigger = inngest.TriggerEvent(event="shop/child")
        return [make_function(setting, client, body, fn_id="child", trigger=trigger)]

    return beside


async def played(setting: str, program: Program, *plugins: Any) -> tuple[Playing, Played]:
    playing = Playing(program)
    result = await play(setting, playing.body, *plugins, beside=child(setting), retries=RETRIES)
    return playing, result


def seen(playing: Playing, result: Played) -> dict[str, Any]:
    """What must not depend on checkpointing."""
    run = result.run
    return {
        "status": run.status,
        "output": run.output,
        "error": None if run.error is None else (run.error["name"], run.error["message"]),
        "handlers": playing.ran,
        "raised": playing.raised,
        "outcomes": Counter(result.recorder.outcomes),
        "memos": {
            step_id: _comparable(step.memo)
            for step_id, step in run.steps.items()
            # The ids of events are new ones each time.
            if step.id.partition(":")[0] != "send"
        },
    }


def _comparable(memo: Any) -> Any:
    if isinstance(memo, dict) and isinstance(memo.get("error"), dict):
        # The stack names the lines that the step was called through.
        return {name: text for name, text in memo["error"].items() if name != "stack"}
    return memo


def _has_race(statements: Sequence[Statement]) -> bool:
    return any(
        (isinstance(each, Group) and each.is_race)
        or (isinstance(each, Nested) and _has_race(each.statements))
        for each in statements
    )


def check(program: Program, setting: str, buffer: int) -> None:
    async def compare() -> None:
        bare = seen(*await played(setting, program))
        plugin = CheckpointPlugin(buffer=buffer)
        playing, result = await played(setting, program, plugin)
        checkpointed = seen(playing, result)
        differing = {name for name, value in bare.items() if checkpointed[name] != value}
        if _has_race(program[0]):
            # The engine asks once as each member ends: how many requests come to the step after
            # it depends on which is faster.
            differing -= {"handlers", "outcomes"}
            assert checkpointed["handlers"].keys() == bare["handlers"].keys()
        assert not differing, [(name, bare[name], checkpointed[name]) for name in differing]

    anyio.run(compare)


COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
BUFFERS = st.sampled_from([1, 1, 2, 5])
SETTINGS = st.sampled_from([ASYNC, SYNC])


EXAMPLES = int(os.environ.get("INNGEST_PLUGINS_PROGRAMS", "20"))
"""How many programs to try; 2,000 take some ten minutes."""


@pytest.mark.timeout(max(300, EXAMPLES * 4))
@settings(max_examples=EXAMPLES, **COMMON)
@given(PROGRAMS, SETTINGS, BUFFERS)
def test_random_programs(program: Program, setting: str, buffer: int) -> None:
    """Sequences, groups, nested calls, errors, retries, sleeps: the same with and without."""
    check(program, setting, buffer)
