"""Errors of an agent: which of them the engine retries, and which end the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import inngest
from pydantic.errors import PydanticUserError
from pydantic_ai.durable_exec import ResultCodec
from pydantic_ai.exceptions import (
    ModelHTTPError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_core import PydanticSerializationError

from inngest_plugins.agents._config import StepConfig
from inngest_plugins.agents._errors import StepValueError
from inngest_plugins.core import Call, class_name, safe_text

_FINAL_ERRORS = (UserError, PydanticUserError, UnexpectedModelBehavior)
"""Errors that would come again at each attempt. Pydantic AI's other engines do not retry them."""

_ENGINE_ERRORS = (inngest.NonRetriableError, inngest.RetryAfterError)


@contextlib.contextmanager
def as_step_errors(call: Call, config: StepConfig, step_id: str) -> Iterator[None]:
    """Raise errors of a step as the ones that the engine does not retry, or not yet.

    Args:
        call: the request.
        config: the step's settings.
        step_id: for the message.

    Raises:
        inngest.NonRetriableError: the error is final, or the step's retries are used up.
        inngest.RetryAfterError: the model's provider said when to come back.
    """
    try:
        yield
    except _ENGINE_ERRORS:
        raise
    except _FINAL_ERRORS as err:
        raise inngest.NonRetriableError(_message(step_id, err)) from err
    except Exception as err:
        if config.retries is not None and call.attempt >= config.retries:
            raise inngest.NonRetriableError(_message(step_id, err)) from err
        seconds = _retry_after(err)
        if seconds is not None:
            raise inngest.RetryAfterError(
                _message(step_id, err), timedelta(seconds=seconds)
            ) from err
        raise


@contextlib.contextmanager
def as_run_errors() -> Iterator[None]:
    """Raise errors of an agent in a function's body as ones that the engine does not retry.

    The agent's loop replays from stored results, so each attempt would end in the same error. Code
    that catches the error gets it with its own class.
    """
    try:
        yield
    except (*_FINAL_ERRORS, UsageLimitExceeded) as err:
        if isinstance(err, inngest.NonRetriableError):
            raise
        raise _final(err) from err.__cause__


def _final(error: Exception) -> Exception:
    """Return the same error as one that the engine does not retry."""
    kind: Any = type(error)
    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        # Both classes define `message`; here it is the error's text.
        "message": str(error),
    }
    made: Any = type(kind.__name__, (kind, inngest.NonRetriableError), names)
    final: Exception = made.__new__(made, *error.args)
    final.__dict__.update(error.__dict__)
    return final.with_traceback(error.__traceback__)


def encoded(codec: ResultCodec[Any], result: object, step_id: str) -> object:
    """Return a step's result as JSON.

    Raises:
        StepValueError: it holds something that is no JSON.
    """
    try:
        return codec.dump(result)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as err:
        raise no_json(f"the result of step {step_id!r}", result, err) from err


def no_json(what: str, value: object, error: Exception) -> StepValueError:
    """Return the error for a value that a step cannot store.

    Args:
        what: names the value and its place.
        value: only its type is named.
        error: what the serialiser raised; it names the type that it met.
    """
    inner = getattr(value, "result", value)
    return StepValueError(
        f"{what} is {class_name(inner)}, which cannot be stored as JSON: {safe_text(error)}. "
        "Return JSON values, dataclasses or Pydantic models, or run the tool in the "
        'function\'s body with metadata={"inngest": StepConfig(durable=False)}'
    )


def _message(step_id: str, error: Exception) -> str:
    return f"step {step_id!r}: {class_name(error)}: {safe_text(error)}"


def _retry_after(error: Exception) -> int | None:
    """Return the seconds of the provider's `Retry-After`, or None."""
    if not isinstance(error, ModelHTTPError):
        return None
    value = (getattr(error, "headers", None) or {}).get("retry-after", "")
    # A longer delay would overflow a date.
    return min(int(value[:9]), 86_400 * 365) if value.isdecimal() else None
