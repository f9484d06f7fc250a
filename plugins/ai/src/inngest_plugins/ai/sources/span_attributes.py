"""Reads model calls from the attributes of OpenTelemetry spans.

Formats: OpenTelemetry's semantic conventions for generative AI (`gen_ai.*`, of 1.37 and later and
those before), OpenInference's (`llm.*`), and the names that OpenLLMetry and Pydantic AI add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inngest_plugins.ai.calls.model_call import is_count
from inngest_plugins.core import ModelCall

_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
)
_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "llm.token_count.prompt_details.cache_read",
)
_WRITTEN = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "llm.token_count.prompt_details.cache_write",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)
_MODEL = ("gen_ai.request.model", "llm.model_name", "embedding.model_name")
_ANSWERED = ("gen_ai.response.model",)
_PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")

_CALLS = frozenset({"chat", "text_completion", "generate_content", "embeddings", "completion"})
_SUMMARIES = frozenset({"invoke_agent", "create_agent", "execute_tool", "invoke_workflow"})
_KINDS = {"LLM": "chat", "EMBEDDING": "embeddings"}


def is_summary(attributes: Mapping[str, Any]) -> bool:
    """Return whether a span is of an agent, a tool or a chain, and not of one model call."""
    if attributes.get("gen_ai.operation.name") in _SUMMARIES:
        return True
    kind = attributes.get("openinference.span.kind")
    return kind is not None and kind not in _KINDS


def read_span(attributes: Mapping[str, Any]) -> ModelCall | None:
    """Return the model call of a span, or None."""
    asked, answered = _count(attributes, _INPUT), _count(attributes, _OUTPUT)
    operation = attributes.get("gen_ai.operation.name")
    if not isinstance(operation, str):
        operation = _KINDS.get(str(attributes.get("openinference.span.kind")), "")
    if asked is None and answered is None and operation not in _CALLS:
        return None
    if operation == "embeddings" and asked is not None and answered is None:
        answered = 0
    read, written = _count(attributes, _READ) or 0, _count(attributes, _WRITTEN) or 0
    if asked is not None and read + written > asked:
        # An instrumentation that copies Anthropic's count, which lacks the cache's part.
        asked += read + written
    response_model = _name(attributes, _ANSWERED)
    return ModelCall(
        model=_name(attributes, _MODEL) or response_model or "unknown",
        input_tokens=asked,
        output_tokens=answered,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_count(attributes, _REASONING) or 0,
        provider=_name(attributes, _PROVIDER),
        response_model=response_model,
        response_id=_name(attributes, ("gen_ai.response.id",)),
        operation=operation or "chat",
    )


def _count(attributes: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = attributes.get(name)
        if is_count(value):
            return value
    return None


def _name(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return None
