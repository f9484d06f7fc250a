"""A function that answers, and one that judges the answer when it is out.

Without a server, from this folder:

    inngest-plugins run app.py --event @event.json
"""

from __future__ import annotations

import inngest
import pydantic

from inngest_plugins.defer import DeferPlugin, defer, deferred_function

client = inngest.Inngest(app_id="support", is_production=False, middleware=[DeferPlugin()])


class Verdict(pydantic.BaseModel):
    """What is judged."""

    question: str
    answer: str


judge = deferred_function(client, fn_id="judge", schema=Verdict)


@judge
async def judge_answer(ctx: inngest.Context, verdict: Verdict) -> int:
    """Score an answer; whoever asked does not wait for it."""

    async def score() -> int:
        return 10 if verdict.answer.endswith(".") else 3

    return await ctx.step.run("score", score)


@client.create_function(fn_id="reply", trigger=inngest.TriggerEvent(event="support/asked"))
async def reply(ctx: inngest.Context) -> str:
    """Answer a question."""
    question = str(ctx.event.data["question"])

    async def write() -> str:
        return "It is on its way."

    answer = await ctx.step.run("write", write)
    deferral = defer("quality", judge, Verdict(question=question, answer=answer))
    if not question.endswith("?"):
        deferral.abort()
    return answer


functions = [reply, judge_answer]
