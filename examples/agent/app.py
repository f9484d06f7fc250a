"""A support agent with three tools, one of which needs the approval of a colleague.

It asks OpenAI's model if `OPENAI_API_KEY` is set, and a scripted one if not.
"""

from __future__ import annotations

import os
from datetime import timedelta

import inngest
from pydantic_ai import Agent, ModelRetry

from inngest_plugins.agents import (
    ApprovalDecision,
    ApprovalRequest,
    Approvals,
    InngestDurability,
    StepConfig,
)

from .script import scripted

ORDERS: dict[str, dict[str, object]] = {
    "A-1042": {"item": "headphones", "euros": 79, "status": "arrived broken"}
}

client = inngest.Inngest(app_id="support", is_production=False)

agent: Agent[object, str] = Agent(
    "openai:gpt-5" if "OPENAI_API_KEY" in os.environ else scripted,
    name="support",
    instructions="You are the support of a shop. Be short.",
    capabilities=[
        InngestDurability(
            approvals=Approvals(
                requested="support/approval.requested",
                decided="support/approval.decided",
                timeout=timedelta(days=7),
            )
        )
    ],
)


@agent.tool_plain
async def look_up_order(order_id: str) -> dict[str, object]:
    """Look up what was ordered, and what became of it."""
    if order_id not in ORDERS:
        raise ModelRetry(f"There is no order {order_id}. Ask for the number.")
    return ORDERS[order_id]


@agent.tool_plain
async def refund_policy() -> str:
    """Read the shop's policy on refunds."""
    return "What arrives broken is refunded in full."


@agent.tool_plain(requires_approval=True, metadata={"inngest": StepConfig(retries=1)})
async def refund(order_id: str, euros: int) -> str:
    """Give a customer's money back."""
    return f"{euros} EUR for order {order_id} are on their way."


@client.create_function(
    fn_id="answer-question", trigger=inngest.TriggerEvent(event="support/question.asked")
)
async def answer_question(ctx: inngest.Context) -> str:
    """Answer a customer's question."""
    result = await agent.run(str(ctx.event.data["question"]))
    return result.output


@client.create_function(
    fn_id="desk", trigger=inngest.TriggerEvent(event="support/approval.requested")
)
async def desk(ctx: inngest.Context) -> None:
    """Stand in for the colleague, who comes back from a trip in three days and approves."""
    request = ApprovalRequest.model_validate(ctx.event.data)
    await ctx.step.sleep("be-away", timedelta(days=3))
    decision = ApprovalDecision(approval_id=request.approval_id, approved=True)
    await ctx.step.send_event(
        "decide",
        inngest.Event(name="support/approval.decided", data=decision.event_data()),
    )


functions = [answer_question, desk]
