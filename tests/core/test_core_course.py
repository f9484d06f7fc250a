"""The course of a request: its table, and random requests against the bare SDK."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.core.core_protocol import BOTH, Engine, Reply, make_client, serve
from tests.core.core_spies import AsyncSpy, Spy, foreign, of

from inngest_plugins.core.base.hook_names import HOOKS
from inngest_plugins.core.request.course import FIRES, Stage

REQUEST = (
    "transform_input",
    "before_memoization",
    "after_memoization",
    "before_execution",
    "after_execution",
    "transform_output",
    "before_response",
)
"""The hooks of a request, in the order of the design."""

CLOSED_BY = {
    "transform_input": "before_response",
    "before_memoization": "after_memoization",
    "before_execution": "after_execution",
    "around_step": "~around_step",
    "before_send_events": "after_send_events",
}

FOREIGN = (
    "transform_input",
    "before_execution",
    "after_execution",
    "transform_output",
    "before_response",
)

KINDS = ("step", "sleep", "pair", "send", "failing", "caught", "raise")


def test_the_stages_fire_the_hooks_in_the_order_of_the_design() -> None:
    """The table of stages names hooks that exist, in the order in which a request fires them."""
    fired = [FIRES[stage] for stage in Stage if stage in FIRES]
    assert fired == [name for name in REQUEST if not name.startswith("transform_")]
    assert set(fired) <= set(HOOKS)
    assert list(Stage) == sorted(Stage)


class Mistake(Exception):
    """What the functions of this module raise."""


async def run_program(ctx: Any, program: list[str], started: Any = None) -> list[Any]:
    """Go through the steps of a program."""
    import inngest

    values: list[Any] = []
    for number, kind in enumerate(program):
        name = f"{kind}{number}"
        if kind == "step":
            values.append(await ctx.step.run(name, lambda: {"n": 1}))
        elif kind == "sleep":
            await ctx.step.sleep(name, datetime.timedelta(seconds=1))
        elif kind == "pair":
            pair = (
                lambda name=name: ctx.step.run(f"{name}l", lambda: 1),
                lambda name=name: ctx.step.run(f"{name}r", lambda: 2),
            )
            values.append(list(await ctx.group.parallel(pair)))
        elif kind == "send":
            values.append(await ctx.step.send_event(name, inngest.Event(name="sent")))
        elif kind == "failing":
            await ctx.step.run(name, _failing)
        elif kind == "caught":
            with contextlib.suppress(Exception):
                await ctx.step.run(name, _failing)
        else:
            raise Mistake("the function")
    return values


def _failing() -> None:
    raise Mistake("the step")


def memo_of(kind: str, number: int) -> dict[str, Any]:
    """What the engine has memoized once a part of the program is done."""
    name = f"{kind}{number}"
    if kind == "pair":
        return {f"{name}l": {"data": 1}, f"{name}r": {"data": 2}}
    if kind == "sleep":
        return {name: None}
    if kind == "send":
        return {name: {"data": ["id0"]}}
    if kind in ("failing", "caught"):
        return {name: {"error": {"name": "Mistake", "message": "the step", "stack": ""}}}
    return {name: {"data": {"n": 1}}}


def told(reply: Reply) -> Any:
    """What the engine makes of an answer: all but the tracebacks and the time to wake up at."""
    if reply.status == 206:
        return [
            (op["op"], op["id"], op.get("data"), (op.get("error") or {}).get("message"))
            for op in reply.ops
        ]
    body = reply.body
    if isinstance(body, dict) and "message" in body:
        return reply.status, body.get("name"), body["message"], reply.no_retry
    return reply.status, body


class RandomRequests(RuleBasedStateMachine):
    """Builds a function, its memos and its middleware, and posts requests to it.

    Each request goes to the bare SDK with the other middleware alone, and to the same with two
    plugins: the answer is the same, and the hooks of each plugin keep the law of the course.
    """

    def __init__(self) -> None:
        super().__init__()
        self.program: list[str] = []
        self.done = 0
        self.raising: dict[str, dict[str, BaseException]] = {"before": {}, "behind": {}}
        self.log: list[str] = []

    @initialize(setting=st.sampled_from(BOTH), kind=st.sampled_from([Spy, AsyncSpy]))
    def choose(self, setting: str, kind: Any) -> None:
        """How the function runs."""
        self.setting = setting
        self.kind = kind

    @rule(kind=st.sampled_from(KINDS))
    def extend(self, kind: str) -> None:
        """The function does one thing more."""
        self.program.append(kind)

    @rule()
    def memoize(self) -> None:
        """The engine has one result more."""
        self.done = min(self.done + 1, len(self.program))

    @rule(place=st.sampled_from(["before", "behind"]), hook=st.sampled_from(FOREIGN))
    def disturb(self, place: str, hook: str) -> None:
        """Other middleware raises from now on."""
        self.raising[place][hook] = Mistake(f"{place} {hook}")

    @rule()
    def calm(self) -> None:
        """It does not any more."""
        self.raising = {"before": {}, "behind": {}}

    def _memos(self) -> dict[str, Any]:
        memos: dict[str, Any] = {}
        for number, kind in enumerate(self.program[: self.done]):
            if kind != "raise":
                memos.update(memo_of(kind, number))
        return memos

    def _post(self, *plugins: Any) -> Reply:
        program = list(self.program)

        async def body(ctx: Any) -> Any:
            return await run_program(ctx, program)

        client = make_client(
            foreign("before", [], raises=self.raising["before"]),
            *plugins,
            foreign("behind", [], raises=self.raising["behind"]),
        )
        app = serve(self.setting, body, client=client)
        with Engine().serving(client):
            return app.post(memos=self._memos(), run_id="run")

    @rule()
    def request(self) -> None:
        """The answer is that of the bare SDK."""
        self.log.clear()
        answer = told(self._post(self.kind("a", self.log), self.kind("b", self.log)))
        if not any(self.raising.values()):
            assert answer == told(self._post())
        elif isinstance(bare := told(self._post()), tuple):
            # Which of several errors is answered may differ; that there is one may not.
            assert isinstance(answer, tuple)
            assert (answer[0] >= 400) == (bare[0] >= 400)

    @rule()
    def cancel(self) -> None:
        """A request that is cancelled in its first new step closes what it opened."""
        if "async" not in self.setting:
            return
        self.log.clear()
        program = list(self.program)
        reached = asyncio.Event()

        async def waiting() -> None:
            reached.set()
            await asyncio.Event().wait()

        async def body(ctx: Any) -> Any:
            await run_program(ctx, program[: self.done])
            return await ctx.step.run("endless", waiting)

        client = make_client(self.kind("a", self.log), self.kind("b", self.log))
        app = serve(self.setting, body, client=client)

        async def cancelled() -> None:
            with Engine().serving(client):
                task = asyncio.create_task(app.apost(memos=self._memos(), run_id="run"))
                waiter = asyncio.create_task(reached.wait())
                await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        asyncio.run(cancelled())

    @invariant()
    def hooks_keep_the_law(self) -> None:
        """Each hook at most once, in the order of the course, and what opened has closed."""
        for name in ("a", "b"):
            hooks = of(self.log, name)
            of_request = [hook for hook in hooks if hook in REQUEST]
            assert of_request == [hook for hook in REQUEST if hook in of_request]
            for opens, closes in CLOSED_BY.items():
                assert hooks.count(opens) == hooks.count(closes), (opens, hooks)


RandomRequests.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRandomRequests = RandomRequests.TestCase
