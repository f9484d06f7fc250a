"""What becomes of an error in an agent's step: another attempt, or the end of the run."""

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

_FOR_GOOD = (UserError, PydanticUserError, UnexpectedModelBehavior)
"""Errors that another attempt would meet again: the same that other engines do not retry."""

_OF_THE_ENGINE = (inngest.NonRetriableError, inngest.RetryAfterError)


@contextlib.contextmanager
def as_step_errors(call: Call, config: StepConfig, step_id: str) -> Iterator[None]:
    """Tell the engine which errors it should not try again, or not yet.

    Args:
        call: the request.
        config: the step's settings.
        step_id: for the message.

    Raises:
        inngest.NonRetriableError: the error is one for good, or the step's retries are used up.
        inngest.RetryAfterError: the model's provider said when to come back.
    """
    try:
        yield
    except _OF_THE_ENGINE:
        raise
    except _FOR_GOOD as err:
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
    """Tell the engine which errors of an agent, in the body of a function, it should not try again.

    The loop replays from stored results, so another attempt would meet them again. They stay what
    they are for code that catches them.
    """
    try:
        yield
    except (*_FOR_GOOD, UsageLimitExceeded) as err:
        if isinstance(err, inngest.NonRetriableError):
            raise
        raise _final(err) from err.__cause__


def _final(error: Exception) -> Exception:
    """Return the same error as one that the engine does not try again."""
    kind: Any = type(error)
    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        # Pydantic AI's text is an attribute, and the SDK's attribute is the text.
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
    """Return the seconds that a provider asks to wait, if it says so."""
    if not isinstance(error, ModelHTTPError):
        return None
    value = (getattr(error, "headers", None) or {}).get("retry-after", "")
    return int(value) if value.isdecimal() else None
