"""Settings of the steps that an agent makes, for all of its tools or for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import inngest

from inngest_plugins.core import class_name

from ._errors import AgentConfigError

METADATA_KEY = "inngest"
"""Where a tool's metadata holds its settings: `metadata={"inngest": StepConfig(...)}`."""


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How a tool call, or a model request, becomes a step.

    Attributes:
        durable: False runs a tool in the function's body instead of in a step: again in each
            request. For tools that only compute, or that make steps of their own.
        retries: how often the step is tried again after a failure, from 0. The function's own
            `retries` is the upper bound, and the default. After the last attempt the run fails.
        invoke: an Inngest function that is invoked in place of the tool's body. The tool's
            arguments are its `event.data`, what it returns is the tool's result.
        timeout: how long to wait for the invoked function; None waits as long as it takes.

    Raises:
        AgentConfigError: settings that exclude each other, or are of the wrong kind.
    """

    durable: bool = True
    retries: int | None = None
    invoke: inngest.Function[Any] | None = None
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.durable, bool):
            raise AgentConfigError(_of_kind("durable", "True or False", self.durable))
        retries = self.retries
        if retries is not None and (type(retries) is not int or retries < 0):
            raise AgentConfigError(_of_kind("retries", "None or a number from 0", retries))
        if self.invoke is not None and not isinstance(self.invoke, inngest.Function):
            raise AgentConfigError(
                _of_kind("invoke", "what `client.create_function` returned", self.invoke)
            )
        if self.timeout is not None and not isinstance(self.timeout, timedelta):
            raise AgentConfigError(_of_kind("timeout", "a timedelta", self.timeout))
        if not self.durable and (self.retries is not None or self.invoke is not None):
            raise AgentConfigError(
                "StepConfig(durable=False) makes no step: `retries` and `invoke` have no effect "
                "there"
            )
        if self.invoke is not None and self.retries is not None:
            raise AgentConfigError(
                "StepConfig.retries has no effect beside `invoke`: set `retries` where the "
                "invoked function is created"
            )
        if self.timeout is not None and self.invoke is None:
            raise AgentConfigError(
                "StepConfig.timeout is for `invoke`: give a tool of your own a `timeout` where it "
                "is defined"
            )


_FIELDS = {field.name for field in dataclasses.fields(StepConfig)}


def config_of(
    metadata: Mapping[str, Any] | None, tool_name: str, default: StepConfig
) -> StepConfig:
    """Return a tool's settings.

    Args:
        metadata: the tool's metadata. Settings may stand there as a mapping too, which is what
            becomes of a `StepConfig` in the stored tool list of a dynamic toolset.
        tool_name: for the message.
        default: the settings of tools that have none of their own.

    Raises:
        AgentConfigError: the settings are of the wrong kind, or unknown.
    """
    if metadata is None or METADATA_KEY not in metadata:
        return default
    value = metadata[METADATA_KEY]
    if isinstance(value, StepConfig):
        return value
    if value is False:
        return StepConfig(durable=False)
    if not isinstance(value, Mapping):
        raise AgentConfigError(
            f"tool {tool_name!r}: metadata[{METADATA_KEY!r}] must be a StepConfig or False, and is "
            f"{class_name(value)}"
        )
    unknown = sorted(str(key) for key in value if key not in _FIELDS)
    if unknown:
        raise AgentConfigError(
            f"tool {tool_name!r}: metadata[{METADATA_KEY!r}] has unknown settings: "
            f"{', '.join(unknown)}. Known are: {', '.join(sorted(_FIELDS))}"
        )
    return StepConfig(**value)


def check_settings(option: str, settings: object) -> StepConfig:
    """Return the settings of all model requests, or of all tools.

    Raises:
        AgentConfigError: they are none, or have no effect there.
    """
    if settings is None:
        return StepConfig()
    if not isinstance(settings, StepConfig):
        raise AgentConfigError(
            f"InngestDurability({option}=...) must be a StepConfig, and is {class_name(settings)}"
        )
    if option == "model" and (not settings.durable or settings.invoke is not None):
        raise AgentConfigError(
            "InngestDurability(model=...): requests to the model are always steps of their own, "
            "`durable=False` and `invoke` are for tools"
        )
    return settings


def _of_kind(name: str, wanted: str, value: object) -> str:
    return f"StepConfig.{name} must be {wanted}, and is {class_name(value)}"
