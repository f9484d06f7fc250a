"""Approvals of tool calls: an event asks for a decision, and the run waits for its event."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import inngest
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import DeferredToolRequests, ToolApproved, ToolDenied

from inngest_plugins.agents._errors import AgentConfigError
from inngest_plugins.agents.steps.ids import AgentRun
from inngest_plugins.agents.steps.scheduler import scheduler_of
from inngest_plugins.core import Call

from .data import EventData, read_event


class ApprovalRequest(EventData):
    """Data of the event that asks for a decision.

    Attributes:
        approval_id: the id that the decision must repeat.
        agent: the agent's name.
        tool: the tool that the model wants to call.
        args: the arguments.
        metadata: what the tool gave to `ApprovalRequired(metadata=...)`.
    """

    readable = frozenset({"approval_id", "agent", "tool"})

    approval_id: str
    agent: str
    tool: str
    args: dict[str, Any]
    metadata: dict[str, Any] | None = None


class ApprovalDecision(EventData):
    """Data of the event that decides.

    Attributes:
        approval_id: from the request.
        approved: whether the tool may be called.
        message: for the model, when the tool may not be called.
        args: arguments to call the tool with in place of the model's.
    """

    readable = frozenset({"approval_id"})

    approval_id: str
    approved: bool
    message: str | None = None
    args: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Approvals:
    """How tool calls that need an approval get it, while the run waits and costs nothing.

    Attributes:
        requested: name of the event that asks, with an `ApprovalRequest` as its data.
        decided: name of the event that decides, with an `ApprovalDecision` as its data.
        timeout: how long to wait. A call on which nobody decides is denied, and the model gets a
            message that says so.

    Raises:
        AgentConfigError: the two events have the same name or none, or the timeout is no positive
            `timedelta`.
    """

    requested: str
    decided: str
    timeout: timedelta

    def __post_init__(self) -> None:
        for field in ("requested", "decided"):
            name: object = getattr(self, field)
            if not isinstance(name, str) or not name:
                raise AgentConfigError(f"Approvals.{field} must be the name of an event")
        if self.requested == self.decided:
            raise AgentConfigError(
                f"Approvals: {self.requested!r} asks and decides: give each event its own name"
            )
        timeout: object = self.timeout
        if not isinstance(timeout, timedelta) or timeout <= timedelta(0):
            raise AgentConfigError("Approvals.timeout must be a timedelta of more than nothing")


async def decide(
    call: Call, run: AgentRun, agent: str, requests: DeferredToolRequests, approvals: Approvals
) -> dict[str, ToolApproved | ToolDenied]:
    """Ask for decisions on tool calls, and wait for them.

    Args:
        call: the request.
        run: the agent run, which gives the steps their ids.
        agent: the agent's name.
        requests: the calls.
        approvals: how to ask.

    Returns:
        The decisions, by the id of the tool call.
    """
    decisions = await asyncio.gather(
        *(
            _decision(call, run, agent, part, requests.metadata.get(part.tool_call_id), approvals)
            for part in requests.approvals
        )
    )
    ids = (part.tool_call_id for part in requests.approvals)
    return dict(zip(ids, decisions, strict=True))


async def _decision(
    call: Call,
    run: AgentRun,
    agent: str,
    part: ToolCallPart,
    metadata: dict[str, Any] | None,
    approvals: Approvals,
) -> ToolApproved | ToolDenied:
    ctx = call.ctx
    assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
    step = ctx.step
    ask_id = run.step_id(f"approval:{part.tool_name}.request")
    wait_id = run.step_id(f"approval:{part.tool_name}")
    request = ApprovalRequest(
        # The id stands in an expression of the engine, so nothing that a model chose may be in it.
        approval_id=f"{call.run_id}:{hashlib.sha256(wait_id.encode()).hexdigest()[:16]}",
        agent=agent,
        tool=part.tool_name,
        args=part.args_as_dict(),
        metadata=metadata,
    )
    data = request.event_data(secret=call.stack.secret_payloads)
    asking = inngest.Event(name=approvals.requested, data=data)
    place = f"async.data.approval_id == '{request.approval_id}'"
    # Wait and question leave together, so that no decision is too early.
    _, event = await asyncio.gather(
        scheduler_of(call).run(ask_id, lambda: step.send_event(ask_id, asking)),
        scheduler_of(call).run(
            wait_id,
            lambda: step.wait_for_event(
                wait_id, event=approvals.decided, if_exp=place, timeout=approvals.timeout
            ),
        ),
    )
    return _outcome(event, part.tool_name, approvals)


def _outcome(
    event: inngest.Event | None, tool: str, approvals: Approvals
) -> ToolApproved | ToolDenied:
    if event is None:
        return ToolDenied(f"Nobody decided on this call within {approvals.timeout}.")
    decision = read_event(ApprovalDecision, event, f"decides on tool {tool!r}")
    if decision.approved:
        return ToolApproved(override_args=decision.args)
    return ToolDenied() if decision.message is None else ToolDenied(decision.message)
