"""Runs the shop's order through the embedded engine and draws what happened.

``python examples/shop/demo.py [--svg FILE] [--html FILE]``; any option of ``inngest-plugins run``
works.
"""

from __future__ import annotations

import pathlib
import sys

from inngest_plugins.cli import main

HERE = pathlib.Path(__file__).parent


def demo(*options: str) -> int:
    """Run the order and return the exit code of ``inngest-plugins run``."""
    return main(["run", str(HERE / "app.py"), "--event", f"@{HERE / 'order.json'}", *options])


if __name__ == "__main__":
    sys.exit(demo(*sys.argv[1:]))
