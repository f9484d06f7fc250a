"""A model without a provider: it answers the example's question the way a real one would."""

from __future__ import annotations

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

ORDER = "A-1042"


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Look at the order and the policy at once, then refund, then tell the customer."""
    results = [
        part
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    match len(results):
        case 0:
            look_up = ToolCallPart("look_up_order", {"order_id": ORDER})
            return ModelResponse(parts=[look_up, ToolCallPart("refund_policy", {})])
        case 2:
            refund = ToolCallPart("refund", {"order_id": ORDER, "euros": 79})
            return ModelResponse(parts=[refund])
        case _:
            return ModelResponse(parts=[TextPart(f"I am sorry! {results[-1].content}")])


scripted = FunctionModel(answer, model_name="scripted")
