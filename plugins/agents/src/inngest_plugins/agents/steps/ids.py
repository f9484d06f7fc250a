"""The agent runs of one request, and the ids of the steps that each of them makes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.messages import ModelResponse

from inngest_plugins.core import Call, CallKey


class AgentRun:
    """One `agent.run` in a function: gives each step an id that is the same on every replay.

    Steps that follow one another are counted in the order in which they are reached. Tool calls
    run at the same time, and which one is reached first may differ from request to request: they
    are counted in the order in which the model asked for them.

    Args:
        prefix: what the ids begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._counts: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._numbers: dict[tuple[str, str], list[int]] = {}
        self._taken: Counter[tuple[str, str, str]] = Counter()
        self._counted: tuple[int, int] | None = None

    def step_id(self, name: str) -> str:
        """Return the id of the next step with a name."""
        count = self._counts[name]
        self._counts[name] += 1
        return self._numbered(name, count)

    def tool_step_id(self, name: str, ctx: RunContext[Any]) -> str:
        """Return the id of a step that belongs to a tool call.

        Args:
            name: the step's name.
            ctx: the context of the tool call.
        """
        self._count_calls(ctx)
        call = ctx.tool_name or "", ctx.tool_call_id or ""
        numbers = self._numbers.get(call, [])
        # A model that gives two calls the same id gets them numbered as they are reached.
        use = (name, *call)
        taken = self._taken[use]
        self._taken[use] += 1
        return self._numbered(name, numbers[taken]) if taken < len(numbers) else self.step_id(name)

    def _count_calls(self, ctx: RunContext[Any]) -> None:
        response = next((m for m in reversed(ctx.messages) if isinstance(m, ModelResponse)), None)
        here = ctx.run_step, len(ctx.messages)
        if response is None or self._counted == here:
            return
        self._counted = here
        self._numbers = {}
        self._taken = Counter()
        for call in response.tool_calls:
            numbers = self._numbers.setdefault((call.tool_name, call.tool_call_id), [])
            numbers.append(self._calls[call.tool_name])
            self._calls[call.tool_name] += 1

    def _numbered(self, name: str, count: int) -> str:
        return f"{self._prefix}__{name}" + (f":{count}" if count else "")


class AgentRuns:
    """The agent runs of a request, by the ids that Pydantic AI gives them."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._ids: Counter[str] = Counter()
        self._runs: dict[tuple[str, str | None], AgentRun] = {}

    def new_id(self, call: Call, name: str) -> str:
        """Return an id for the next run of an agent, the same on every replay."""
        self._ids[name] += 1
        return f"{call.run_id}:{name}:{self._ids[name]}"

    def of(self, name: str, run_id: str | None) -> AgentRun:
        """Return a run of an agent; the second one in a function has `#2` in its step ids."""
        run = self._runs.get((name, run_id))
        if run is None:
            self._begun[name] += 1
            number = self._begun[name]
            run = AgentRun(name if number == 1 else f"{name}#{number}")
            self._runs[name, run_id] = run
        return run


_RUNS: CallKey[AgentRuns] = CallKey("agents.runs")


def runs_of(call: Call) -> AgentRuns:
    """Return the agent runs of a request."""
    runs = call.get(_RUNS)
    if runs is None:
        runs = call[_RUNS] = AgentRuns()
    return runs
