"""Tool calls that need an approval wait for an event, for days if need be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import inngest
import pytest
from pydantic_ai import Agent
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import (
    AgentConfigError,
    ApprovalDecision,
    ApprovalRequest,
    Approvals,
    ExternalAnswer,
    InngestDurability,
)

pytestmark = pytest.mark.anyio

ASKED, DECIDED = "support/approval.requested", "support/approval.decided"


def approving(timeout: timedelta, *answers: Any) -> tuple[Agent[object, str], Script, App]:
    """An agent whose tool `pay` needs an approval."""
    script, app = Script(*answers), App()
    agent: Agent[object, str] = Agent(
        script.model,
        name="support",
        capabilities=[
            InngestDurability(
                approvals=Approvals(requested=ASKED, decided=DECIDED, timeout=timeout)
            )
        ],
    )

    @agent.tool_plain(requires_approval=True)
    async def pay(euros: int) -> str:
        app.count["pay"] += 1
        return f"{euros} paid"

    agent.tool_plain(app.clock)

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    app.function(body)
    return agent, script, app


def decider(app: App, after: timedelta, **decision: Any) -> list[ApprovalRequest]:
    """A function that decides some time after it was asked."""
    requests: list[ApprovalRequest] = []

    async def decide(ctx: inngest.Context) -> None:
        request = ApprovalRequest.model_validate(ctx.event.data)
        if request not in requests:
            requests.append(request)
        await ctx.step.sleep("think", after)
        answer = ApprovalDecision(approval_id=request.approval_id, **decision)
        await ctx.step.send_event(
            "decide", inngest.Event(name=DECIDED, data=answer.model_dump(mode="json"))
        )

    app.function(decide, event=ASKED)
    return requests


async def run(app: App) -> Any:
    """Run the agent's function and let the others end."""
    async with app.engine() as engine:
        result = await engine.run(inngest.Event(name="go"), function="body")
        await engine.settle()
        return result


async def test_an_approval_after_three_days() -> None:
    """Nothing runs meanwhile, and nothing runs twice."""
    _, script, app = approving(timedelta(days=7), calls(("pay", {"euros": 5}), "clock"), returned)
    requests = decider(app, timedelta(days=3), approved=True)
    result = await run(app)
    assert completed(result) == "pay=5 paid; clock=12"
    assert dict(app.count) == {"pay": 1, "clock": 1}
    assert script.asked == 2
    (request,) = requests
    assert (request.agent, request.tool, request.args) == ("support", "pay", {"euros": 5})
    wait = result.steps["support__approval:pay"]
    assert wait.op == "WaitForEvent"
    assert wait.ended_at - wait.started_at >= 3 * 24 * 3600


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        ({"approved": False}, "pay=The tool call was denied."),
        ({"approved": False, "message": "too much"}, "pay=too much"),
        ({"approved": True, "args": {"euros": 3}}, "pay=3 paid"),
    ],
)
async def test_decisions(decision: dict[str, Any], output: str) -> None:
    """A call can be denied, with words for the model, and made with other arguments."""
    _, _, app = approving(timedelta(days=7), calls(("pay", {"euros": 5})), returned)
    decider(app, timedelta(minutes=1), **decision)
    assert completed(await run(app)) == output


async def test_nobody_decides() -> None:
    """The call is denied, the model told, and the run goes on."""
    _, _, app = approving(timedelta(days=2), calls(("pay", {"euros": 5})), returned)
    assert completed(await run(app)) == "pay=Nobody decided on this call within 2 days, 0:00:00."
    assert app.count["pay"] == 0


async def test_two_calls_wait_at_the_same_time() -> None:
    """Each has its own question and its own decision."""
    pays = calls(("pay", {"euros": 1}), ("pay", {"euros": 2}))
    _, _, app = approving(timedelta(days=7), pays, returned)
    requests = decider(app, timedelta(days=3), approved=True)
    result = await run(app)
    assert completed(result) == "pay=1 paid; pay=2 paid"
    assert sorted(request.args["euros"] for request in requests) == [1, 2]
    assert len({request.approval_id for request in requests}) == 2
    ends = [step.ended_at for step in result.steps.values() if step.op == "WaitForEvent"]
    assert max(ends) - min(ends) < 3600


async def test_a_decision_that_is_none_fails_the_run_and_names_the_place() -> None:
    """The values of the event are not repeated."""
    _, _, app = approving(timedelta(days=7), calls(("pay", {"euros": 5})), returned)

    async def decide(ctx: inngest.Context) -> None:
        data = {"approval_id": ctx.event.data["approval_id"], "approved": "s3cret"}
        await ctx.step.send_event("decide", inngest.Event(name=DECIDED, data=data))

    app.function(decide, event=ASKED)
    result = await run(app)
    assert result.status == "Failed"
    assert "is no ApprovalDecision: see approved" in failure(result)
    assert "s3cret" not in str(result.error)


def test_approvals_that_cannot_work() -> None:
    """They are refused where they are written."""
    with pytest.raises(AgentConfigError, match="give each event its own name"):
        Approvals(requested="a", decided="a", timeout=timedelta(1))
    with pytest.raises(AgentConfigError, match=r"Approvals\.timeout"):
        Approvals(requested="a", decided="b", timeout=timedelta(0))
    wrong: Any = 7
    with pytest.raises(AgentConfigError, match=r"Approvals\.timeout must be a timedelta"):
        Approvals(requested="a", decided="b", timeout=wrong)
    with pytest.raises(AgentConfigError, match=r"Approvals\.decided must be the name"):
        Approvals(requested="a", decided=wrong, timeout=timedelta(1))


# ---------------------------------------------------------------- Pydantic AI's own questions

ANSWERED = "support/answered"


def asking(ask: Any, timeout: timedelta | None = None) -> tuple[App, Script]:
    """An agent whose approvals go through Pydantic AI's `RequestInput`."""

    def last(messages: list[ModelMessage]) -> ModelResponse:
        content = messages[-1].parts[-1]
        return ModelResponse(parts=[TextPart(str(getattr(content, "content", "")))])

    script, app = Script(calls(("pay", {"euros": 5})), last), App()
    agent: Agent[object, str] = Agent(
        script.model,
        name="support",
        capabilities=[RequestInput(ask, timeout=timeout), InngestDurability(answers=ANSWERED)],
    )

    @agent.tool_plain(requires_approval=True)
    async def pay(euros: int) -> str:
        app.count["pay"] += 1
        return f"{euros} paid"

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    app.function(body)
    return app, script


async def test_request_input_that_answers_at_once() -> None:
    """The answer is stored, and no event is waited for."""
    asked: list[str] = []

    async def ask(
        ctx: RunContext[object], requests: DeferredToolRequests, token: str
    ) -> DeferredToolResults:
        asked.append(token)
        return requests.build_results(approve_all=True)

    app, script = asking(ask)
    result = await run(app)
    assert completed(result) == "5 paid"
    assert (len(asked), script.asked, app.count["pay"]) == (1, 2, 1)


@pytest.mark.parametrize("early", [True, False])
async def test_request_input_that_is_answered_by_an_event(*, early: bool) -> None:
    """The token belongs to the question; an answer that comes at once is not missed."""
    asked: list[tuple[str, str]] = []
    has_asked = asyncio.Event()
    app: App

    async def ask(ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None:
        asked.append((token, requests.approvals[0].tool_call_id))
        has_asked.set()
        if early:
            await answer(token, requests.approvals[0].tool_call_id)

    async def answer(token: str, call: str) -> None:
        payload = {"approvals": {call: True}}
        data = ExternalAnswer(token=token, payload=payload).model_dump(mode="json")
        await app.client.send(inngest.Event(name=ANSWERED, data=data))

    app, script = asking(ask, timedelta(days=1))
    async with app.engine() as engine:
        running = asyncio.create_task(engine.run(inngest.Event(name="go"), function="body"))
        if not early:
            await has_asked.wait()
            await answer(*asked[0])
        result = await running
    assert completed(result) == "5 paid"
    assert (len(asked), script.asked, app.count["pay"]) == (1, 2, 1)


async def test_request_input_without_an_answer_and_with_a_failure() -> None:
    """The call is denied, and the model told why."""

    async def ask(ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None:
        del token

    app, _ = asking(ask, timedelta(days=1))
    assert "No answer came within 1 day" in completed(await run(app))

    async def refuse(ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None:
        data = ExternalAnswer(token=token, failure="on holiday").model_dump(mode="json")
        await refused.client.send(inngest.Event(name=ANSWERED, data=data))

    refused, _ = asking(refuse, timedelta(days=1))
    assert "on holiday" in completed(await run(refused))


async def test_an_answer_that_is_none_fails_the_run_and_names_the_place() -> None:
    """Once, and the values of the event are not repeated."""

    async def ask(ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None:
        data: dict[str, Any] = {"token": token, "failure": {"why": "s3cret"}}
        await app.client.send(inngest.Event(name=ANSWERED, data=data))

    app, script = asking(ask, timedelta(days=1))
    result = await run(app)
    assert result.status == "Failed"
    assert "is no ExternalAnswer: see failure" in failure(result)
    assert "s3cret" not in str(result.error)
    assert script.asked == 1


async def test_questions_without_answers_are_refused() -> None:
    """`answers=` is what makes them possible; Pydantic AI says so by name."""

    async def ask(ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None: ...

    script, app = Script(calls("pay"), returned), App()
    agent: Agent[object, str] = Agent(
        script.model, name="support", capabilities=[RequestInput(ask), InngestDurability()]
    )

    @agent.tool_plain(requires_approval=True)
    async def pay() -> str:
        return "paid"

    async def body(ctx: inngest.Context) -> str:
        return (await agent.run("hi")).output

    result = await app.run(body, retries=0)
    assert result.status == "Failed"
    assert "Inngest does not support waiting for external events" in failure(result)
