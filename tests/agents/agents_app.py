"""A scripted model that counts, and an app that runs agents in a function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import inngest
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from inngest_plugins.core import StackEntry
from inngest_plugins.local import LocalEngine, Run, VirtualClock

Answer = Callable[[list[ModelMessage]], ModelResponse] | Sequence[ModelResponsePart] | str
Body = Callable[[inngest.Context], Awaitable[Any]]


class Script:
    """A model that gives prepared answers, one for each request, and counts the requests.

    The answer is chosen by how many answers the conversation holds, so that a request which is
    made again gets the same one.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = answers
        self.requests: list[list[ModelMessage]] = []
        self.model = FunctionModel(self._answer, model_name="scripted")

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        del info
        self.requests.append(messages)
        given = sum(isinstance(message, ModelResponse) for message in messages)
        answer = self._answers[given % len(self._answers)]
        if isinstance(answer, str):
            return ModelResponse(parts=[TextPart(answer)])
        if callable(answer):
            return answer(messages)
        return ModelResponse(parts=list(answer))

    @property
    def asked(self) -> int:
        """How many requests were made."""
        return len(self.requests)


def calls(*tools: str | tuple[str, dict[str, Any]]) -> list[ModelResponsePart]:
    """An answer that calls tools; the ids are those of the places."""
    pairs = [(tool, {}) if isinstance(tool, str) else tool for tool in tools]
    return [
        ToolCallPart(name, args, tool_call_id=f"call-{n}") for n, (name, args) in enumerate(pairs)
    ]


def returned(messages: list[ModelMessage]) -> ModelResponse:
    """An answer that says what the tools returned."""
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    parts = [part for part in last.parts if isinstance(part, ToolReturnPart)]
    return ModelResponse(
        parts=[TextPart("; ".join(f"{part.tool_name}={part.content}" for part in parts))]
    )


class App:
    """A client and its functions."""

    def __init__(self, *plugins: StackEntry) -> None:
        self.client = inngest.Inngest(app_id="app", is_production=False, middleware=list(plugins))
        self.functions: list[inngest.Function[Any]] = []
        self.count: Counter[str] = Counter()

    def function(self, body: Body, *, retries: int = 2, event: str = "go", **options: Any) -> Any:
        """Register a function."""
        create = self.client.create_function(
            fn_id=options.pop("fn_id", body.__name__.replace("_", "-")),
            trigger=inngest.TriggerEvent(event=event),
            retries=retries,
            **options,
        )
        function = create(body)
        self.functions.append(function)
        return function

    async def clock(self) -> int:
        """A tool: tells the hour, and counts its calls."""
        self.count["clock"] += 1
        return 12

    async def run(self, body: Body | None = None, data: Any = None, **options: Any) -> Run:
        """Run the function that the event "go" starts, on a clock that jumps."""
        if body is not None:
            self.function(body, **options)
        async with self.engine() as engine:
            return await engine.run(inngest.Event(name="go", data=data or {}))

    def engine(self) -> LocalEngine:
        """The engine, for tests that do more than one run."""
        return LocalEngine(self.client, self.functions, clock=VirtualClock(0))


def completed(run: Run) -> Any:
    """The output of a run that must have ended well."""
    assert run.status == "Completed", run.error
    return run.output


def failure(run: Run) -> str:
    """The message of a run that must have failed."""
    assert run.status == "Failed", run.output
    assert run.error is not None
    return str(run.error["message"])
