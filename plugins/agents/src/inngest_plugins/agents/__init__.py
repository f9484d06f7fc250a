"""Durable Pydantic AI agents: each model request and each tool call is a step of the run."""

from . import _extra as _extra
from ._config import StepConfig
from ._durability import InngestDurability
from ._errors import AgentConfigError, AgentContextError, AgentsError, StepValueError
from .events.approvals import ApprovalDecision, ApprovalRequest, Approvals
from .events.external import ExternalAnswer

__all__ = [
    "AgentConfigError",
    "AgentContextError",
    "AgentsError",
    "ApprovalDecision",
    "ApprovalRequest",
    "Approvals",
    "ExternalAnswer",
    "InngestDurability",
    "StepConfig",
    "StepValueError",
]
