"""An MCP server over stdio that notes every call in a file."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("notes", instructions="Use the notes.")


def note(word: str) -> None:
    """Write a line to the file that the tests read."""
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{word}\n")


@server.tool()
def shout(text: str) -> str:
    """Say it louder."""
    note(f"shout {text}")
    return text.upper()


if __name__ == "__main__":
    note("started")
    server.run("stdio")
