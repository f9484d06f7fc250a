"""The shape of each hook's function, for type checkers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

import inngest

from inngest_plugins.core.data.call import Call
from inngest_plugins.core.data.outcome import Outcome
from inngest_plugins.core.data.send import Send
from inngest_plugins.core.data.step import Answer, Step

ClientHook: TypeAlias = Callable[[inngest.Inngest], Awaitable[None] | None]
CallHook: TypeAlias = Callable[[Call], Awaitable[None] | None]
StepHook: TypeAlias = Callable[[Call, Step], Awaitable[None] | None]
AnswerHook: TypeAlias = Callable[[Call, Step], Awaitable[Answer | None] | Answer | None]
OutcomeHook: TypeAlias = Callable[[Call, Outcome], Awaitable[None] | None]
SendHook: TypeAlias = Callable[[Send], Awaitable[None] | None]
AroundStepHook: TypeAlias = Callable[
    [Call, Step], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
]

_ClientHookT = TypeVar("_ClientHookT", bound=ClientHook)
_CallHookT = TypeVar("_CallHookT", bound=CallHook)
_StepHookT = TypeVar("_StepHookT", bound=StepHook)
_AnswerHookT = TypeVar("_AnswerHookT", bound=AnswerHook)
_OutcomeHookT = TypeVar("_OutcomeHookT", bound=OutcomeHook)
_SendHookT = TypeVar("_SendHookT", bound=SendHook)
_AroundStepHookT = TypeVar("_AroundStepHookT", bound=AroundStepHook)


class DecoratesClientHook(Protocol):
    """The decorator of `on_register`; it returns the function unchanged."""

    def __call__(self, function: _ClientHookT, /) -> _ClientHookT:
        """Register the function."""
        ...


class DecoratesCallHook(Protocol):
    """The decorator of hooks that take the call alone; it returns the function unchanged."""

    def __call__(self, function: _CallHookT, /) -> _CallHookT:
        """Register the function."""
        ...


class DecoratesStepHook(Protocol):
    """The decorator of hooks that take a step; it returns the function unchanged."""

    def __call__(self, function: _StepHookT, /) -> _StepHookT:
        """Register the function."""
        ...


class DecoratesAnswerHook(Protocol):
    """The decorator of `answer_step`; it returns the function unchanged."""

    def __call__(self, function: _AnswerHookT, /) -> _AnswerHookT:
        """Register the function."""
        ...


class DecoratesOutcomeHook(Protocol):
    """The decorator of `transform_output`; it returns the function unchanged."""

    def __call__(self, function: _OutcomeHookT, /) -> _OutcomeHookT:
        """Register the function."""
        ...


class DecoratesSendHook(Protocol):
    """The decorator of the hooks of sends; it returns the function unchanged."""

    def __call__(self, function: _SendHookT, /) -> _SendHookT:
        """Register the function."""
        ...


class DecoratesAroundStepHook(Protocol):
    """The decorator of `around_step`; it returns the function unchanged."""

    def __call__(self, function: _AroundStepHookT, /) -> _AroundStepHookT:
        """Register the function."""
        ...
