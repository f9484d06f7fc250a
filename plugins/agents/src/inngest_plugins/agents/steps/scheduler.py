"""Makes one parallel group of the steps that an agent reaches at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import inngest

from inngest_plugins.core import Call, CallKey

MakeStep = Callable[[], Awaitable[Any]]

_QUIET_TURNS = 10
"""Turns of the event loop without a new step, after which the steps so far form a group."""

_LATE_SECONDS = 5.0
"""How long a group waits for a tool call whose hooks are slow, before it makes its step."""

_ENDS_REQUEST = (inngest.NonRetriableError, inngest.RetryAfterError)
"""Errors that the SDK does not store as a step's result: they end the request at once."""


@dataclass(eq=False)
class _Expected:
    """A tool call that has begun and will make a step."""

    reached: bool = False


_expected: contextvars.ContextVar[_Expected | None] = contextvars.ContextVar(
    "inngest_plugins_agents_expected", default=None
)


class _Reached:
    """A step that the agent's code has reached, and the task that waits for it."""

    def __init__(self, step_id: str, make: MakeStep) -> None:
        self.step_id = step_id
        self.make = make
        self.context = contextvars.copy_context()
        self.is_settled = False
        self.turn = asyncio.Event()
        self.value: Any = None
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Make the step and keep its result or error; raise what ends the request."""
        try:
            self.value = await self.make()
        except Exception as err:
            self.error = err
            if isinstance(err, _ENDS_REQUEST):
                raise
        except BaseException as err:
            self.error = err
            raise

    def settle(self) -> None:
        self.is_settled = True
        self.turn.set()

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


class Scheduler:
    """Runs the steps of a request's agents, one by one or as a group.

    An agent calls tools in tasks of their own. The SDK runs one step at a time, or several as a
    `group.parallel`, and ends the request with an interrupt. So the task that reaches a step first
    waits for those that follow it in the same moment, and makes the group for all of them.

    Args:
        call: the request.

    Attributes:
        interrupt: the SDK's interrupt that ended the request, once it has.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reached: list[_Reached] = []
        self._is_leading = False
        self._arrivals = 0
        self._expected = 0
        self._makers = 0
        self._waiting: list[_Reached] = []
        self.interrupt: BaseException | None = None

    @contextlib.contextmanager
    def making_steps(self) -> Iterator[None]:
        """Count code that makes steps while it runs: an agent, or a tool in the function's body."""
        if self._makers == 0:
            # An interrupt of another branch of the function's own group does not concern this one.
            self.interrupt = None
        self._makers += 1
        try:
            yield
        finally:
            self._makers -= 1

    @contextlib.contextmanager
    def expecting_step(self) -> Iterator[None]:
        """Make groups wait for the step of the tool call that runs inside."""
        expected = _Expected()
        token = _expected.set(expected)
        self._expected += 1
        try:
            yield
        finally:
            _expected.reset(token)
            self._has_reached(expected)

    def _has_reached(self, expected: _Expected | None) -> None:
        if expected is not None and not expected.reached:
            expected.reached = True
            self._expected -= 1

    async def run(self, step_id: str, make: MakeStep) -> Any:
        """Run a step and return its result.

        Args:
            step_id: the id under which `make` makes the step.
            make: makes the step, with one of the tools of `ctx.step`.

        Raises:
            BaseException: the SDK's interrupt, when the request ends with this step or its group.
        """
        if self.interrupt is not None and not self._is_leading:
            raise self.interrupt
        step = _Reached(step_id, make)
        self._reached.append(step)
        self._arrivals += 1
        self._has_reached(_expected.get())
        try:
            while not step.is_settled:
                if self._is_leading:
                    await step.turn.wait()
                    step.turn.clear()
                else:
                    await self._lead()
        finally:
            if step in self._reached:
                self._reached.remove(step)
        return step.result()

    async def _lead(self) -> None:
        self._is_leading = True
        steps: list[_Reached] = []
        try:
            await self._wait_for_others()
            # Sorted by id, so that a group has the same order in every request.
            steps = sorted(self._reached, key=lambda step: step.step_id)
            self._reached = []
            await self._run(steps)
            if await self._target_comes_later(steps):
                self._waiting += steps
                steps = []
                self.interrupt = None
        except BaseException as err:
            # The leading task was cancelled, and with it the steps that it ran for the others.
            for step in steps:
                step.error = step.error or err
            raise
        finally:
            self._is_leading = False
            if self.interrupt is not None:
                for step in self._waiting:
                    step.error = self.interrupt
                steps += self._waiting
                self._waiting = []
            for step in steps:
                step.settle()
            for step in self._reached:
                step.turn.set()

    async def _wait_for_others(self) -> None:
        ends = asyncio.get_running_loop().time() + _LATE_SECONDS
        arrivals = -1
        while arrivals != self._arrivals or self._expected > 0:
            if arrivals == self._arrivals:
                if asyncio.get_running_loop().time() > ends:
                    return
                await asyncio.sleep(0.001)
            arrivals = self._arrivals
            for _ in range(_QUIET_TURNS):
                await asyncio.sleep(0)

    async def _target_comes_later(self, steps: Sequence[_Reached]) -> bool:
        """Wait for the request's target step; return whether the agents have reached more steps.

        When several agents run at the same time, the order of their steps may differ from request
        to request. So the first group need not hold the step that the engine wants to have run.
        """
        target = self._call.target
        if self.interrupt is None or self._makers < 2 or target is None:
            return False
        if any(_hashed(step.step_id) == target for step in steps):
            return False
        ends = asyncio.get_running_loop().time() + _LATE_SECONDS
        while not self._reached and asyncio.get_running_loop().time() < ends:
            if self._makers < 2:
                return False
            await asyncio.sleep(0.001)
        return bool(self._reached)

    async def _run(self, steps: Sequence[_Reached]) -> None:
        if len(steps) == 1:
            with contextlib.suppress(Exception):
                await self._run_to_end(steps, _in_context(steps[0], steps[0].context))
        elif steps:
            with contextlib.suppress(Exception):
                await self._run_to_end(steps, self._group(steps))

    async def _run_to_end(self, steps: Sequence[_Reached], running: Awaitable[Any]) -> None:
        """Run a step or a group. If it ends the request, all of its steps get that interrupt."""
        ended: BaseException | None = None
        try:
            await running
        except asyncio.CancelledError:
            raise
        except BaseException as err:
            ended = err
        if ended is None:
            # A request with a target skips the group's other steps, and ends without raising.
            ended = next((s.error for s in steps if _ends_request(s.error)), None)
        if ended is not None and _ends_request(ended):
            if not isinstance(ended, Exception):
                self.interrupt = ended
            for step in steps:
                step.error = ended

    async def _group(self, steps: Sequence[_Reached]) -> None:
        ctx = self._call.ctx
        assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
        around = contextvars.copy_context()

        def branch(step: _Reached) -> MakeStep:
            return lambda: _in_context(step, _merged_context(step.context, around))

        await ctx.group.parallel(tuple(branch(step) for step in steps))


def _hashed(step_id: str) -> str:
    return hashlib.sha1(step_id.encode(), usedforsecurity=False).hexdigest()


def _ends_request(error: BaseException | None) -> bool:
    return error is not None and (
        isinstance(error, _ENDS_REQUEST) or not isinstance(error, Exception)
    )


async def _in_context(step: _Reached, context: contextvars.Context) -> None:
    await context.run(asyncio.ensure_future, step.run())


def _merged_context(own: contextvars.Context, around: contextvars.Context) -> contextvars.Context:
    """Return the current context with the variables that the step's own task has set."""
    context = contextvars.copy_context()
    for variable, value in own.items():
        if variable not in around or around[variable] is not value:
            context.run(variable.set, value)
    return context


_SCHEDULER: CallKey[Scheduler] = CallKey("agents.scheduler")


def scheduler_of(call: Call) -> Scheduler:
    """Return the scheduler of a request."""
    scheduler = call.get(_SCHEDULER)
    if scheduler is None:
        scheduler = call[_SCHEDULER] = Scheduler(call)
    return scheduler
