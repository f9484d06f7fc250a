"""The errors of durable agents."""

from __future__ import annotations

import inngest
from pydantic_ai.exceptions import UserError

from inngest_plugins.core import PluginsError


class AgentsError(PluginsError):
    """Base of everything that this package raises."""


class AgentConfigError(AgentsError, UserError):
    """An agent or a tool has settings that cannot work, or that have no effect."""


class AgentContextError(AgentsError, inngest.NonRetriableError):
    """A durable agent runs where it cannot be durable: in a sync Inngest function."""


class StepValueError(AgentsError, inngest.NonRetriableError):
    """A tool, a model or a handler gave a value that a step cannot store, as it is no JSON."""
