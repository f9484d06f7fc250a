"""Durable agents on a real server."""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import inngest
import pytest

from inngest_plugins.checkpoint import CheckpointPlugin

if sys.version_info < (3, 11) or not find_spec("pydantic_ai"):
    pytest.skip("Pydantic AI needs Python 3.11", allow_module_level=True)

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel

from inngest_plugins.agents import ApprovalDecision, ApprovalRequest, Approvals, InngestDurability

if TYPE_CHECKING:
    from tests.live.conftest import LiveServer


def scripted(count: Callable[[str], int]) -> FunctionModel:
    """A model that looks two things up at once, then pays, then says what it knows."""

    def answer(messages: list[Any], info: object) -> ModelResponse:
        count("model")
        given = sum(isinstance(message, ModelResponse) for message in messages)
        if given == 0:
            return ModelResponse(
                parts=[ToolCallPart("look", {"key": key}, tool_call_id=key) for key in ("a", "b")]
            )
        if given == 1:
            return ModelResponse(parts=[ToolCallPart("pay", {"euros": 5}, tool_call_id="pay")])
        parts = [part for message in messages for part in message.parts]
        returns = [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]
        return ModelResponse(parts=[TextPart(" ".join(returns))])

    return FunctionModel(answer, model_name="scripted")


@pytest.mark.parametrize("checkpoints", [False, True])
def test_live_agent(live_server: LiveServer, checkpoints: bool) -> None:
    """Parallel tools, one of which fails once, and an approval: each call is made once."""
    app_id = f"live-agents-{uuid.uuid4().hex[:8]}"
    plugins = [CheckpointPlugin()] if checkpoints else []
    client = live_server.client(app_id, middleware=plugins)
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def count(name: str) -> int:
        with lock:
            counts[name] += 1
            return counts[name]

    approvals = Approvals(
        requested=f"{app_id}/requested", decided=f"{app_id}/decided", timeout=timedelta(minutes=5)
    )
    agent = Agent(
        scripted(count), name="support", capabilities=[InngestDurability(approvals=approvals)]
    )

    @agent.tool_plain
    async def look(key: str) -> str:
        # Both are under way at the same time.
        await asyncio.sleep(0.2)
        if count(f"look {key}") == 1 and key == "b":
            raise inngest.RetryAfterError("line noise", timedelta(seconds=1))
        return key.upper()

    @agent.tool_plain(requires_approval=True)
    async def pay(euros: int) -> str:
        count("pay")
        return f"{euros} paid"

    @client.create_function(
        fn_id="support", trigger=inngest.TriggerEvent(event=f"{app_id}/asked"), retries=4
    )
    async def support(ctx: inngest.Context) -> Any:
        result = await agent.run("hi")
        return [result.output, result.usage.requests]

    @client.create_function(
        fn_id="desk", trigger=inngest.TriggerEvent(event=f"{app_id}/requested"), retries=0
    )
    async def desk(ctx: inngest.Context) -> None:
        request = ApprovalRequest.model_validate(ctx.event.data)
        decision = ApprovalDecision(approval_id=request.approval_id, approved=True)
        event = inngest.Event(name=f"{app_id}/decided", data=decision.event_data())
        await ctx.step.send_event("decide", event)

    live_server.serve(client, [support, desk])
    run_id = live_server.start(client, inngest.Event(name=f"{app_id}/asked"))
    run = live_server.ended(run_id, timeout=120)
    assert run["status"] == "COMPLETED", run["output"]
    assert "A B 5 paid" in run["output"]
    assert counts == {"model": 3, "look a": 1, "look b": 2, "pay": 1}
