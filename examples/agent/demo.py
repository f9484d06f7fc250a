"""Runs the support agent on the embedded engine and draws what happened.

`python examples/agent/demo.py`; any option of `inngest-plugins run` works.
"""

from __future__ import annotations

import os
import pathlib
import sys

from inngest_plugins.cli import main

HERE = pathlib.Path(__file__).parent


def demo(*options: str) -> int:
    """Ask the question and return the exit code of `inngest-plugins run`."""
    # Pydantic AI's banner would stand in the middle of the progress.
    os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")
    return main(["run", str(HERE / "app.py"), "--event", f"@{HERE / 'question.json'}", *options])


if __name__ == "__main__":
    sys.exit(demo(*sys.argv[1:]))
