"""Tools of an MCP server over stdio: listing them and calling one are steps."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import inngest
import pytest
from fastmcp.client.transports import StdioTransport
from pydantic import TypeAdapter
from pydantic_ai import Agent, FunctionToolset, RunContext, ToolDefinition
from pydantic_ai.durable_exec import ToolsetCallToolId
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.toolsets import DynamicToolset, ToolsetTool
from tests.agents.agents_app import App, Script, calls, completed, failure, returned

from inngest_plugins.agents import AgentConfigError, InngestDurability, StepConfig
from inngest_plugins.agents.steps.backend import StepBackend

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).with_name("mcp_server.py")


def notes(path: Path) -> MCPToolset[object]:
    """The server's tools."""
    transport = StdioTransport(sys.executable, [str(SERVER), str(path)], keep_alive=False)
    # A busy machine needs longer than the default of 5 seconds to start a process.
    return MCPToolset(transport, id="notes", include_instructions=True, init_timeout=60)


async def test_mcp_over_stdio(tmp_path: Path) -> None:
    """Each call reaches the server once; a request that only replays does not start it."""
    log = tmp_path / "log"
    script = Script(calls(("shout", {"text": "a"}), ("shout", {"text": "b"})), returned)
    agent: Agent[object, str] = Agent(
        script.model, name="support", toolsets=[notes(log)], capabilities=[InngestDurability()]
    )

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await App().run(body)
    assert completed(run) == "shout=A; shout=B"
    assert script.asked == 2
    lines = log.read_text().splitlines()
    assert sorted(line for line in lines if line != "started") == ["shout a", "shout b"]
    assert list(run.steps)[:3] == [
        "support__toolset:notes.get_tools",
        "support__toolset:notes.get_instructions",
        "support__model.request",
    ]
    assert {"support__tool:shout", "support__tool:shout:1"} <= set(run.steps)
    # At most one process for each step that asks the server, none for requests that only replay.
    asks = [name for name in run.steps if "toolset" in name or "tool:" in name]
    assert 1 <= lines.count("started") <= len(asks) < len(run.requests)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("mcp", {"durable": False}, "is a tool of an MCP server, which cannot run in the body"),
        ("mcp", {"invoke": True}, "`invoke` is for function tools, .* a tool of an MCP server"),
        ("dynamic", {"invoke": True}, "`invoke` is for function tools, .* of a dynamic toolset"),
    ],
)
def test_settings_that_a_kind_of_tool_cannot_have(
    kind: Any, config: dict[str, Any], message: str
) -> None:
    """They are refused by name, and not ignored."""

    async def function(ctx: inngest.Context) -> None: ...

    if "invoke" in config:
        config = {"invoke": App().function(function)}
    backend = StepBackend(
        agent_name="support", model=StepConfig(), tools=StepConfig(), client_retries=False
    )
    definition = ToolDefinition(name="shout", metadata={"inngest": StepConfig(**config)})
    tool: ToolsetTool[object] = ToolsetTool(
        toolset=FunctionToolset(),
        tool_def=definition,
        max_retries=0,
        args_validator=TypeAdapter(dict[str, Any]).validator,  # type: ignore[arg-type]
    )
    operation: Any = SimpleNamespace(
        operation_id=ToolsetCallToolId(kind, toolset_id="notes"), config_role="tool"
    )
    with pytest.raises(AgentConfigError, match=f"tool 'shout'.*{message}"):
        backend.config_for_tool(operation, tool=tool, tool_name="shout")


async def test_a_dynamic_toolset() -> None:
    """Its list of tools is a step; the settings of its tools come through it."""
    app = App()

    def toolset(ctx: RunContext[object]) -> FunctionToolset[object]:
        inner: FunctionToolset[object] = FunctionToolset()

        @inner.tool_plain(metadata={"inngest": StepConfig(retries=1)})
        async def shaky() -> str:
            app.count["shaky"] += 1
            raise OSError("no line")

        inner.tool_plain(app.clock)

        return inner

    script = Script(calls("clock"), calls("shaky"))
    agent: Agent[object, str] = Agent(
        script.model,
        name="support",
        toolsets=[DynamicToolset(toolset, id="late")],
        capabilities=[InngestDurability()],
    )

    async def body(ctx: inngest.Context) -> Any:
        return (await agent.run("hi")).output

    run = await app.run(body, retries=3)
    assert "OSError" in failure(run)
    assert dict(app.count) == {"clock": 1, "shaky": 2}
    assert next(iter(run.steps)) == "support__toolset:late.get_tools"
