"""The names in an agent's step ids. Stored runs hold them, so they never change."""

from __future__ import annotations

from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    DurableOperationId,
    EventStreamHandlerId,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)

from inngest_plugins.agents._errors import AgentConfigError
from inngest_plugins.core import class_name


def operation_name(operation: DurableOperationId, tool_name: str | None) -> str:
    """Return the part of a step's id that follows the agent's name.

    Args:
        operation: what the step does.
        tool_name: the name under which the model called the tool, for operations of one tool.

    Raises:
        AgentConfigError: a newer Pydantic AI has an operation that has no name here yet.
    """
    match operation:
        case ModelRequestId(model_id=model_id, streaming=streaming):
            return _of_model("request_stream" if streaming else "request", model_id)
        case ModelCompactMessagesId(model_id=model_id):
            return _of_model("compact_messages", model_id)
        case ModelCancelSuspendedResponseId(model_id=model_id):
            return _of_model("cancel_suspended_response", model_id)
        case ToolsetCallToolId():
            return f"tool:{tool_name}"
        case ToolsetValidateToolArgumentsId():
            return f"tool:{tool_name}.validate"
        case ToolsetGetToolsId(toolset_id=toolset_id):
            return f"toolset:{toolset_id}.get_tools"
        case ToolsetGetInstructionsId(toolset_id=toolset_id):
            return f"toolset:{toolset_id}.get_instructions"
        case EventStreamHandlerId():
            return "event"
        case CapabilityOperationId(capability_id=capability_id, operation=name):
            return f"capability:{capability_id}.{name}"
        case _:
            raise AgentConfigError(
                f"Pydantic AI has an operation that InngestDurability does not know: "
                f"{class_name(operation)}. Update inngest-plugins, or install an older "
                "pydantic-ai-slim"
            )


def _of_model(operation: str, model_id: str | None) -> str:
    return f"model.{operation}" if model_id is None else f"model.{operation}.{model_id}"
