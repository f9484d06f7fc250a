"""Reports the model calls of agents to a plugin that counts them, such as `AIPlugin`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from inngest_plugins.core import USAGE_RECORDER, Call, ModelCall, UsageRecorder

_answers: ContextVar[list[ModelResponse] | None] = ContextVar(
    "inngest_plugins_agents_answers", default=None
)


@contextlib.contextmanager
def recorded_answers() -> Iterator[list[ModelResponse]]:
    """Collect the answers that models have recorded themselves while the block ran."""
    answers: list[ModelResponse] = []
    token = _answers.set(answers)
    try:
        yield answers
    finally:
        _answers.reset(token)


def recording_model(model: Model) -> Model | None:
    """Return a model that reports its answers to the plugin that counts, None without one.

    Args:
        model: the model to wrap.
    """
    call = Call.current()
    recorder = None if call is None or call.step is None else call.get(USAGE_RECORDER)
    return None if recorder is None else _RecordingModel(model, recorder)


def record(call: Call, response: object) -> None:
    """Count an answer in the step that requested it."""
    recorder = call.get(USAGE_RECORDER)
    if recorder is not None and isinstance(response, ModelResponse):
        for counted in _calls(response, response.model_name):
            recorder.record(counted)


def mark_recorded(call: Call, response: ModelResponse, asked: str) -> None:
    """Report to the body that a step has counted an answer, so that it counts once."""
    recorder = call.get(USAGE_RECORDER)
    if recorder is not None:
        for counted in _calls(response, asked):
            recorder.recorded(counted)


class _RecordingModel(WrapperModel):
    """Reports each answer as soon as it arrives, and each stream when it ends."""

    def __init__(self, wrapped: Model, recorder: UsageRecorder) -> None:
        super().__init__(wrapped)
        self._recorder = recorder

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        self._record(response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        stream: StreamedResponse | None = None
        try:
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
        finally:
            # Read after the close, which may fill in figures. A broken stream may have none.
            if stream is not None:
                with contextlib.suppress(Exception):
                    self._record(stream.get())

    def _record(self, response: ModelResponse) -> None:
        answers = _answers.get()
        if answers is not None:
            answers.append(response)
        for call in _calls(response, self.wrapped.model_name):
            self._recorder.record(call)


def _calls(response: ModelResponse, asked: str | None) -> Iterator[ModelCall]:
    """Return the calls behind an answer, with those that a `FallbackModel` gave up on."""
    for attempt in response.failed_attempts or ():
        if attempt.usage is not None:
            yield _call(attempt.usage, model=attempt.model_name, provider=attempt.provider_name)
    if response.state == "suspended" and not response.usage.has_values():
        # The provider is still working on it: the answer will have the figures.
        return
    model = response.model_name or asked or "unknown"
    yield _call(
        response.usage,
        model=asked if asked and not response.failed_attempts else model,
        response_model=response.model_name,
        provider=response.provider_name,
        response_id=response.provider_response_id,
    )


def _call(usage: RequestUsage, **names: Any) -> ModelCall:
    is_known = bool(usage.input_tokens or usage.output_tokens)
    return ModelCall(
        input_tokens=usage.input_tokens if is_known else None,
        output_tokens=usage.output_tokens if is_known else None,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.output_reasoning_tokens,
        **names,
    )
