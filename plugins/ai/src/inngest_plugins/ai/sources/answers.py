"""Reads token counts from the answers of OpenAI, Anthropic and Google, with one meaning for all.

| source | its input | its output |
|---|---|---|
| OpenAI chat (`prompt_tokens`, `completion_tokens`) | with cache | with reasoning |
| OpenAI responses (`input_tokens`, `input_tokens_details`) | with cache | with reasoning |
| Anthropic (`input_tokens`, `cache_read_input_tokens`, ...) | without cache | with thinking |
| Google (`promptTokenCount`, `candidatesTokenCount`) | with cache | without thoughts |

Formats: the providers' API references. Only names and counts are read, never a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from inngest_plugins.ai.calls.model_call import is_count
from inngest_plugins.core import ModelCall

Json: TypeAlias = Mapping[str, Any]

_HOSTS = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "google"),
    ("aiplatform.googleapis.com", "google"),
    ("api.mistral.ai", "mistral"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x-ai"),
    ("openrouter.ai", "openrouter"),
)


def provider_of(host: str) -> str | None:
    """Return the provider behind a host's name, or None."""
    return next((name for end, name in _HOSTS if host == end or host.endswith(f".{end}")), None)


class Report:
    """Collects what an answer, or the events of a stream, say of one call.

    Attributes:
        provider: the provider, where the host's name says so.
        answered: whether anything looked like a model's answer.
    """

    def __init__(self, provider: str | None = None) -> None:
        self.provider = provider
        self.answered = False
        self._model: str | None = None
        self._id: str | None = None
        self._usage: dict[str, Any] = {}
        self._is_anthropic = False
        self._is_partial = False

    def take(self, event: object) -> None:
        """Take an answer, or an event of a stream, as decoded JSON."""
        if not isinstance(event, Mapping):
            return
        body: Json = event  # pyright: ignore[reportUnknownVariableType]
        self._is_anthropic = self._is_anthropic or body.get("type") in ("message", "message_start")
        for part in (body, body.get("message"), body.get("response")):
            if isinstance(part, Mapping):
                self._take_part(part)  # pyright: ignore[reportUnknownArgumentType]
        if body.get("type") == "message_start":
            # In this event of Anthropic the count of output tokens is of the first token only.
            self._is_partial = True
        elif body.get("type") == "message_delta":
            self._is_partial = False

    def _take_part(self, part: Json) -> None:
        model = part.get("model") or part.get("modelVersion")
        if isinstance(model, str):
            self._model, self.answered = model, True
        response_id = part.get("id") or part.get("responseId")
        if isinstance(response_id, str) and self._id is None:
            self._id = response_id
        for name in ("usage", "usageMetadata"):
            usage = part.get(name)
            if isinstance(usage, Mapping):
                self.answered = True
                known: Json = usage  # pyright: ignore[reportUnknownVariableType]
                self._usage.update(
                    {key: value for key, value in known.items() if value is not None}
                )

    def call(self, asked: str | None = None) -> ModelCall | None:
        """Return the call; None when nothing looked like a model's answer.

        Args:
            asked: the requested model, where it is known.
        """
        if not self.answered:
            return None
        return ModelCall(
            model=asked or self._model or "unknown",
            provider=self.provider or ("anthropic" if self._is_anthropic else None),
            response_model=self._model,
            response_id=self._id,
            **self._tokens(),
        )

    def _tokens(self) -> dict[str, Any]:
        usage = self._usage
        if "promptTokenCount" in usage:
            return _google(usage)
        if "prompt_tokens" in usage:
            return _openai(usage, "prompt_tokens", "completion_tokens")
        written, read = "cache_creation_input_tokens", "cache_read_input_tokens"
        if self._is_anthropic or written in usage or read in usage:
            fresh = _count(usage, "input_tokens")
            cached = {"write": _count(usage, written) or 0, "read": _count(usage, read) or 0}
            return {
                "input_tokens": None if fresh is None else fresh + sum(cached.values()),
                "output_tokens": None if self._is_partial else _count(usage, "output_tokens"),
                "cache_read_tokens": cached["read"],
                "cache_write_tokens": cached["write"],
            }
        return _openai(usage, "input_tokens", "output_tokens")


def _openai(usage: Json, asked: str, answered: str) -> dict[str, Any]:
    inside, outside = usage.get(f"{asked}_details"), usage.get(f"{answered}_details")
    output = _count(usage, answered)
    if output is None and "total_tokens" in usage and answered == "completion_tokens":
        # Embeddings have no output.
        output = 0
    return {
        "input_tokens": _count(usage, asked),
        "output_tokens": output,
        "cache_read_tokens": _count(inside, "cached_tokens") or 0,
        "reasoning_tokens": _count(outside, "reasoning_tokens") or 0,
    }


def _google(usage: Json) -> dict[str, Any]:
    thoughts = _count(usage, "thoughtsTokenCount") or 0
    answered = _count(usage, "candidatesTokenCount")
    tools = _count(usage, "toolUsePromptTokenCount") or 0
    asked = _count(usage, "promptTokenCount")
    return {
        "input_tokens": None if asked is None else asked + tools,
        "output_tokens": None if answered is None and not thoughts else (answered or 0) + thoughts,
        "cache_read_tokens": _count(usage, "cachedContentTokenCount") or 0,
        "reasoning_tokens": thoughts,
    }


def _count(values: object, name: str) -> int | None:
    if not isinstance(values, Mapping):
        return None
    known: Json = values  # pyright: ignore[reportUnknownVariableType]
    value = known.get(name)
    return value if is_count(value) else None
