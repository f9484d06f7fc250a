"""The agent that writes to customers: OpenAI's model with `OPENAI_API_KEY`, else a scripted one."""

from __future__ import annotations

import os

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from inngest_plugins.agents import InngestDurability


def _scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(
        parts=[TextPart("Thank you. Your tea is on its way.")],
        usage=RequestUsage(input_tokens=40, output_tokens=9),
        model_name="gpt-5",
        provider_name="openai",
    )


writer: Agent[None, str] = Agent(
    "openai:gpt-5"
    if "OPENAI_API_KEY" in os.environ
    else FunctionModel(_scripted, model_name="gpt-5"),
    name="writer",
    instructions="You write to the customers of a tea shop. Two short sentences.",
    capabilities=[InngestDurability()],
)
