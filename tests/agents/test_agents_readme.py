"""The README's example and the example agent, run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent
from tests.agents.agents_app import App, Script, calls, completed, returned
from tests.readme import examples_of

from inngest_plugins.agents import ApprovalDecision, ApprovalRequest, Approvals, InngestDurability
from inngest_plugins.cli import load_app
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine, VirtualClock
from inngest_plugins.validation import EventType, ValidationPlugin

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


async def test_the_readme_s_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for the model."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    source = examples_of("agents")[0]
    script = Script(calls(("weather", {"city": "Rome"})), returned)
    module: dict[str, Any] = {"scripted": script.model}
    exec(source.replace('"openai:gpt-5"', "scripted"), module)
    async with LocalEngine(module["client"], [module["support"]]) as engine:
        event = inngest.Event(name="support/asked", data={"question": "How is Rome?"})
        run = await engine.run(event)
    assert completed(run) == "weather=The sun shines in Rome."


async def test_the_example_agent() -> None:
    """It looks at two things at once, waits three days for an approval, and answers."""
    app = load_app(str(ROOT / "examples" / "agent" / "app.py"))
    async with LocalEngine(app.client, app.functions, clock=VirtualClock(0)) as engine:
        run = await engine.run(
            inngest.Event(name="support/question.asked", data={"question": "Broken!"})
        )
    assert completed(run) == "I am sorry! 79 EUR for order A-1042 are on their way."
    wait = run.steps["support__approval:refund"]
    assert wait.ended_at is not None
    assert wait.ended_at - wait.started_at > 3 * 24 * 3600 - 60


async def test_approvals_beside_encryption_and_validation() -> None:
    """Only the ids of the events stay readable for the engine; their contract is checked."""
    decided = EventType("decided", ApprovalDecision)
    app = App(
        EncryptionPlugin(KeyRing.generate()),
        ValidationPlugin(events=[decided]),
    )
    agent: Agent[object, str] = Agent(
        Script(calls(("pay", {"iban": "s3cret"})), returned).model,
        name="support",
        capabilities=[
            InngestDurability(
                approvals=Approvals(
                    requested="requested", decided="decided", timeout=timedelta(days=7)
                )
            )
        ],
    )

    @agent.tool_plain(requires_approval=True)
    async def pay(iban: str) -> str:
        app.count["pay"] += 1
        return "paid"

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    async def decide(ctx: inngest.Context) -> None:
        request = ApprovalRequest.model_validate(ctx.event.data)
        assert request.args == {"iban": "s3cret"}
        decision = ApprovalDecision(
            approval_id=request.approval_id, approved=True, message="s3cret"
        )
        data = decision.event_data(secret=True)
        await ctx.step.send_event("decide", inngest.Event(name="decided", data=data))

    app.function(body)
    app.function(decide, event="requested")
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"), function="body")
        await engine.settle()
        wire = [[r.request, r.response] for other in engine.runs for r in other.requests]
    assert run.status == "Completed", run.error
    assert (run.result, app.count["pay"]) == ("pay=paid", 1)
    assert "s3cret" not in str([wire, engine.events])
