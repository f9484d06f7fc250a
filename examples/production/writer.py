"""The agent that writes to customers: OpenAI's model with `OPENAI_API_KEY`, else a scripted one."""

from __future__ import annotations

import os

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from inngest_plugins.agents import InngestDurability
from inngest_plugins.ai import usage


def _scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    usage.record(model="gpt-5", provider="openai", input_tokens=40, output_tokens=9)
    return ModelResponse(parts=[TextPart("Thank you. Your tea is on its way.")])


writer: Agent[None, str] = Agent(
    "openai:gpt-5" if "OPENAI_API_KEY" in os.environ else FunctionModel(_scripted),
    name="writer",
    instructions="You write to the customers of a tea shop. Two short sentences.",
    capabilities=[InngestDurability()],
)
