"""A provider of models that keeps a ledger of what it charged, for real clients to talk to."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2

URL = "https://api.openai.com/v1"


@dataclasses.dataclass
class Charged:
    """One call that the provider has charged."""

    input_tokens: int
    output_tokens: int
    cached: int
    reasoning: int


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream of events, one at a time."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


class Provider:
    """Answers chat, responses, embeddings and messages requests as the real APIs do.

    The numbers are made of a counter: no two calls use the same.
    """

    def __init__(self) -> None:
        self.ledger: list[Charged] = []
        self.fail_next = 0
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def transport(self) -> httpx2.MockTransport:
        """For either kind of HTTP client."""
        return httpx2.MockTransport(self.answer)

    @property
    def total(self) -> tuple[int, int, int, int]:
        """Calls, input, output and cached tokens."""
        return (
            len(self.ledger),
            sum(one.input_tokens for one in self.ledger),
            sum(one.output_tokens for one in self.ledger),
            sum(one.cached for one in self.ledger),
        )

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        with self._lock:
            if self.fail_next:
                self.fail_next -= 1
                return httpx2.Response(500, json={"error": {"message": "down"}})
            number = next(self._numbers)
            charged = Charged(1000 + number, 10 + number, number % 7 * 10, number % 3)
            self.ledger.append(charged)
        asked = json.loads(request.content)
        path = request.url.path.rpartition("/")[2]
        if ":" in path:
            asked["model"], _, method = path.partition(":")
            asked["stream"], path = method == "streamGenerateContent", "google"
        answer = getattr(self, f"_{path}")(f"r-{number}", asked, charged)
        if not isinstance(answer, list):
            return httpx2.Response(200, json=answer)
        parts = [f"data: {json.dumps(event)}\n\n".encode() for event in answer]
        if path not in ("messages", "google"):
            parts.append(b"data: [DONE]\n\n")
        elif path == "messages":
            parts = [
                f"event: {event['type']}\n".encode() + part
                for event, part in zip(answer, parts, strict=True)
            ]
        headers = {"content-type": "text/event-stream; charset=utf-8"}
        return httpx2.Response(200, headers=headers, stream=Body(parts))

    def _completions(self, name: str, asked: Any, charged: Charged) -> Any:
        usage = {
            "prompt_tokens": charged.input_tokens,
            "completion_tokens": charged.output_tokens,
            "total_tokens": charged.input_tokens + charged.output_tokens,
            "prompt_tokens_details": {"cached_tokens": charged.cached},
            "completion_tokens_details": {"reasoning_tokens": charged.reasoning},
        }
        common = {"id": name, "model": asked["model"], "created": 1}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": 'secret "usage"'}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            return {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
        delta = {"index": 0, "delta": {"content": 'secret "usage"'}, "finish_reason": None}
        chunk = {**common, "object": "chat.completion.chunk", "choices": [delta]}
        events: list[dict[str, Any]] = [chunk, chunk, chunk]
        if (asked.get("stream_options") or {}).get("include_usage"):
            events.append({**chunk, "choices": [], "usage": usage})
        return events

    def _responses(self, name: str, asked: Any, charged: Charged) -> Any:
        usage = {
            "input_tokens": charged.input_tokens,
            "input_tokens_details": {"cached_tokens": charged.cached},
            "output_tokens": charged.output_tokens,
            "output_tokens_details": {"reasoning_tokens": charged.reasoning},
            "total_tokens": charged.input_tokens + charged.output_tokens,
        }
        base = {
            "id": name,
            "object": "response",
            "created_at": 1,
            "model": asked["model"],
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        done = {**base, "status": "completed", "usage": usage}
        if not asked.get("stream"):
            return done
        return [
            {
                "type": "response.created",
                "sequence_number": 0,
                "response": {**base, "status": "in_progress", "usage": None},
            },
            {"type": "response.completed", "sequence_number": 1, "response": done},
        ]

    def _embeddings(self, name: str, asked: Any, charged: Charged) -> Any:
        charged.output_tokens = charged.cached = charged.reasoning = 0
        usage = {"prompt_tokens": charged.input_tokens, "total_tokens": charged.input_tokens}
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        return {"object": "list", "data": data, "model": asked["model"], "usage": usage}

    def _messages(self, name: str, asked: Any, charged: Charged) -> Any:
        """Anthropic's: its `input_tokens` lacks what is of the cache."""
        written = charged.cached // 2
        usage = {
            "input_tokens": charged.input_tokens - charged.cached,
            "cache_read_input_tokens": charged.cached - written,
            "cache_creation_input_tokens": written,
            "output_tokens": charged.output_tokens,
        }
        base = {"id": name, "type": "message", "role": "assistant", "model": asked["model"]}
        if not asked.get("stream"):
            return {**base, "content": [], "usage": usage}
        return [
            {"type": "message_start", "message": {**base, "usage": {**usage, "output_tokens": 1}}},
            {"type": "content_block_delta", "index": 0, "delta": {"text": "secret"}},
            {
                "type": "message_delta",
                "delta": {},
                "usage": {"output_tokens": charged.output_tokens},
            },
            {"type": "message_stop"},
        ]

    def _google(self, name: str, asked: Any, charged: Charged) -> Any:
        """Google's: its count of the answer lacks what is thought."""

        def answer(text: str, **usage: int) -> dict[str, Any]:
            candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
            common = {"responseId": name, "modelVersion": asked["model"]}
            return {**common, "candidates": [candidate], "usageMetadata": usage}

        told = {
            "promptTokenCount": charged.input_tokens,
            "cachedContentTokenCount": charged.cached,
            "candidatesTokenCount": charged.output_tokens - charged.reasoning,
            "thoughtsTokenCount": charged.reasoning,
            "totalTokenCount": charged.input_tokens + charged.output_tokens,
        }
        if not asked["stream"]:
            return answer("secret", **told)
        first = answer("sec", promptTokenCount=charged.input_tokens)
        return [first, answer("ret", **told)]
