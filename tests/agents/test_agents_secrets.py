"""Nothing that is said to an agent, by it or by its tools is readable outside of the process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.instrumented import InstrumentationSettings
from tests.agents.agents_app import App, Script, calls, returned
from tests.composition.composition_plugins import PluginMaker
from tests.composition.composition_secrets import all_leaks, secret

from inngest_plugins.agents import (
    ApprovalDecision,
    ApprovalRequest,
    Approvals,
    InngestDurability,
    StepConfig,
)

pytestmark = pytest.mark.anyio

PLUGINS = ("sentry", "otel", "mirror", "encryption", "metadata", "ai", "checkpoint")


@pytest.fixture
def plugins() -> Iterator[PluginMaker]:
    """All of them, with what they export in memory."""
    # The arguments of a tool that is a function of its own are the data of an event.
    maker = PluginMaker(event_fields=("encrypted", "topic"))
    yield maker
    maker.close()


def make_agent(plugins: PluginMaker, script: Script, function: Any, *, fails: bool) -> Any:
    """An agent that meets the canary everywhere where it can."""
    settings = InstrumentationSettings(
        tracer_provider=plugins.provider, meter_provider=plugins.meters, include_content=False
    )
    approvals = Approvals(requested="requested", decided="decided", timeout=timedelta(days=7))
    agent: Agent[Any, str] = Agent(
        script.model,
        name="support",
        instructions=secret("instructions"),
        capabilities=[Instrumentation(settings), InngestDurability(approvals=approvals)],
    )

    @agent.tool_plain
    async def look(key: str) -> str:
        if fails:
            raise OSError(secret("error"))
        return secret("result")

    @agent.tool_plain
    async def wrong(key: str) -> str:
        raise ModelRetry(secret("retry"))

    @agent.tool_plain(requires_approval=True)
    async def pay(iban: str) -> str:
        return secret("paid")

    @agent.tool_plain(metadata={"inngest": StepConfig(invoke=function)})
    async def expert(topic: str) -> str:
        return ""

    return agent


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_that_is_said_is_readable(
    plugins: PluginMaker, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    """Neither for the engine, nor in Sentry, spans, metrics, the mirror's rows or the log."""
    caplog.set_level(logging.DEBUG)
    app = App(*(plugins.make(name) for name in PLUGINS))
    argument = secret("argument")
    script = Script(
        calls(("look", {"key": argument}), ("wrong", {"key": argument})),
        calls(("pay", {"iban": argument}), ("expert", {"topic": argument})),
        returned,
    )

    async def know(ctx: inngest.Context) -> str:
        assert ctx.event.data["topic"] == argument
        return secret("invoked")

    async def decide(ctx: inngest.Context) -> None:
        request = ApprovalRequest.model_validate(ctx.event.data)
        assert request.args == {"iban": argument}
        decision = ApprovalDecision(
            approval_id=request.approval_id, approved=True, message=secret("message")
        )
        event = inngest.Event(name="decided", data=decision.event_data(secret=True))
        await ctx.step.send_event("decide", event)

    expert = app.function(know, event="never")
    agent = make_agent(plugins, script, expert, fails=fails)

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run(secret("question"))).output

    app.function(body, retries=1)
    app.function(decide, event="requested")
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"), function="body")
        await engine.settle()
        requests = [[r.request, r.response] for each in engine.runs for r in each.requests]
        traffic = json.dumps([requests, [str(event) for event in engine.events]], default=str)
    # The canary was everywhere where it could be.
    assert run.status == ("Failed" if fails else "Completed"), run.error
    if not fails:
        assert "Canary" in str(run.result)
        assert (script.asked, len(plugins.mirrored())) == (3, 3)
    assert plugins.transport.envelopes
    assert any(span.name == "chat scripted" for span in plugins.spans.get_finished_spans())
    logged = "\n".join(record.getMessage() for record in caplog.records)
    contents = [("traffic", traffic), ("log", logged), *plugins.exported()]
    assert all_leaks(contents) == []
